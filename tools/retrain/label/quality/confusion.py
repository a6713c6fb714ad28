"""A picture of what is taken for what, an SVG file of its own: rows are what images are, columns what a model says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from retrain.judging.report.markup import words

SIDE, GAP, NAMES, TOP = 56, 3, 190, 34
SMALL_SIDE, SMALL_FROM = 34, 9
MOST = 40
"""Tags in the picture; more cannot be read. Those with the most images are drawn."""
DARK = 0.55
_LONGEST = 22

# its own colours: no style of a page reaches into an image; the numbers keep WCAG's AA contrast on every shade
_STYLE = """
:root{--paper:#fff;--ink:#1b1f24;--soft:#535c66;--full:#0a60c4;--on:#fff;--cell:#f5f6f8}
@media (prefers-color-scheme:dark){:root{--paper:#12161b;--ink:#e8edf2;--soft:#a3adb8;--full:#69a9ff;--on:#0b1a2c;
--cell:#1b2128}}
text{font:14px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;fill:var(--ink)}
.paper{fill:var(--paper)}.cell{fill:var(--cell)}.part{fill:var(--full)}.number{text-anchor:middle}
.on{fill:var(--on)}.none{fill:var(--soft)}.right{font-weight:700}.soft{fill:var(--soft)}.end{text-anchor:end}
"""


def picture(tags: Sequence[str], counts: Mapping[tuple[str, str], int], told: str) -> str:
    """The SVG; `told` says what it shows to somebody who cannot see it. Columns are numbered like their rows."""
    shown = _most_seen(tags, counts)
    side = SIDE if len(shown) < SMALL_FROM else SMALL_SIDE
    wide, high = NAMES + side * len(shown) + GAP, TOP + side * len(shown) + GAP
    columns = "".join(
        f'<text class="number soft" x="{NAMES + side * (nth + 0.5):.1f}" y="{TOP - 12}">{nth + 1}</text>'
        for nth in range(len(shown))
    )
    rows = "".join(_row(nth, tag, shown, counts, side) for nth, tag in enumerate(shown))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}">'
        f"<title>{words(told)}</title><style>{_STYLE}</style>"
        f'<rect class="paper" width="{wide}" height="{high}"/>{columns}{rows}</svg>'
    )


def _most_seen(tags: Sequence[str], counts: Mapping[tuple[str, str], int]) -> list[str]:
    """Of too many tags those with the most images, in the order of `tags`; also what is only an answer."""
    every = list(dict.fromkeys((*tags, *sorted({word for pair in counts for word in pair}))))
    seen = dict.fromkeys(every, 0)
    for (truth, said), count in counts.items():
        seen[truth] += count
        seen[said] += count
    kept = set(sorted(every, key=lambda tag: -seen[tag])[:MOST])
    return [tag for tag in every if tag in kept]


def _row(nth: int, tag: str, shown: Sequence[str], counts: Mapping[tuple[str, str], int], side: int) -> str:
    y = TOP + nth * side
    of = sum(count for (truth, _), count in counts.items() if truth == tag)
    middle = y + side / 2 + 5
    name = tag if len(tag) <= _LONGEST else tag[: _LONGEST - 1] + "…"
    title = f"<title>{words(tag)}</title>"
    cells = "".join(
        _cell(NAMES + column * side, y, side, counts.get((tag, said), 0), of, (tag, said))
        for column, said in enumerate(shown)
    )
    return (
        f'<text class="soft end" x="26" y="{middle:.1f}">{nth + 1}</text>'
        f'<text x="36" y="{middle:.1f}">{words(name)}{title}</text>{cells}'
    )


def _cell(x: float, y: float, side: int, count: int, of: int, names: tuple[str, str]) -> str:
    part = count / of if of else 0.0
    tag, said = names
    kinds = [word for word, fits in (("right", tag == said), ("none", not count), ("on", part >= DARK)) if fits]
    box = f'x="{x + GAP}" y="{y + GAP}" width="{side - GAP}" height="{side - GAP}" rx="5"'
    shade = 1.0 if part >= DARK else part * 0.45 / DARK  # lighter than where the words turn, so that both can be read
    return (
        f'<rect class="cell" {box}/><rect class="part" {box} fill-opacity="{shade:.2f}">'
        f"<title>{words(tag)} → {words(said)}: {count} / {of}</title></rect>"
        f'<text class="{" ".join(["number", *kinds])}" x="{x + (side + GAP) / 2:.1f}" y="{y + side / 2 + 6:.1f}">'
        f"{count}</text>"
    )
