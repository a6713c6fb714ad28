"""Edge or cloud: the same images to both."""
