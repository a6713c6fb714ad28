"""What each turn of the demo came to. Pure: a table and a report are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.camera import Answer, Shift
from retrain.judging.chances import Share
from retrain.turn.outcome import RELEASED
from retrain.turn.state import Turn

FEWEST_AUDITS = 10
"""With fewer the field's accuracy would be anything."""


@dataclass(frozen=True, slots=True)
class Example:
    """A flagged picture: what was answered, why it was kept, and what became of it: `training` or `holdout`."""

    answer: Answer
    reason: str
    use: str = ""


@dataclass(frozen=True, slots=True)
class Round:
    """One stream of pictures, answered by one model, and the turn that came of it; none for the last stream.

    `flagged` of the pictures answered; `report` is the judge's page, where it wrote one.
    """

    name: str
    light: str
    shift: Shift
    flagged: int
    model: str
    labelled: int = 0
    turn: Turn | None = None
    report: Path | None = None
    examples: tuple[Example, ...] = field(default=(), repr=False)

    @property
    def accuracy(self) -> Share:
        """On the whole stream, which only somebody knows who has all the truth."""
        return self.shift.right

    @property
    def flagged_share(self) -> Share:
        """Of the pictures that were answered."""
        return Share(min(self.flagged, len(self.shift.answered)), len(self.shift.answered))

    @property
    def verdict(self) -> str:
        """The judge's word, or empty where it was not asked."""
        return str(self._judged.get("verdict", ""))

    @property
    def judged(self) -> tuple[Share, Share] | None:
        """The active model and the candidate on the images held out."""
        active = self._judged.get("active")
        return (_share(active["accuracy"]), _share(self._judged["accuracy"])) if active else None

    @property
    def field_estimate(self) -> Share | None:
        """What the audit samples alone say of the model that answered; None where they are too few."""
        found = self._judged.get("field")
        share = _share(found) if found else Share(0, 0)
        return share if share.of >= FEWEST_AUDITS else None

    @property
    def released(self) -> bool:
        """Whether the device took the new model."""
        return self.turn is not None and self.turn.outcome == RELEASED

    @property
    def trained_on(self) -> int:
        """Images the candidate learned from."""
        return int((self._result("tag")).get("labels", 0))

    @property
    def held_out(self) -> int:
        """Images no model learns from."""
        return int((self._result("tag")).get("holdoutSamples", 0))

    @property
    def new_version(self) -> str:
        """The candidate's."""
        return str(self._judged.get("candidate", ""))

    @property
    def _judged(self) -> Mapping[str, Any]:
        return self._result("judge")

    def _result(self, step: str) -> Mapping[str, Any]:
        return (self.turn.result(step) if self.turn is not None else None) or {}


@dataclass(frozen=True, slots=True)
class Undone:
    """How it went with the bad model: whether the device undid it by itself, why, and what answers again."""

    by_itself: bool
    reason: str
    version: str
    images: int


def _share(fields: Mapping[str, Any]) -> Share:
    return Share(int(fields["hits"]), int(fields["of"]))
