"""The index of all samples, and what becomes of a damaged one."""
