"""Trains image classifiers on a frozen backbone and writes them in Custom Vision's export form."""
