"""Everything that can be set, read once at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sampler.steering import Steering

# what Azure Blob Storage on IoT Edge speaks: far less than Azure does
LOCAL_API_VERSION = "2019-07-07"


@dataclass(frozen=True, slots=True)
class Settings:
    """The sampler's settings. The addresses may hold keys: they are never shown.

    `local_blobs` empty: a folder below `state`. `cloud_blobs` empty: everything is kept here, to be uploaded later.
    `cloud_api_version` empty: the newest. `steering` holds until the twin says otherwise.
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
    steering: Steering = field(default_factory=Steering)
