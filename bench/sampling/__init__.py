"""What the sampler is for: accuracy against the number of labels, with its choice of images and without."""
