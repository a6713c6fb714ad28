"""What is kept of the flagged images, and what gives way."""
