"""The labelling page with a million samples and twenty people."""
