"""The report: the verdict in plain words on top, then everything it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrain.judging.curve import Turn, outlook
from retrain.judging.judge import BETTER, FIRST, NOT_ENOUGH, SAME, WORSE, Judgement
from retrain.judging.report.markup import section, tag_name, words
from retrain.judging.report.pictures import changed
from retrain.judging.report.plots import learning, reliability
from retrain.judging.report.style import STYLE
from retrain.judging.report.tagwise import FEW, confusion, tag_table
from retrain.shown import DASH, percent, points
from retrain.shown import changed as gained_and_lost
from ripeloop.disk import write_whole

MOST_LEFT_OUT = 200

HEADLINES = {
    BETTER: ("better", "The candidate is better.", "It may be released."),
    SAME: ("same", "No difference that counts.", "Keep the active model, unless you have a reason of your own."),
    WORSE: ("worse", "The candidate is worse.", "Do not release it."),
    FIRST: ("unsure", "The first model.", "It stands beside itself here: release it if its figures are good enough."),
    NOT_ENOUGH: ("unsure", "Not enough data to tell.", "Keep the active model, and label more images for the holdout."),
}
# nothing is loaded and nothing runs, whatever stands in the page
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(path: Path, found: Judgement, turns: Sequence[Turn] = ()) -> None:
    """Write the report to `path`, whole or not at all. Raises OSError."""
    write_whole(path, page(found, turns).encode())


def page(found: Judgement, turns: Sequence[Turn] = ()) -> str:
    """The report as one HTML file; it needs nothing else. Reads the images that changed answer."""
    parts = [
        _verdict(found),
        _cards(found),
        _tags(found),
        _changes(found),
        _confusions(found),
        _reliabilities(found),
        _learning(turns),
        _rule(found),
        _left_out(found),
    ]
    title = words(f"{HEADLINES[found.verdict][1]} {found.candidate.version} against {found.active.version}")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>\n" + "\n".join(filter(None, parts)) + "\n"
        "</main></body></html>\n"
    )


def _verdict(found: Judgement) -> str:
    tone, headline, advice = HEADLINES[found.verdict]
    why = "".join(f"<p>{words(sentence)}</p>" for sentence in found.because)
    return (
        f"<header><p class=over>Candidate <b>{words(found.candidate.version)}</b> against the active model "
        f"<b>{words(found.active.version)}</b>, on {found.images:,} held-out images</p>"
        f'<div class="verdict {tone}"><h1>{headline}</h1>{why}<p><b>{advice}</b></p></div></header>'
    )


def _cards(found: Judgement) -> str:
    active, candidate = found.active, found.candidate
    low, high = found.paired.interval
    accuracies = [percent(one.figures.accuracy.value) for one in (active, candidate)]
    field = (f"{percent(active.field.low, 0)} to {percent(active.field.high, 0)}, of {active.field.of} audit samples, "
             "which were kept by lot" if active.field.of else
             "unknown: the holdout has no audit samples, and the other images were chosen for being hard")  # fmt: skip
    errors = [f"{one.figures.calibration_error:.3f}" for one in (active, candidate)]
    losses = ", ".join(
        f"{name} {_number(one)} → {_number(other)}"
        for name, one, other in (("Brier score", active.figures.brier, candidate.figures.brier),
                                 ("log loss", active.figures.log_loss, candidate.figures.log_loss))
    )  # fmt: skip
    cards = (
        ("Accuracy on the holdout", _from_to(*accuracies),
         f"{points(found.paired.difference)} points; with 95 % certainty {points(low)} to {points(high)}"),
        ("Only one was right", gained_and_lost(found.paired.gained, found.paired.lost),
         f"images gained and lost; by chance alone so uneven in {_rare(found.paired.p)} of cases"),
        ("Accuracy in the field, active model", percent(active.field.value), field),
        ("Calibration error", _from_to(*errors), f"0 is best; {losses}"),
    )  # fmt: skip
    made = (
        f"<div class=card><h2>{name}</h2><div class=big>{big}</div><p>{small}</p></div>" for name, big, small in cards
    )
    return f"<div class=cards>{''.join(made)}</div>"


def _tags(found: Judgement) -> str:
    changes = [(word, names) for word, names in (("New: ", found.new_tags), ("Gone: ", found.removed_tags))
               if names]  # fmt: skip
    lead = "How many images of each tag are found, and how many of those called so are right. Lines are 95 % intervals."
    notes = "".join(f"<p>{word}{', '.join(map(tag_name, names))}.</p>" for word, names in changes)
    return section("Tag by tag", lead, notes + tag_table(found))


def _changes(found: Judgement) -> str:
    if not found.flips:
        return section("What changed", "Not one image has another answer now.", "")
    lead = f"{len(found.flips)} of {found.images:,} images have another answer now."
    return section("What changed", lead, changed(found.flips))


def _confusions(found: Judgement) -> str:
    lead = "Rows are what the images are, columns what the model says. All on the diagonal would be perfect."
    both = "".join(
        f"<div>{_named(kind)}<div class=scroll>{confusion(one.figures, found.tags)}</div></div>"
        for kind, one in (("active", found.active), ("candidate", found.candidate))
    )
    side_by_side = f"<div class=two>{both}</div>" if len(found.tags) <= FEW else both
    return section("What is taken for what", lead, side_by_side)


def _reliabilities(found: Judgement) -> str:
    lead = (
        "Of the images it was 80 % sure of, 80 % should be right: points on the dashed line. Below it, the model is "
        "surer than it should be, and mistakes go unflagged. Larger points stand for more images."
    )
    both = "".join(
        f"<div>{_named(kind)}{reliability(one.figures.bins, kind)}</div>"
        for kind, one in (("active", found.active), ("candidate", found.candidate))
    )
    return section("Can its probabilities be believed?", lead, f"<div class=two>{both}</div>")


def _learning(turns: Sequence[Turn]) -> str:
    if not turns:
        return ""
    ordered = sorted(turns, key=lambda turn: turn.labels)
    ahead = outlook(ordered)
    lead = ahead.sentence if ahead else "Three turns with different numbers of labels are needed to tell."
    return section("Is more labelling worth it?", lead, learning(ordered, ahead))


def _rule(found: Judgement) -> str:
    items = "".join(
        f"<li{' class=hit' if sentence.startswith(found.verdict + ':') else ''}>{words(sentence)}</li>"
        for sentence in found.rule.words
    )
    return section("How the verdict is reached", "The first that fits.", f"<ol>{items}</ol>")


def _left_out(found: Judgement) -> str:
    if not found.left_out:
        return ""
    items = "".join(f"<li>{words(one.name)}: {words(one.why)}</li>" for one in found.left_out[:MOST_LEFT_OUT])
    more = len(found.left_out) - MOST_LEFT_OUT
    items += f"<li>… and {more} more</li>" if more > 0 else ""
    return section("Left out", f"{len(found.left_out)} were not judged on.", f"<ul class=out>{items}</ul>")


def _named(kind: str) -> str:
    return f'<h3><span class="key {kind}"></span>{kind.capitalize()}</h3>'


def _from_to(one: str, other: str) -> str:
    return f"<span class=was>{one} →</span> {other}"


def _rare(chance: float) -> str:
    return "less than 0.1 %" if chance < 0.001 else percent(chance)


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"
