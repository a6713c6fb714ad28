"""Azure IoT Edge on a laptop: workload API, edge hub over MQTT and TLS, twins, methods, IoT Hub's REST."""
