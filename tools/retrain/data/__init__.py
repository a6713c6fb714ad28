"""Labelled images, moved from one place to another with nothing lost."""
