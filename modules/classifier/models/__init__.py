"""An export, loaded and asked."""
