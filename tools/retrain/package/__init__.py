"""An export becomes a model package."""
