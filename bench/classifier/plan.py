"""How much is measured, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bench.classifier.images import KILOBYTES

AT = 8
"""The concurrency that the targets speak of."""
BURST = 32
BIG = "4032x3024"
USUAL = "640x480"


@dataclass(frozen=True, slots=True)
class Plan:
    """`rounds` times everything, `seconds` for each cell; `soak` requests to see whether memory stays flat.

    `drawn` pictures of each tag train and judge the model. `slow_sizes` are those at which the container of 2018 is
    measured, with `slow_answers` images a time: it needs about half a second for each.
    """

    rounds: int = 3
    seconds: float = 2.0
    warm_up: float = 0.3
    part_seconds: float = 0.25
    health_seconds: float = 8.0
    soak: int = 4000
    drawn: int = 160
    sizes: Mapping[tuple[int, int], int] = field(default_factory=lambda: dict(KILOBYTES))
    concurrencies: tuple[int, ...] = (1, AT, BURST)
    slow_sizes: tuple[str, ...] = ("224x224", USUAL, "1920x1080", BIG)
    slow_answers: int = 8


FULL = Plan()
QUICK = replace(
    FULL,
    rounds=1,
    seconds=0.8,
    warm_up=0.2,
    part_seconds=0.15,
    health_seconds=3.0,
    soak=800,
    drawn=40,
    slow_sizes=(USUAL,),
)
