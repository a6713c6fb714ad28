"""What one training, and the service, are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from classifier.serving.url import Hosts
from ripeloop.errors import SettingsError
from trainer.api.gate import is_loopback


@dataclass(frozen=True, slots=True)
class Settings:
    """The folder of images, one folder in it for each tag, and the file the export goes to; `int8`: in 8 bits."""

    images: Path
    out: Path
    int8: bool = False


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What the service is told. Raises SettingsError where that would leave it open to anybody.

    Without a `training_key` it serves this computer alone; the `prediction_key` is the same unless given. Without
    `url_hosts` no image is taken by URL. `url` is what links begin with, where that is not what clients ask for.
    `calls_per_second` 0 lets any number through.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8088
    training_key: str = field(default="", repr=False)
    prediction_key: str = field(default="", repr=False)
    url: str = ""
    url_hosts: Hosts | None = None
    calls_per_second: float = 0.0

    def __post_init__(self) -> None:
        if not self.training_key and not is_loopback(self.host):
            raise SettingsError(
                f"--host {self.host} lets other computers in: set TRAINER_TRAINING_KEY to what they must send, or "
                "leave --host at 127.0.0.1"
            )
        if self.url and not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"--url {self.url} is no address: begin with http:// or https://")
