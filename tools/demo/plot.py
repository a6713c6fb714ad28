"""Shares over the turns, drawn as SVG in the page's own colours. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrain.judging.report.markup import words
from retrain.shown import percent

WIDE, HIGH = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 68, 34, 22, 58  # room for the larger words of a telephone
NEAR = 0.13  # shares so near that their numbers would touch


def lines(places: Sequence[tuple[str, str]], series: Mapping[str, Sequence[float]]) -> str:
    """A line for each series of shares, 0 to 1, over places of two lines of text; a series' key is its CSS class."""
    parts = [f'<path class="grid" d="M{LEFT} {_y(at / 4):.1f}H{WIDE - RIGHT}"/>' for at in range(5)]
    parts += [f'<text class="end" x="{LEFT - 8}" y="{_y(at / 4) + 4:.1f}">{at * 25} %</text>' for at in range(5)]
    for nth, (name, below) in enumerate(places):
        x = _x(nth, len(places))
        parts.append(f'<text class="mid value" x="{x:.1f}" y="{HIGH - 34}">{words(name)}</text>')
        parts.append(f'<text class="mid" x="{x:.1f}" y="{HIGH - 12}">{words(below)}</text>')
    for kind, shares in series.items():
        points = [(_x(nth, len(places)), _y(share)) for nth, share in enumerate(shares)]
        parts.append(f'<path class="line {kind}" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in points)}"/>')
        for nth, ((x, y), share) in enumerate(zip(points, shares, strict=True)):
            others = [other[nth] for name, other in series.items() if name != kind]
            up = -10 if _above(share, others, first=kind == next(iter(series))) else 20
            parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
            parts.append(f'<text class="mid value {kind}" x="{x:.1f}" y="{y + up:.1f}">{percent(share, 0)}</text>')
    told = "; ".join(f"{kind}: {', '.join(percent(share, 0) for share in shares)}" for kind, shares in series.items())
    return (
        f'<svg class="plot turns" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{words(told)}">'
        f"{''.join(parts)}</svg>"
    )


def _above(share: float, others: Sequence[float], *, first: bool) -> bool:
    """Whether the number goes above its dot: of two that are near, the higher one's does."""
    near = [other for other in others if abs(other - share) < NEAR]
    if not near:
        return share < 1 - NEAR or not others
    return share > max(near) or (share == max(near) and first)


def _x(nth: int, count: int) -> float:
    return LEFT + 30 + nth * (WIDE - LEFT - RIGHT - 60) / max(count - 1, 1)


def _y(share: float) -> float:
    return HIGH - BOTTOM - share * (HIGH - TOP - BOTTOM)
