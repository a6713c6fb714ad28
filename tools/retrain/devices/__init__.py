"""What is asked of devices, and what they say."""
