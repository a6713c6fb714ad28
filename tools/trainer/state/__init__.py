"""What the service knows, in SQLite and files."""
