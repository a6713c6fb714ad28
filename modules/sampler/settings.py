"""Everything that can be set, read once at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sampler.telling.steering import Steering
from sampler.uploading.credential import Credential

# what Azure Blob Storage on IoT Edge speaks: far less than Azure does
LOCAL_API_VERSION = "2019-07-07"


@dataclass(frozen=True, slots=True)
class Settings:
    """The sampler's settings. The addresses may hold keys: they are never shown.

    `local_blobs` empty: a folder below `state`. `cloud_blobs` empty: everything is kept here until a credential comes.
    `cloud_api_version` empty: the newest. `http_port` 0: no pages. `steering` holds until the twin says otherwise.
    """

    spool: Path
    state: Path = Path("state")
    local_blobs: str = field(default="", repr=False)
    local_container: str = "samples"
    local_api_version: str = LOCAL_API_VERSION
    cloud_blobs: str = field(default="", repr=False)
    cloud_container: str = "samples"
    cloud_api_version: str = ""
    scan_seconds: float = 5.0
    summary_seconds: float = 60.0
    http_host: str = "0.0.0.0"  # noqa: S104 - in a container nothing else can be reached
    http_port: int = 0
    steering: Steering = field(default_factory=Steering)

    @property
    def credential(self) -> Credential:
        """Where images are uploaded to, as far as the settings say."""
        return Credential(self.cloud_blobs, self.cloud_container, self.cloud_api_version or None)
