"""How fast the classifier is, beside the hardware's limit and the servers it replaces."""
