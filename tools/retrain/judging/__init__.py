"""Whether a model is better than another."""
