"""The plots, drawn by hand as SVG inside the page: its colours are the page's own, light or dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

from retrain.judging.chances import Share
from retrain.judging.curve import Outlook, Turn
from retrain.judging.figures import Bin
from retrain.judging.report.markup import words
from retrain.shown import percent

SIDE, LEFT, RIGHT, TOP, BOTTOM = 290, 42, 22, 12, 44
WIDE, HIGH = SIDE + LEFT + RIGHT, SIDE - 60 + TOP + BOTTOM
_BAR = 140


def reliability(bins: Sequence[Bin], kind: str) -> str:
    """How often answers of each confidence are right, with intervals; on the diagonal they are as good as they say."""
    told = "; ".join(
        f"said {one.confidence:.0%}, right {percent(one.right.value, 0)} of {one.right.of}" for one in bins
    )
    marks = []
    for one in bins:
        x = _x(one.confidence)
        marks.append(
            f'<path class="err {kind}" d="M{x:.1f} {_y(one.right.low):.1f}V{_y(one.right.high):.1f}"/>'
            f'<circle class="dot {kind}" cx="{x:.1f}" cy="{_y(one.right.value or 0):.1f}" r="{_radius(one.right.of)}">'
            f"<title>{one.right.of} images: said {one.confidence:.0%}, right {percent(one.right.value, 0)}</title>"
            "</circle>"
        )
    ideal = f'<path class="ideal" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>'
    axes = _axes([(v / 4, f"{v * 25} %") for v in range(5)], [(v / 4, f"{v * 25} %") for v in range(5)])
    return _svg(f"Confidence against accuracy: {told}", axes + ideal + "".join(marks), "how sure it said it was")


def learning(turns: Sequence[Turn], outlook: Outlook | None) -> str:
    """The accuracy of each turn against its labels, on a scale where doubling is a step, and where that leads."""
    labels = [turn.labels for turn in turns]
    values = [turn.accuracy for turn in turns]
    if outlook is not None:
        labels, values = [*labels, 2 * outlook.labels], [*values, outlook.then, outlook.now]
    low_x, high_x = math.log2(min(labels)) - 0.2, math.log2(max(labels)) + 0.2
    low_y, high_y = _range(min(values), max(values))

    def place(labels: int, accuracy: float) -> tuple[float, float]:
        return _x((math.log2(labels) - low_x) / (high_x - low_x)), _y((accuracy - low_y) / (high_y - low_y))

    ticks = [((math.log2(n) - low_x) / (high_x - low_x), f"{n:,}") for n in _doublings(min(labels), max(labels))]
    shares = [(v / 4, percent(low_y + v / 4 * (high_y - low_y), 0)) for v in range(5)]
    points = [place(turn.labels, turn.accuracy) for turn in turns]
    line = f'<path class="line" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>' if len(points) > 1 else ""
    dots = "".join(
        f'<circle class="dot candidate" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{words(turn.version)} '
        f"{turn.labels:,} labels: {percent(turn.accuracy)}</title></circle>"
        for turn, (x, y) in zip(turns, points, strict=True)
    )
    ahead = ""
    if outlook is not None:
        (x, y), (then_x, then_y) = place(outlook.labels, outlook.now), place(2 * outlook.labels, outlook.then)
        ahead = (
            f'<path class="ahead" d="M{x:.1f} {y:.1f}L{then_x:.1f} {then_y:.1f}"/>'
            f'<circle class="open" cx="{then_x:.1f}" cy="{then_y:.1f}" r="4.5"/>'
        )
    told = "; ".join(f"{turn.labels} labels {percent(turn.accuracy)}" for turn in turns)
    return _svg(f"Accuracy against labels: {told}", _axes(ticks, shares) + line + ahead + dots, "labels trained on")


def intervals(active: Share | None, candidate: Share | None) -> str:
    """Two shares with their intervals, one above the other; None for a model that does not know the tag."""
    rows = []
    for y, kind, one in ((7, "active", active), (18, "candidate", candidate)):
        if one is not None and one.value is not None:
            low, high, at = (6 + (_BAR - 12) * value for value in (one.low, one.high, one.value))
            rows.append(f'<path class="err {kind}" d="M{low:.1f} {y}H{high:.1f}"/>'
                        f'<circle class="dot {kind}" cx="{at:.1f}" cy="{y}" r="4"/>')  # fmt: skip
    track = f'<path class="grid" d="M6 2V23M{_BAR / 2} 2V23M{_BAR - 6} 2V23"/>'
    return f'<svg class="bars" viewBox="0 0 {_BAR} 25" aria-hidden="true">{track}{"".join(rows)}</svg>'


def _axes(across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> str:
    """Grid lines and their words; places are shares of each axis."""
    lines = [f'<path class="grid" d="M{LEFT} {_y(at):.1f}H{WIDE - RIGHT}"/>' for at, _ in up]
    lines += [f'<text class="tick end" x="{LEFT - 6}" y="{_y(at) + 4:.1f}">{word}</text>' for at, word in up]
    lines += [f'<text class="tick mid" x="{_x(at):.1f}" y="{HIGH - BOTTOM + 17}">{word}</text>' for at, word in across]
    return "".join(lines)


def _svg(label: str, inside: str, below: str) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{words(label)}">{inside}'
        f'<text class="axis mid" x="{_x(0.5):.1f}" y="{HIGH - 8}">{below}</text></svg>'
    )


def _x(share: float) -> float:
    return LEFT + share * (WIDE - LEFT - RIGHT)


def _y(share: float) -> float:
    return HIGH - BOTTOM - share * (HIGH - TOP - BOTTOM)


def _radius(images: int) -> float:
    """Larger where more images speak."""
    return round(min(3 + math.sqrt(images) / 3, 8), 1)


def _range(low: float, high: float) -> tuple[float, float]:
    """Around both, in four steps of whole percents."""
    for step in (1, 2, 5, 10, 25):
        start = math.floor(low * 100 / step) * step
        if start + 4 * step >= high * 100:
            break
    return start / 100, (start + 4 * step) / 100


def _doublings(low: int, high: int) -> list[int]:
    """A few round numbers of labels between the two."""
    steps = [low * 2**n for n in range(40) if low * 2**n <= high]
    every = -(-len(steps) // 5)
    return steps[::every]
