"""The images whose answer changed, each with a small picture of it that no camera's file gets into as it is."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence

from PIL import Image

from classifier.pixels.decoding import decode
from retrain.judging.answers import read
from retrain.judging.judge import BETTER, WORSE, Flip
from retrain.judging.report.markup import tag_name, words
from ripeloop.errors import BadImage
from ripeloop.prediction import Prediction

SIDE = 220  # pixels: sharp on a screen of twice as many
MOST = 48  # of each kind; the page has to be mailed

_ID = re.compile("[0-9a-f]{64}")
KINDS = (
    (WORSE, "Lost", "The active model was right, the candidate is wrong."),
    (BETTER, "Gained", "The active model was wrong, the candidate is right."),
    ("other", "Wrong both times", "Another answer, and still not the right one."),
)


def changed(flips: Sequence[Flip]) -> str:
    """The images that changed answer, by kind, the surest mistakes and the surest gains first."""
    return "".join(_group(title, lead, [flip for flip in flips if flip.kind == kind]) for kind, title, lead in KINDS)


def _group(title: str, lead: str, flips: Sequence[Flip]) -> str:
    if not flips:
        return ""
    shown = "".join(map(_figure, flips[:MOST]))
    more = f"<p class=lead>… and {len(flips) - MOST} more.</p>" if len(flips) > MOST else ""
    return f"<h3>{title}: {len(flips)}</h3><p class=lead>{lead}</p><div class=flips>{shown}</div>{more}"


def _figure(flip: Flip) -> str:
    case = flip.answered.case
    try:
        picture = f'<img src="{thumbnail(read(case.path))}" alt="">'
    except BadImage:  # it was there when the models were asked
        picture = "<div class=gone>the file is gone</div>"
    return (
        f'<figure class="{flip.kind}">{picture}<figcaption><b>{tag_name(case.tag)}</b>'
        f"<span>{_said('before', flip.before, case.tag)}</span><span>{_said('now', flip.after, case.tag)}</span>"
        f'<small title="{words(case.name)}">{words(shortened(case.name))}</small></figcaption></figure>'
    )


def _said(who: str, said: Prediction, truth: str) -> str:
    mark = '<i class="ok">✓</i>' if said.tag == truth else '<i class="no">✗</i>'
    return f"{mark} {who}: {tag_name(said.tag)} {said.probability:.2f}"


def shortened(name: str) -> str:
    """A name as it fits below a picture: of an image's id, 64 digits, the first ten."""
    return _ID.sub(lambda found: f"{found[0][:10]}…", name)


def thumbnail(image: bytes) -> str:
    """A small JPEG of `image` as a data URI, without anything else its file held. Raises BadImage."""
    small = decode(image)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=72, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
