"""Is more labelling worth it? The accuracy of earlier turns against their labels, and what twice as many may bring.

A history is a file of JSON lines, one a turn: `labels` it was trained on, `accuracy` on the holdout, and `version`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from retrain.shown import percent
from ripeloop.errors import SettingsError

LEAST_TURNS = 3
WORTH = 0.01  # of accuracy, for twice the labels
LEAST_ERROR = 0.002
MOST_LABELS = 10**12


@dataclass(frozen=True, slots=True)
class Turn:
    """One trained model: how many labels it learned from, and its accuracy on the holdout, 0 to 1."""

    labels: int
    accuracy: float
    version: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What twice the `labels` may bring, if the errors go on falling as they did: from `now` to `then`, 0 to 1."""

    labels: int
    now: float
    then: float

    @property
    def worth_it(self) -> bool:
        """Whether that is at least one more of a hundred images."""
        return self.then - self.now >= WORTH

    @property
    def sentence(self) -> str:
        """The outlook in words."""
        gain = f"from about {percent(self.now, 0)} to {percent(self.then, 0)}"
        if self.worth_it:
            return f"Yes: twice the labels, {2 * self.labels:,} instead of {self.labels:,}, may bring it {gain}."
        return (
            f"Hardly: twice the labels, {2 * self.labels:,} instead of {self.labels:,}, would bring less than 1 % more."
        )


def read(path: Path) -> list[Turn]:
    """The turns in a history, by their labels. Raises SettingsError."""
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the history {path} cannot be read ({error}); give a file of JSON lines") from error
    turns = [_turn(line, f"line {number} of {path}") for number, line in enumerate(lines, 1) if line.strip()]
    return sorted(turns, key=lambda turn: (turn.labels, turn.version))


def outlook(turns: Sequence[Turn]) -> Outlook | None:
    """What more labels may bring; None where fewer than three different numbers of labels tell.

    The error falls as a power of the number of labels, as is usual: a straight line in logarithms, which may not rise.
    """
    if len({turn.labels for turn in turns}) < LEAST_TURNS:
        return None
    points = [(math.log(turn.labels), math.log(max(1 - turn.accuracy, LEAST_ERROR))) for turn in turns]
    middle_x, middle_y = (math.fsum(column) / len(points) for column in zip(*points, strict=True))
    slope = math.fsum((x - middle_x) * (y - middle_y) for x, y in points) / math.fsum(
        (x - middle_x) ** 2 for x, _ in points
    )
    slope = min(slope, 0.0)
    labels = max(turn.labels for turn in turns)
    now, then = (1 - min(1.0, math.exp(middle_y + slope * (math.log(n) - middle_x))) for n in (labels, 2 * labels))
    return Outlook(labels, now, then)


def _turn(line: str, where: str) -> Turn:
    try:
        fields = json.loads(line)
        labels, accuracy = fields["labels"], fields["accuracy"]
        usable = type(labels) is int and 0 < labels < MOST_LABELS and type(accuracy) in (int, float)
    except (ValueError, TypeError, LookupError, RecursionError):
        usable = False
    if not usable or not 0 <= accuracy <= 1:
        raise SettingsError(f'{where} is no turn; it must be like {{"labels": 120, "accuracy": 0.87}}')
    return Turn(labels, float(accuracy), str(fields.get("version", "")))
