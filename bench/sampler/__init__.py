"""The sampler's figures; each module here has one `measure()` that gives named numbers."""
