"""What every step of a turn has at hand: the settings, the state, the service, the samples, and who listens."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrain.customvision import CustomVision
from retrain.turn import past
from retrain.turn.outcome import Done
from retrain.turn.settings import Told, TurnSettings
from retrain.turn.state import State, Turn
from ripeloop.blobs import Blobs
from ripeloop.disk import write_whole

SAY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Work:
    """What every step has at hand."""

    settings: TurnSettings
    state: State
    number: int
    project: str
    service: CustomVision
    samples: Blobs
    told: Told

    @property
    def turn(self) -> Turn:
        """The turn as it stands."""
        return self.state.turn(self.number)

    @property
    def folder(self) -> Path:
        """The files of this turn."""
        return past.folder_of(self.settings.work, self.number)

    def result(self, step: str) -> Mapping[str, Any]:
        """What an earlier step came to."""
        return self.turn.result(step) or {}


Step = Callable[[Work], Awaitable[Done]]


def now_and_then(told: Told, seconds: float = SAY_SECONDS) -> Told:
    """Passes a line on where none was for so many seconds: a long step shows that it goes on."""
    said = time.monotonic()

    def hear(line: str) -> None:
        nonlocal said
        if time.monotonic() - said >= seconds:
            said = time.monotonic()
            told(line)

    return hear


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """The document as a file, whole or not at all. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(document, indent=2).encode() + b"\n")
