"""Everything that can be set, read once at the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from classifier.models.providers import CPU
from classifier.pixels.room import MAX_PIXELS
from classifier.rollout.rollout import RolloutSettings
from classifier.serving.url import Hosts
from ripeloop.errors import SettingsError
from ripeloop.spool import Limits
from ripeloop.uncertainty import Policy

MAX_BODY = 4 * 1024 * 1024  # what the Custom Vision container takes
FAST, EXACT = "fast", "exact"


@dataclass(frozen=True, slots=True)
class Settings:
    """The classifier's settings. Raises SettingsError where two of them contradict each other.

    `decode` is `FAST` or `EXACT`; `providers` are those of `providers.parse`.
    `spool` None: uncertain images are not kept. `workers` images are classified at once, `max_in_flight` received
    ones are held at once; a connection is closed after `idle_seconds` without a whole request; a camera's answer waits
    `handoff_wait` seconds at most for the spool. `policy` holds until the twin says otherwise. Without `url_hosts` no
    image is fetched by URL, without a `prediction_key` none is asked for. `models` keeps the models that the twin
    brings, which the owner of `model_key` must have signed; `rollout` says what else is asked of them.
    """

    model: Path
    host: str = "0.0.0.0"  # noqa: S104 - as the exported container: in a container nothing else can be reached
    port: int = 8080
    spool: Path | None = None
    spool_limits: Limits = field(default_factory=Limits)
    state: Path = Path("state")
    max_body: int = MAX_BODY
    max_pixels: int = MAX_PIXELS
    decode: str = FAST
    providers: tuple[str, ...] = (CPU,)
    workers: int = 1
    max_in_flight: int = 64
    idle_seconds: float = 75.0
    handoff_wait: float = 0.05
    summary_seconds: float = 60.0
    url_hosts: Hosts | None = None
    prediction_key: str = field(default="", repr=False)
    models: Path = Path("models")
    model_key: Ed25519PublicKey | None = None
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        if self.max_in_flight < self.workers:
            raise SettingsError(
                f"--max-in-flight {self.max_in_flight} would leave some of the {self.workers} --workers idle; raise it"
            )
