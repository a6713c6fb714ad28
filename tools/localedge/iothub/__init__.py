"""IoT Hub as far as the tools call it: devices, twins, deployments, configurations with conditions, queries."""
