"""The demo as one page that needs nothing else: the turns, how right it became, and what pictures taught it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from demo.loop import Told
from demo.material import Material
from demo.plot import lines
from demo.rounds import Example, Round, Undone
from demo.view import outcome
from retrain.judging.chances import Share
from retrain.judging.report.markup import section, share, tag_name, words
from retrain.judging.report.pictures import thumbnail
from retrain.judging.report.style import STYLE
from retrain.shown import DASH, percent
from retrain.turn.tag.use import HOLDOUT, TRAINING
from ripeloop.disk import write_whole
from ripeloop.errors import BadImage

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
USES = {TRAINING: "trained on", HOLDOUT: "held out, to judge by"}
_MORE = """
.key.right{background:var(--candidate)}.key.flagged{background:var(--warn)}
.line.flagged{stroke:var(--warn)}.dot.flagged{fill:var(--warn)}.dot.right{fill:var(--candidate)}
.plot.turns{max-width:640px}@media (max-width:560px){.plot.turns text{font-size:18px}}
.value{font-weight:600;fill:var(--ink)}.value.flagged{fill:var(--warn)}
.legend{display:flex;gap:18px;font-size:14px;color:var(--soft);margin:0 0 8px}
.good{--tone:var(--good)}.bad{--tone:var(--bad)}
.said{border-left:6px solid var(--tone,var(--line));padding:2px 0 2px 16px}
.turnwise td small{white-space:normal;display:block}.turnwise thead th:first-child{width:9%}
.turnwise thead th:nth-child(2){width:13%}.turnwise thead th:nth-child(6),.turnwise thead th:nth-child(7){width:19%}
a{color:var(--candidate)}
.examples{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:14px}
@media (max-width:480px){.examples{grid-template-columns:1fr 1fr;gap:10px}}
.numbers td,.numbers th{padding-right:18px}
.pill{color:var(--tone,var(--soft));font-weight:600}
"""


def write_report(path: Path, material: Material, told: Told) -> None:
    """Write the page to `path`; the judge's pages are linked from beside it. Raises OSError."""
    write_whole(path, _page(path.parent, material, told).encode())


def _page(folder: Path, material: Material, told: Told) -> str:
    parts = [
        _head(material, told),
        section("Turn by turn", "Each stream was answered by one model; what it was unsure of taught the next.",
                _table(told.rounds, folder)),
        section("How often right, how often unsure", _about(material), _plot(told.rounds)),
        *(_examples(one) for one in told.rounds if one.examples),
        _bad(told.undone),
        _account(told),
    ]  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The loop, closed</title><style>{STYLE}{_MORE}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main></body></html>\n"
    )


def _head(material: Material, told: Told) -> str:
    first, last = told.rounds[0], told.rounds[-1]
    released = sum(one.released for one in told.rounds)
    labelled = sum(one.labelled for one in told.rounds)
    posted = len(told.day.answers)
    right = _from_to(first.accuracy, last.accuracy)
    flagged = _from_to(first.flagged_share, last.flagged_share)
    cards = (
        ("Right answers", right, "on the whole stream, at first and at the end"),
        ("Flagged", flagged, "of the pictures; a fifth of all is kept by lot"),
        ("Labelled", str(labelled), f"of {posted} pictures posted; nobody looked at the rest"),
        ("Released", f"{released} of {material.turns}", "turns ended with a better model on the device"),
    )
    boxes = "".join(f'<div class=card><h2>{title}</h2><div class=big>{big}</div><p>{small}</p></div>'
                    for title, big, small in cards)  # fmt: skip
    return (
        "<p class=over>make demo</p><h1>The loop, closed</h1>"
        f"<p class=lead>It began with {words(material.about)}. A camera posted pictures, and the device kept those it "
        "was unsure of, and some by lot. A stand-in who knows the truth labelled them. A model trained on them took "
        f"over where the judge found it better.</p><div class=cards>{boxes}</div>"
    )


def _from_to(before: Share, after: Share) -> str:
    return f'<span class="was">{percent(before.value, 0)} →</span> {percent(after.value, 0)}'


def _table(rounds: Sequence[Round], folder: Path) -> str:
    rows = "".join(
        f"<tr><th>{words(one.name)}<br><small>{words(one.light)}</small></th>"
        f'<td data-name="model">{words(one.model)}</td>'
        f'<td data-name="right"><b>{percent(one.accuracy.value, 0)}</b> <small>of {one.accuracy.of}</small></td>'
        f'<td data-name="flagged">{percent(one.flagged_share.value, 0)}</td>'
        f'<td data-name="field, by lot so far">{share(one.field_estimate) if one.field_estimate else DASH}</td>'
        f'<td data-name="labels">{_labels(one)}</td><td data-name="the judge">{_verdict(one, folder)}</td></tr>'
        for one in rounds
    )
    heads = "".join(f"<th>{head}</th>" for head in ("turn", "model", "right", "flagged", "field, by lot so far",
                                                    "labels", "the judge"))  # fmt: skip
    return f'<table class="wide turnwise"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _labels(one: Round) -> str:
    if one.turn is None:
        return DASH
    return f"{one.labelled} new<small>of all, {one.trained_on} to learn from and {one.held_out} to judge by</small>"


def _verdict(one: Round, folder: Path) -> str:
    if one.turn is None:
        return DASH
    said = words(one.verdict or "was not asked")
    if one.report is not None and one.report.is_relative_to(folder):
        said = f'<a href="{words(one.report.relative_to(folder).as_posix())}">{said}</a>'
    if one.judged is not None:
        before, after = one.judged
        said += f"<small>{percent(before.value, 0)} → {percent(after.value, 0)} of {after.of} held out</small>"
    tone = "good" if one.released else "unsure"
    return f'{said}<span class="pill {tone}">{words(outcome(one))}</span>'


def _about(material: Material) -> str:
    lead = "Of all pictures of each stream."
    if any(stream.light for stream in material.streams):
        lead += " A new light is a new world: a model knows it once somebody labelled pictures of it."
    return lead


def _plot(rounds: Sequence[Round]) -> str:
    names = [(one.name if one.turn is None else f"turn {one.name}", one.light) for one in rounds]
    right = [one.accuracy.value or 0.0 for one in rounds]
    flagged = [one.flagged_share.value or 0.0 for one in rounds]
    legend = ('<p class=legend><span><i class="key right"></i>right</span>'
              '<span><i class="key flagged"></i>flagged</span></p>')  # fmt: skip
    return legend + lines(names, {"right": right, "flagged": flagged})


def _examples(one: Round) -> str:
    figures = "".join(_figure(example) for example in one.examples)
    lead = (
        f"Some of the {one.flagged} flagged ones. {words(one.model).capitalize()} answered, the stand-in put it right."
    )
    light = f", {words(one.light)}" if one.light else ""
    return section(f"Pictures of turn {words(one.name)}{light}", lead, f"<div class=examples>{figures}</div>")


def _figure(one: Example) -> str:
    answer, truth = one.answer, one.answer.picture.tag or ""
    try:
        picture = f'<img src="{thumbnail(answer.picture.path.read_bytes())}" alt="">'
    except (BadImage, OSError):  # it was there when it was posted
        picture = "<div class=gone>the file is gone</div>"
    mark = '<i class="ok">✓</i>' if answer.right else '<i class="no">✗</i>'
    kept = "kept by lot" if one.reason == "audit" else f"flagged: {one.reason.replace('_', ' ')}"
    return (
        f'<figure class="{"better" if answer.right else "worse"}">{picture}<figcaption><b>{tag_name(truth)}</b>'
        f"<span>{mark} answered {tag_name(answer.tag)} {answer.probability:.2f}</span><span>{words(kept)}</span>"
        f"<small>{words(USES.get(one.use, 'not used yet'))}</small></figcaption></figure>"
    )


def _bad(undone: Undone | None) -> str:
    if undone is None:
        return ""
    lead = "It was trained with four of five tags wrong. It is valid and signed, and no judge was asked."
    said = "The device took it back by itself" if undone.by_itself else "Taken back"
    return section(
        "A bad model, on purpose", lead,
        f'<p class="said {"good" if undone.by_itself else "unsure"}"><b>{said}:</b> {words(undone.reason)}.<br>'
        f"<small>{undone.images} pictures were posted meanwhile, and all were answered.</small></p>",
    )  # fmt: skip


def _account(told: Told) -> str:
    account = told.account
    rows = (
        ("posted", len(told.day.answers)),
        ("flagged", sum(account.flagged.values())),
        ("dropped on purpose", sum(account.dropped.values())),
        ("uploaded", len(account.uploaded)),
        ("unaccounted for", account.missing),
    )
    body = "".join(f"<tr><th>{name}</th><td>{count}</td></tr>" for name, count in rows)
    lead = "Flagged is uploaded, or counted as dropped; a repeated frame is a duplicate, and is dropped."
    return section("Where every flagged picture is", lead, f'<table class="numbers"><tbody>{body}</tbody></table>')
