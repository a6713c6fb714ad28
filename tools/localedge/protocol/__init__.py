"""MQTT as azure-iot-device speaks it, without a socket: the bytes, what topics mean, and the messages in them."""
