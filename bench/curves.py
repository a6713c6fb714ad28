"""Lines with their intervals as SVG, written by hand: readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_PANEL, _HEIGHT = 380, 260
_LEFT, _GAP, _TOP, _BOTTOM = 62, 62, 132, 60
_MARGIN = 28
_STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2933}
.page{fill:#fff} .title{font-size:19px;font-weight:600} .note{font-size:13px;fill:#52606d}
.panel{font-size:14px;font-weight:600} .tick{font-size:12px;fill:#52606d}
.end{text-anchor:end} .mid{text-anchor:middle} .grid{stroke:#9aa5b1;stroke-opacity:.35}
.line{fill:none;stroke-width:2.2;stroke-linejoin:round} .band{fill-opacity:.16}
.c0{stroke:#2186eb;fill:#2186eb} .c1{stroke:#de911d;fill:#de911d} .c2{stroke:#7b8794;fill:#7b8794}
.c1.line{stroke-dasharray:7 4} .c2.line{stroke-dasharray:2 4}
@media (prefers-color-scheme:dark){.page{fill:#161b22}text{fill:#f5f7fa}.note,.tick{fill:#cbd2d9}
.c0{stroke:#47a3f3;fill:#47a3f3}.c1{stroke:#f7c948;fill:#f7c948}.c2{stroke:#9aa5b1;fill:#9aa5b1}.band{fill-opacity:.22}}
.c0.line,.c1.line,.c2.line{fill:none} .c0.band,.c1.band,.c2.band{stroke:none}
"""


@dataclass(frozen=True, slots=True)
class Point:
    """A value with its interval, all shares, at a place across."""

    at: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: at most three in a panel, and of the same name the same colour in all."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines that share their axes."""

    title: str
    curves: Sequence[Curve]


@dataclass(frozen=True, slots=True)
class Curves:
    """Panels side by side, with the same scale up; `across` says what is counted there."""

    title: str
    note: str
    panels: Sequence[Panel]
    across: str

    def svg(self) -> str:
        """The picture."""
        low, high, step = self._scale()
        width = _MARGIN + len(self.panels) * (_LEFT + _PANEL) + _GAP // 2
        height = _TOP + _HEIGHT + _BOTTOM
        label = escape(f"{self.title}. {self._told()}", quote=True)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}" rx="10"/>',
            *self._heading(),
        ]
        for nth, panel in enumerate(self.panels):
            lines += _drawn(panel, _MARGIN + _LEFT + nth * (_LEFT + _PANEL), (low, high, step), self.across)
        return "\n".join([*lines, "</svg>"]) + "\n"

    def _scale(self) -> tuple[float, float, float]:
        """From, to and the step of the axis, in whole steps around all intervals."""
        points = [point for panel in self.panels for curve in panel.curves for point in curve.points]
        low, high = min(point.low for point in points), max(point.high for point in points)
        step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25) if high - low <= 8 * step or step == 0.25)
        return math.floor(low / step) * step, math.ceil(high / step) * step, step

    def _told(self) -> str:
        """The ends of all lines in words, for those who cannot see them."""
        return " ".join(
            f"{panel.title}: "
            + ", ".join(f"{one.name} {one.points[-1].value:.1%} with {one.points[-1].at:.0f}" for one in panel.curves)
            + "."
            for panel in self.panels
        )

    def _heading(self) -> list[str]:
        parts = [_text(_MARGIN, 38, "title", self.title), _text(_MARGIN, 61, "note", self.note)]
        x = float(_MARGIN)
        for nth, curve in enumerate(self.panels[0].curves):
            parts.append(f'<path class="c{nth} line" d="M{x:.0f} 84h26"/>')
            parts.append(_text(x + 33, 88, "note", curve.name))
            x += 62 + 7.0 * len(curve.name)
        return parts


def _drawn(panel: Panel, left: float, scale: tuple[float, float, float], across: str) -> list[str]:
    low, high, step = scale
    ends = [point.at for curve in panel.curves for point in curve.points]
    first, last = min(ends), max(ends)

    def x(at: float) -> float:
        return left + _PANEL * 0.94 * (at - first) / max(last - first, 1e-9)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (high - value) / max(high - low, 1e-9)

    parts = [_text(left, _TOP - 14, "panel", panel.title)]
    for nth in range(round((high - low) / step) + 1):
        value = low + nth * step
        parts.append(f'<path class="grid" d="M{left:.1f} {y(value):.1f}H{left + _PANEL * 0.94:.1f}"/>')
        parts.append(_text(left - 9, y(value) + 4, "tick end", f"{value:.0%}"))
    parts += [_text(x(at), _TOP + _HEIGHT + 20, "tick mid", f"{at:g}") for at in _round_numbers(first, last)]
    parts.append(_text(x((first + last) / 2), _TOP + _HEIGHT + 42, "tick mid", across))
    for nth, curve in reversed(list(enumerate(panel.curves))):
        up = [f"{x(point.at):.1f} {y(point.high):.1f}" for point in curve.points]
        down = [f"{x(point.at):.1f} {y(point.low):.1f}" for point in reversed(curve.points)]
        parts.append(f'<path class="c{nth} band" d="M{"L".join(up + down)}Z"/>')
    for nth, curve in reversed(list(enumerate(panel.curves))):
        path = "L".join(f"{x(point.at):.1f} {y(point.value):.1f}" for point in curve.points)
        parts.append(f'<path class="c{nth} line" d="M{path}"/>')
    return parts


def _round_numbers(first: float, last: float) -> list[int]:
    """A few round numbers between the two."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10_000) if last - first <= 7 * step)
    return list(range(math.ceil(first / step) * step, math.floor(last) + 1, step))


def _text(x: float, y: float, kind: str, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
