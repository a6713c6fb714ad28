"""What the container holds, as the labelling page remembers it."""
