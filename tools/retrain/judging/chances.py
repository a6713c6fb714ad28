"""How far a count can be trusted: intervals for shares, and the paired test of two models on the same images. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959963984540054
"""Standard deviations on each side of 95 % of a normal distribution: what all intervals here cover."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many; `low` and `high` are its 95 % interval (Wilson, 1927), which holds for few images, too."""

    hits: int
    of: int

    @property
    def value(self) -> float | None:
        """The share, 0 to 1; None of nothing."""
        return self.hits / self.of if self.of else None

    @property
    def low(self) -> float:
        """The lower end, 0 to 1."""
        return _wilson(self.hits, self.of)[0]

    @property
    def high(self) -> float:
        """The upper end, 0 to 1."""
        return _wilson(self.hits, self.of)[1]

    def to_json(self) -> dict[str, float | int | None]:
        """The share for a program."""
        value = None if self.value is None else round(self.value, 6)
        return {
            "share": value,
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "hits": self.hits,
            "of": self.of,
        }


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models on the same `images`: how many only the candidate got right (`gained`), and only the active (`lost`).

    The images on which both are right, or both wrong, say nothing about which is better.
    """

    gained: int
    lost: int
    images: int

    @property
    def changed(self) -> int:
        """The images that one model alone got right."""
        return self.gained + self.lost

    @property
    def p(self) -> float:
        """The chance of so uneven a split, either way, if neither were better (exact test of McNemar, two-sided)."""
        return min(1.0, 2 * at_most(min(self.gained, self.lost), self.changed))

    @property
    def difference(self) -> float:
        """What the candidate's accuracy is higher by, -1 to 1; 0 of no images."""
        return (self.gained - self.lost) / self.images if self.images else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference (Agresti and Min, 2005)."""
        gained, lost, images = self.gained + 0.5, self.lost + 0.5, self.images + 2
        middle = (gained - lost) / images
        wide = Z * math.sqrt(gained + lost - (gained - lost) ** 2 / images) / images
        return max(-1.0, middle - wide), min(1.0, middle + wide)


def at_most(heads: int, tosses: int) -> float:
    """The chance of at most so many heads in so many tosses of a fair coin."""
    if heads >= tosses:
        return 1.0
    every = math.lgamma(tosses + 1) - tosses * math.log(2)
    one = (every - math.lgamma(k + 1) - math.lgamma(tosses - k + 1) for k in range(heads + 1))
    return min(1.0, math.fsum(map(math.exp, one)))


def _wilson(hits: int, of: int) -> tuple[float, float]:
    if not of:
        return 0.0, 1.0
    share, spread = hits / of, Z * Z / of
    middle = (share + spread / 2) / (1 + spread)
    wide = math.sqrt(spread * share * (1 - share) + spread * spread / 4) / (1 + spread)
    # none of them and all of them reach the very end, which rounding may miss
    return 0.0 if not hits else max(0.0, middle - wide), 1.0 if hits == of else min(1.0, middle + wide)
