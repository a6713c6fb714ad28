"""Who sees which image next."""
