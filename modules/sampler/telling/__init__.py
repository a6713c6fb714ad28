"""What the sampler is told, asked and tells."""
