"""What one local edge runtime is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MQTT_PORT = 8883  # azure-iot-device knows no other
SOCKET_PATH_LIMIT = 107  # bytes; what the kernel's address has room for


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of `python -m localedge`."""

    deployment: Path
    state: Path
    env_file: Path | None = None
    device: str = "laptop"
    hub_name: str = "local-hub.azure-devices.net"
    gateway: str = "127.0.0.1"
    hub_port: int = 8484
    workload: str | None = None
    offline: bool = False

    @property
    def workload_uri(self) -> str:
        """Where modules reach the workload API: what was asked for, else a unix socket in the state folder."""
        return self.workload or f"unix://{self.state.resolve() / 'workload.sock'}"

    @property
    def control_socket(self) -> Path:
        """The unix socket of the control API."""
        return self.state.resolve() / "control.sock"

    @property
    def hub_host(self) -> str:
        """The host name, with its port, of IoT Hub's service REST."""
        return f"{self.gateway}:{self.hub_port}"
