"""What edge hub does: who is connected, where messages go and wait, twins and methods, MQTT over TLS."""
