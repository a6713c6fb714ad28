"""A new model on its way to the answer, and back where it is worse."""
