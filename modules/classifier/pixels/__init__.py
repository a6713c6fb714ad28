"""From posted bytes to the pixels and the tensor of a model, whatever was posted."""
