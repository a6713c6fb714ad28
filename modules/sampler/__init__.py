"""The edge module that keeps flagged images, uploads them when online, and loses none."""
