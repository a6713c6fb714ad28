"""A blob as the cache remembers it. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass, fields
from typing import Any

from retrain.label.asking.chances import chance, wants_two
from retrain.labels import KNOWN, NONE, REVIEW, TAG, UNDONE, UNSURE, Answer, Labels
from retrain.turn.tag.use import Use
from ripeloop.blobname import Blob
from ripeloop.errors import BadRecord
from ripeloop.prediction import format_time
from sampler.keeping.keep import top_tag, usefulness
from sampler.sample import Sample

OPEN, DISPUTED = "open", "disputed"
STATES = (OPEN, TAG, NONE, UNSURE, "junk", DISPUTED)
SHUFFLED = 1 << 53


@dataclass(frozen=True, slots=True)
class Row:
    """One sample.

    `place`: minus its usefulness, so that the least comes first; `asks`: who answered it alone where a second person is
    wanted; `settled`: known well enough to measure people by it.
    """

    key: str
    id: str
    blob: str
    device: str
    camera: str
    reason: str
    tag: str
    model: str
    captured_at: str
    day: str
    size: int
    dhash: str
    predictions: str
    top: float
    place: float
    etag: str
    state: str
    said: str
    by: str
    labelled_at: str
    standing: int
    settled: int
    asks: str
    use: str
    shuffle: int

    def values(self) -> tuple[Any, ...]:
        """In the order of COLUMNS."""
        return astuple(self)


COLUMNS = tuple(field.name for field in fields(Row))


def key_of(blob: str) -> str:
    """The name of a sample in addresses and on pages: the same on every server."""
    return hashlib.blake2b(blob.encode(), digest_size=16).hexdigest()


def row_of(blob: Blob, overlap: float) -> Row | None:
    """The row of a blob; None for one that is no sample. `overlap`: the share that a second person is asked of."""
    try:
        sample = Sample.of_blob(blob)
    except BadRecord:
        return None
    labels = Labels.of(blob.metadata)
    final, standing = labels.final, labels.standing
    captured_at, use = format_time(sample.captured_at), Use.of(blob.metadata)
    return Row(
        key=key_of(blob.name),
        id=sample.id,
        blob=blob.name,
        device=sample.device,
        camera=sample.camera,
        reason=sample.reason,
        tag=top_tag(sample.predictions),
        model=sample.model,
        captured_at=captured_at,
        day=captured_at[:10],
        size=blob.size,
        dhash=sample.dhash,
        predictions=json.dumps([[p.tag, p.probability] for p in sample.predictions]),
        top=max((p.probability for p in sample.predictions), default=0.0),
        place=-usefulness(sample.predictions, sample.reason),
        etag=blob.etag,
        state=state_of(labels),
        said=whole("\n".join(final.says[1])) if final else "",
        by=whole(final.by) if final else "",
        labelled_at=whole(standing[-1].at) if standing else "",
        standing=len(standing),
        settled=int(is_settled(labels)),
        asks=whole(standing[0].by) if len(standing) < needed(sample.id, labels, overlap) and standing else "",
        use=use.kind if use else "",
        shuffle=int(chance("shuffle", blob.name) * SHUFFLED),
    )


def state_of(labels: Labels) -> str:
    """`open`, `disputed`, or the kind of the final answer; unsure where an answer could not be written anyway."""
    if not labels.readable:
        return UNSURE
    if labels.disputed:
        return DISPUTED
    return labels.final.kind if labels.final else OPEN


def is_settled(labels: Labels) -> bool:
    """What the image shows is certain: a review decided it, or two people say the same."""
    final = labels.final
    return final is not None and final.kind in (TAG, NONE) and (final.how == REVIEW or len(labels.standing) > 1)


def needed(id_: str, labels: Labels, overlap: float) -> int:
    """How many people's answers are wanted: one, or two of the overlap's share; a review ends it."""
    reviewed = any(answer.how == REVIEW for answer in labels.standing)
    return 2 if wants_two(id_, overlap) and not reviewed else 1


def answers_of(labels: Labels) -> list[tuple[int, Answer, bool]]:
    """The answers that were not taken back: their place in the history, and whether they stand."""
    left = list[tuple[int, Answer]]()
    for nth, answer in enumerate(labels.answers):
        if answer.kind != UNDONE:
            left.append((nth, answer))
        elif mine := [at for at, (_, one) in enumerate(left) if one.by == answer.by]:
            del left[mine[-1]]
    standing = labels.standing
    return [(nth, answer, answer.how != KNOWN and any(answer is one for one in standing)) for nth, answer in left]


def whole(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can spell and no database takes."""
    return text.encode("utf-8", "replace").decode()
