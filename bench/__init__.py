"""Measurements that take minutes and a quiet machine: `python -m bench`. Nothing a device runs."""
