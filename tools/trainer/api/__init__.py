"""Custom Vision's API over HTTP."""
