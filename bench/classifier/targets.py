"""What the numbers should be, and whether they are: always as ratios within one run, on whatever machine."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from bench.classifier.measures import ONE_WORKER, Outcome
from bench.classifier.plan import AT, BIG, BURST, USUAL
from bench.classifier.servers import FLASK_2018, FLASK_2024, FP32, INT8

# of the floor of the 32-bit model, in both
OF_FLOOR: Mapping[str, Mapping[str, float]] = {
    FP32: {"224x224": 0.9, USUAL: 0.9, "1920x1080": 0.85, BIG: 0.85},
    INT8: {"224x224": 1.7, USUAL: 1.3, "1920x1080": 1.25, BIG: 1.0},
}
OF_2024: Mapping[str, float] = {USUAL: 1.6, "1920x1080": 2.4, BIG: 5.0}
OF_2018 = 80.0
P99_OF_P50 = 2.0
FLAGGING = 0.95
MEMORY_MB = 250.0
HEALTH_MS = 20.0
FLAT_MB = 5.0
AS_GOOD = 1.05
"""Two times this close are the same: timings of single runs differ by as much."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing wanted: `wanted` and `found` as text, and whether it is so."""

    what: str
    wanted: str
    found: str
    met: bool


def targets(outcome: Outcome) -> list[Target]:
    """All that can be said of what was measured."""
    return [
        *_of_floor(outcome),
        *_of_containers(outcome),
        *_tails(outcome),
        *_lone(outcome),
        *_memory(outcome),
        _at_most("`/healthz` p99 meanwhile", outcome.health.p99, HEALTH_MS, "ms"),
        _at_most(f"memory gained over {outcome.soak.requests} requests", outcome.soak.growth, FLAT_MB, "MB"),
        _flagging(outcome),
    ]


def of_floor(outcome: Outcome, server: str, size: str, concurrency: int, flavour: str = "fp32") -> float | None:
    """A server's answers a second as a share of the floor: within each round, and the middle of the rounds.

    None where it was not measured.
    """
    key = server, size, concurrency
    shares = [each.cells[key].rate / each.floors[size].rate(flavour) for each in outcome.rounds if key in each.cells]
    return statistics.median(shares) if shares else None


def times_as_fast(outcome: Outcome, one: str, other: str, size: str) -> float | None:
    """How many times as many answers a second one server gives as another, at AT; None where not measured."""
    a, b = (one, size, AT), (other, size, AT)
    ratios = [each.cells[a].rate / each.cells[b].rate for each in outcome.rounds if a in each.cells and b in each.cells]
    return statistics.median(ratios) if ratios else None


def middle(outcome: Outcome, server: str, size: str, concurrency: int, what: str) -> float | None:
    """The middle of the rounds of one number of a cell; None where it was not measured."""
    key = server, size, concurrency
    values = [float(getattr(each.cells[key], what)) for each in outcome.rounds if key in each.cells]
    return statistics.median(values) if values else None


def _of_floor(outcome: Outcome) -> Iterator[Target]:
    for server, sizes in OF_FLOOR.items():
        for size, wanted in sizes.items():
            if (share := of_floor(outcome, server, size, AT)) is not None:
                yield _at_least(f"{server}, {size}: of the fp32 floor", share, wanted)


def _of_containers(outcome: Outcome) -> Iterator[Target]:
    for size, wanted in OF_2024.items():
        if (ratio := times_as_fast(outcome, FP32, FLASK_2024, size)) is not None:
            yield _at_least(f"{FP32}, {size}: times the {FLASK_2024}", ratio, wanted)
    for size in _sizes(outcome):
        if (ratio := times_as_fast(outcome, FP32, FLASK_2018, size)) is not None:
            yield _at_least(f"{FP32}, {size}: times the {FLASK_2018}", ratio, OF_2018)


def _tails(outcome: Outcome) -> Iterator[Target]:
    for server in (FP32, INT8):
        tails = [
            (statistics.median(each.cells[server, size, AT].p99 / each.cells[server, size, AT].p50
                               for each in outcome.rounds), size)
            for size in _sizes(outcome)
        ]  # fmt: skip
        worst, size = max(tails)
        yield _at_most(f"{server}: p99 / p50 at its worst size ({size})", worst, P99_OF_P50, "")


def _lone(outcome: Outcome) -> Iterator[Target]:
    ratios = [each.lone[FP32] / each.lone[ONE_WORKER] for each in outcome.rounds]
    what = f"{USUAL}, one at a time: time of an answer, of that with one thread"
    yield _at_most(what, statistics.median(ratios), AS_GOOD, "")


def _memory(outcome: Outcome) -> Iterator[Target]:
    for server in (FP32, INT8):
        if (peak := middle(outcome, server, BIG, BURST, "peak_mb")) is not None:
            yield _at_most(f"{server}: memory with {BURST} of {BIG} under way", peak, MEMORY_MB, "MB")


def _flagging(outcome: Outcome) -> Target:
    pairs = [pair for each in outcome.rounds for pair in each.flagging]
    left = statistics.median(pairs)
    found = _at_least("every image flagged and kept: share of the speed left", left, FLAGGING)
    return replace(found, met=found.met and all(each.kept >= FLAGGING for each in outcome.rounds))


def _sizes(outcome: Outcome) -> list[str]:
    return list(outcome.rounds[0].floors)


def _at_least(what: str, found: float, wanted: float) -> Target:
    return Target(what, f"≥ {wanted:g}", _number(found), found >= wanted)


def _at_most(what: str, found: float, wanted: float, unit: str) -> Target:
    return Target(what, f"≤ {wanted:g} {unit}".strip(), f"{_number(found)} {unit}".strip(), found <= wanted)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
