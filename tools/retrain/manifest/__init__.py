"""Deployment manifests: rendered from the template, and checked before a device gets them."""
