"""The tables about single tags: how well each is found, and what each is taken for."""

from __future__ import annotations

from collections.abc import Sequence

from retrain.judging.figures import Figures, TagRow
from retrain.judging.judge import Judgement
from retrain.judging.report.markup import share, tag_name
from retrain.judging.report.plots import intervals
from retrain.shown import changed

FOUND, RIGHT = "Found", "Right when said"
FEW = 5  # tags whose names fit above their columns
DARK = 0.55  # from this shade on the words are light


def tag_table(found: Judgement) -> str:
    """A row a tag: its images, how many are found, and how many of those called so are right."""
    rows = []
    for before, after in zip(found.active.figures.tags, found.candidate.figures.tags, strict=True):
        one = found.by_tag[before.tag]
        rows.append(
            f"<tr><th>{tag_name(before.tag)}<br>"
            f"<small>{one.images} images, {changed(one.gained, one.lost)}</small></th>"
            f'<td data-name="{FOUND}">{_both(before, after, "recall")}</td>'
            f'<td data-name="{RIGHT}">{_both(before, after, "precision")}</td></tr>'
        )
    head = f"<thead><tr><th>Tag</th><th>{FOUND}</th><th>{RIGHT}</th></tr></thead>"
    key = ('<p class=lead><span class="key active"></span>active &nbsp; '
           '<span class="key candidate"></span>candidate</p>')  # fmt: skip
    return f"{key}<div class=scroll><table class=wide>{head}<tbody>{''.join(rows)}</tbody></table></div>"


def confusion(figures: Figures, tags: Sequence[str]) -> str:
    """True tags against answers; a cell's shade is its share of the row. Many tags are numbered, to fit."""
    many = len(tags) > FEW
    columns = "".join(f"<th scope=col>{number if many else tag_name(tag)}</th>" for number, tag in enumerate(tags, 1))
    rows = []
    for number, row in enumerate(figures.tags, 1):
        name = f"<i>{number}</i> {tag_name(row.tag)}" if many else tag_name(row.tag)
        cells = (_cell(figures.confusion.get((row.tag, said), 0), row.recall.of, row.tag == said) for said in tags)
        rows.append(f"<tr><th scope=row>{name}</th>{''.join(cells)}</tr>")
    kind = "confusion many" if many else "confusion"
    return f'<table class="{kind}"><thead><tr><td></td>{columns}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _cell(count: int, of: int, right: bool) -> str:
    part = count / of if of else 0.0
    kinds = [kind for kind, fits in (("right", right), ("none", not count), ("full", part >= DARK)) if fits]
    return f'<td class="{" ".join(kinds)}" style="--part:{part:.2f}">{count}</td>'


def _both(before: TagRow, after: TagRow, name: str) -> str:
    shares = [getattr(row, name) if row.known else None for row in (before, after)]
    lines = "<br>".join(
        f'<span class="key {kind}"></span>' + ("<small>not known</small>" if one is None else share(one))
        for kind, one in zip(("active", "candidate"), shares, strict=True)
    )
    return f"<div class=both><div>{lines}</div>{intervals(*shares)}</div>"
