"""From a request or a message to its answer."""
