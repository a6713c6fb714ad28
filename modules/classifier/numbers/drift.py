"""Does the model still say what it said when it was validated? Pure: figures and a window of answers in, a score out.

The measure is the Jensen-Shannon distance: the square root of the divergence with base 2. It is 0 for equal shares, 1
where one never says what the other does, the same in both directions, and knows no empty bins to stumble over.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ripeloop.validation import BINS, Validation, bin_of

SIZE = 1000  # images in the window
ENOUGH = 200  # fewer than this tell more of chance than of the site
FEW = 5  # images expected in a cell

_RARE = 2.5758  # standard deviations that one in 200 is above; of two distributions, one in a hundred


class Window:
    """The newest answers of one model: their likeliest tags and how sure it was of them."""

    def __init__(self, size: int = SIZE) -> None:
        self._answers: deque[tuple[str, int]] = deque()
        self._size = size
        self.tags: Counter[str] = Counter()
        self.bins = [0] * BINS

    @property
    def images(self) -> int:
        """The answers in it."""
        return len(self._answers)

    def add(self, tag: str, confidence: float) -> None:
        """Take one answer, and let go of the oldest where it is full."""
        if len(self._answers) == self._size:
            old, bin_ = self._answers.popleft()
            self.tags[old] -= 1
            self.bins[bin_] -= 1
        bin_ = bin_of(confidence)
        self._answers.append((tag, bin_))
        self.tags[tag] += 1
        self.bins[bin_] += 1


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the answers of a window of `images` are from the validation figures, 0 to 1.

    `confidence` and `tags` are the distances of the two distributions. `chance` is what the larger of them reaches once
    in about a hundred windows though nothing changed: the fewer images there are, on either side, the more.
    """

    confidence: float
    tags: float
    chance: float
    images: int

    @property
    def score(self) -> float:
        """The larger distance."""
        return max(self.confidence, self.tags)

    def to_json(self) -> dict[str, Any]:
        """In the words of the summary and of `status`."""
        numbers = {"score": self.score, "confidence": self.confidence, "tags": self.tags, "chance": self.chance}
        return {name: round(number, 4) for name, number in numbers.items()} | {"images": self.images}


def measured(validation: Validation, window: Window) -> Drift:
    """How far the window is from the figures. It needs an image."""
    told = {one.tag: one.images for one in validation.tags}
    names = told | dict.fromkeys(window.tags)
    tags = pooled([told.get(name, 0) for name in names], [window.tags[name] for name in names])
    confidences = validation.histogram, window.bins  # a dozen cells: too few for the rare ones to add up
    return Drift(distance(*confidences), distance(*tags), max(chance(*confidences), chance(*tags)), window.images)


def why_none(validation: Validation | None, window: Window) -> str:
    """Why there is no score; empty where there is one."""
    if validation is None:
        return "the model's package has no validation.json to compare with: train or release it with one"
    if window.images < ENOUGH:
        return f"{window.images} images answered by this model so far, a score needs {ENOUGH}"
    return ""


def pooled(one: Sequence[int], other: Sequence[int]) -> tuple[list[int], list[int]]:
    """The counts with the rare cells put together, the rarest first, until the smaller side expects FEW in each.

    Many cells with less than that are farther apart than `chance` knows of. What is rare, both sides say together: so
    the choice tells nothing of how they differ.
    """
    enough = FEW * (sum(one) + sum(other)) / min(sum(one), sum(other))
    cells, rare = [], (0, 0)
    for a, b in sorted(zip(one, other, strict=True), key=sum):
        rare = rare[0] + a, rare[1] + b
        if sum(rare) >= enough:
            cells.append(rare)
            rare = (0, 0)
    if any(rare):  # even the commonest
        last = cells.pop() if cells else (0, 0)
        cells.append((last[0] + rare[0], last[1] + rare[1]))
    return [a for a, _ in cells], [b for _, b in cells]


def distance(one: Sequence[int], other: Sequence[int]) -> float:
    """The Jensen-Shannon distance of two sets of counts, cell by cell; each needs one that is not 0."""
    total, others = sum(one), sum(other)
    divergence = 0.0
    for p, q in ((a / total, b / others) for a, b in zip(one, other, strict=True)):
        divergence += _part(p, (p + q) / 2) + _part(q, (p + q) / 2)
    return math.sqrt(min(1.0, max(0.0, divergence / 2)))


def chance(one: Sequence[int], other: Sequence[int]) -> float:
    """The distance that two samples as large as these, drawn alike, exceed once in two hundred times, about.

    For samples that are drawn alike, the divergence is chi-squared with a degree of freedom less than there are cells
    in use, times (1/n + 1/m) / (8 ln 2); its quantile is Wilson and Hilferty's (1931).
    """
    free = sum(a + b > 0 for a, b in zip(one, other, strict=True)) - 1
    if free < 1:
        return 0.0
    quantile = free * (1 - 2 / (9 * free) + _RARE * math.sqrt(2 / (9 * free))) ** 3
    return min(1.0, math.sqrt(quantile * (1 / sum(one) + 1 / sum(other)) / (8 * math.log(2))))


def _part(p: float, mean: float) -> float:
    return p * math.log2(p / mean) if p > 0 else 0.0
