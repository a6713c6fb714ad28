"""What a person sees of a judgement, and of a package, on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from retrain import terminal
from retrain.judging.chances import Share
from retrain.judging.holdout import LeftOut
from retrain.judging.judge import BETTER, NOT_ENOUGH, SAME, WORSE, Flip, Judged, Judgement
from retrain.package.packaging import Built
from retrain.shown import DASH, changed, percent, plain, points

MOST_ROWS = 20
COLOURS = {BETTER: "green", SAME: "yellow", WORSE: "red", NOT_ENOUGH: "yellow"}


def show_judgement(found: Judgement) -> None:
    """The verdict first, then the figures side by side, the tags, the images that changed, and what was left out."""
    console = terminal.console()
    console.print(Text(found.verdict, f"bold {COLOURS[found.verdict]}"))
    for sentence in found.because:
        console.print(_text(sentence))
    for word, tags in (("new tags", found.new_tags), ("tags it does not know any more", found.removed_tags)):
        if tags:
            console.print(_text(f"{word}: {', '.join(tags)}"))
    console.print(_overall(found))
    console.print(_by_tag(found))
    _show_flips(console, found.flips)
    _show_left_out(console, found.left_out)


def show_package(built: Built, wanted: Mapping[str, str]) -> None:
    """What went in, and what the twin is told."""
    console = terminal.console()
    table = Table("package", _column(built.path.name))
    table.add_row("size", f"{built.path.stat().st_size:,} bytes")
    table.add_row("golden images", str(built.golden))
    value = built.threshold.confidence_below
    table.add_row("flagged below a confidence of", "as the device's flags say" if value is None else f"{value:.4g}")
    table.add_row("", _text(built.threshold.reason))
    table.add_row("validated on", f"{built.validation.images} images")
    table.add_row("signed", "yes" if "signature" in wanted else "no: devices with a --model-key refuse it")
    console.print(table)
    _show_left_out(console, built.left_out)
    console.print("the twin's desired `model`, with the url of your storage:")
    sys.stdout.write(json.dumps({"model": dict(wanted) | {"url": "https://…"}}, indent=2, ensure_ascii=False) + "\n")


def _overall(found: Judgement) -> Table:
    table = Table(f"{found.images} images", "active", "candidate", "")
    for column in table.columns[1:]:
        column.justify = "right"
    active, candidate = found.active, found.candidate
    low, high = found.paired.interval
    table.add_row("version", _text(active.version), _text(candidate.version), "")
    change = DASH
    if found.images:
        change = f"{points(found.paired.difference)} ({points(low)} to {points(high)}), p = {found.paired.p:.3g}"
    table.add_row("accuracy", *(_share(one.figures.accuracy) for one in (active, candidate)), change)
    table.add_row("accuracy in the field, audits", *map(_field, (active, candidate)), "")
    for name, values in (
        ("calibration error", [one.figures.calibration_error if found.images else None for one in (active, candidate)]),
        ("Brier score", [one.figures.brier for one in (active, candidate)]),
        ("log loss", [one.figures.log_loss for one in (active, candidate)]),
    ):
        table.add_row(name, *(DASH if value is None else f"{value:.3f}" for value in values), "")
    return table


def _by_tag(found: Judgement) -> Table:
    table = Table("tag", "images", "found, active", "found, candidate", "gained, lost", "right when said, active",
                  "right when said, candidate")  # fmt: skip
    for column in table.columns[1:]:
        column.justify = "right"
    for before, after in zip(found.active.figures.tags, found.candidate.figures.tags, strict=True):
        paired = found.by_tag[before.tag]
        cells = [_share(row.recall) if row.known else "not known" for row in (before, after)]
        sure = [_share(row.precision) if row.known else "" for row in (before, after)]
        table.add_row(_text(before.tag), str(paired.images), *cells, changed(paired.gained, paired.lost), *sure)
    return table


def _show_flips(console: Console, flips: Sequence[Flip]) -> None:
    if not flips:
        return
    table = Table(f"{len(flips)} images changed", "is", "active said", "candidate says", "")
    for flip in sorted(flips, key=lambda flip: flip.kind != WORSE)[:MOST_ROWS]:
        case = flip.answered.case
        said = [_text(f"{one.tag} {one.probability:.2f}") for one in (flip.before, flip.after)]
        kind = Text(flip.kind, COLOURS.get(flip.kind, ""))
        table.add_row(_text(case.name), _text(case.tag), *said, kind)
    console.print(table)
    if len(flips) > MOST_ROWS:
        console.print(f"… and {len(flips) - MOST_ROWS} more; --report and --json have them all")


def _show_left_out(console: Console, left_out: Sequence[LeftOut]) -> None:
    if not left_out:
        return
    table = Table(f"{len(left_out)} left out", "why")
    for one in left_out[:MOST_ROWS]:
        table.add_row(_text(one.name), _text(one.why))
    console.print(table)


def _share(share: Share) -> str:
    return f"{percent(share.value)} ({percent(share.low, 0)} to {percent(share.high, 0)})" if share.of else DASH


def _field(one: Judged) -> str:
    return f"{_share(one.field)}, {one.field.of} audits" if one.field.of else "no audit samples"


def _column(words: str) -> Column:
    return Column(_text(words))


def _text(words: str, style: str = "") -> Text:
    return Text(plain(words), style)
