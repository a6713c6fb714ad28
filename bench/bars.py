"""A bar chart as SVG, written by hand: readable on light and dark pages, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT = 860, 72, 28
_TOP, _HEIGHT, _BOTTOM = 120, 300, 52
_MARGIN = 28
_STYLE = """
text{font-family:system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#1f2933}
.page{fill:#fff} .title{font-size:19px;font-weight:600} .note{font-size:13px;fill:#52606d}
.group{font-size:14px;text-anchor:middle} .tick{font-size:12px;fill:#52606d;text-anchor:end}
.value{font-size:12px;text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
.grid{stroke:#9aa5b1;stroke-opacity:.35} .line{stroke:#1f2933;stroke-width:1.5;stroke-dasharray:6 4}
.s0{fill:#b8c2cc} .s1{fill:#7b8794} .s2{fill:#de911d} .s3{fill:#2186eb}
@media (prefers-color-scheme:dark){.page{fill:#161b22}text{fill:#f5f7fa}.note,.tick{fill:#cbd2d9}.line{stroke:#f5f7fa}
.value{stroke:#161b22}.s0{fill:#616e7c}.s1{fill:#9aa5b1}.s2{fill:#f7c948}.s3{fill:#47a3f3}}
"""


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of bars: a value for each group, None where there is none."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Bars:
    """Groups of bars side by side, at most four series, and a line across at 1 with its meaning."""

    title: str
    note: str
    groups: Sequence[str]
    series: Sequence[Series]
    line: str

    def svg(self) -> str:
        """The picture."""
        ticks = _ticks(max([1.0, *(value for one in self.series for value in one.values if value is not None)]))
        bars, labels = self._bars(ticks[-1])
        height = _TOP + _HEIGHT + _BOTTOM
        label = escape(f"{self.title}. {self._told()}", quote=True)
        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{label}">',
            f"<style>{_STYLE}</style>",
            # its own paper: readable whatever colour the page around it has
            f'<rect class="page" width="{_WIDTH}" height="{height}" rx="10"/>',
            *self._heading(),
            *_grid(ticks),
            *bars,
            f'<path class="line" d="M{_LEFT} {_y(1, ticks[-1]):.1f}H{_WIDTH - _RIGHT}"/>',
            *labels,
            "</svg>",
        ]
        return "\n".join(lines) + "\n"

    def _told(self) -> str:
        """The same in words, for those who cannot see it."""
        return " ".join(
            f"{one.name}: "
            + ", ".join(
                f"{group} {_label(v)}" for group, v in zip(self.groups, one.values, strict=True) if v is not None
            )
            + "."
            for one in self.series
        )

    def _heading(self) -> list[str]:
        parts = [_text(_MARGIN, 38, "title", self.title), _text(_MARGIN, 61, "note", self.note)]
        x = _MARGIN
        for nth, one in enumerate(self.series):
            parts.append(f'<rect class="s{nth}" x="{x}" y="80" width="12" height="12" rx="2"/>')
            parts.append(_text(x + 18, 91, "note", one.name))
            x += 42 + round(6.9 * len(one.name))
        parts.append(f'<path class="line" d="M{x} 86h24"/>')
        parts.append(_text(x + 31, 91, "note", self.line))
        return parts

    def _bars(self, top: float) -> tuple[list[str], list[str]]:
        """The bars, and what is written at them: that must lie over the line."""
        room = (_WIDTH - _LEFT - _RIGHT) / len(self.groups)
        width = min(42.0, room * 0.8 / len(self.series))
        bars, labels = list[str](), list[str]()
        for nth, group in enumerate(self.groups):
            middle = _LEFT + room * (nth + 0.5)
            labels.append(_text(middle, _TOP + _HEIGHT + 26, "group", group))
            x = middle - width * len(self.series) / 2
            for number, one in enumerate(self.series):
                value = one.values[nth]
                if value is not None:
                    y = _y(value, top)
                    tall = max(1.0, _TOP + _HEIGHT - y)
                    at = f'x="{x + 2:.1f}" y="{y:.1f}" width="{width - 4:.1f}" height="{tall:.1f}"'
                    bars.append(f'<rect class="s{number}" {at} rx="2"/>')
                    labels.append(_text(x + width / 2, y - 6, "value", _label(value)))
                x += width
        return bars, labels


def _grid(ticks: Sequence[float]) -> list[str]:
    parts = []
    for tick in ticks:
        y = _y(tick, ticks[-1])
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 10, y + 4, "tick", f"{tick:g}"))
    return parts


def _y(value: float, top: float) -> float:
    return _TOP + _HEIGHT * (1 - value / top)


def _ticks(highest: float) -> list[float]:
    """The marks of the scale, from 0 past the highest bar and its label; 1 is always one of them."""
    step = next(step for step in (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, highest) if highest * 1.08 <= 6 * step)
    count = int(highest * 1.08 / step) + 1
    return [nth * step for nth in range(count + 1)]


def _label(value: float) -> str:
    return f"{value:.3f}" if value < 0.02 else f"{value:.2f}"


def _text(x: float, y: float, kind: str, text: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
