"""The first step of a turn: the project holds what the labels say, and the holdout stays out of it."""
