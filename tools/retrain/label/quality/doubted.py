"""The labels in doubt, from what the cache knows of each labelled image, and from what a newer model says of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrain.label.container.cache import Look
from retrain.label.quality.asker import Sought
from retrain.label.quality.mistakes import Doubt, Labelled, likely_mistakes
from retrain.label.quality.predicted import Said
from retrain.labels import NONE, REVIEW, TAG

MOST = 50_000
"""Labelled images that are looked at, the newest first."""

# neither reviewed nor looked at twice by the same person: they know by now. `+` keeps to the index by sample
_UNDECIDED = """
    NOT EXISTS (SELECT 1 FROM answers a WHERE a.seq = s.seq AND a.stands = 1 AND +a.how = ?)
    AND (SELECT count(*) FROM answers a WHERE a.seq = s.seq AND +a.by = s.by) < 2"""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A labelled image: its `key`, `id` and label, what the model said of it in the field, and what it is used for."""

    key: str
    id: str
    label: str
    said: Mapping[str, float]
    model: str
    use: str


@dataclass(frozen=True, slots=True)
class Doubted:
    """A label in doubt, whose image is `doubt.id` (a key); `model`: the version of the one that says so, and what."""

    doubt: Doubt
    model: str
    said: Mapping[str, float]


def suspects(look: Look, negative: str, most: int = MOST) -> list[Suspect]:
    """The images whose label may be in doubt; those that are none of the tags count as `negative`."""
    query = f"""
        SELECT key, id, state, said, predictions, model, use FROM samples s
        WHERE state = ? AND instr(said, char(10)) = 0 AND {_UNDECIDED} ORDER BY captured_at DESC LIMIT ?"""  # noqa: S608
    rows = [row for state in (TAG, NONE) for row in look.rows(query, (state, REVIEW, most))]
    return [
        Suspect(
            row["key"],
            row["id"],
            row["said"] or negative,
            dict(json.loads(row["predictions"])),
            row["model"],
            row["use"],
        )
        for row in rows
    ]


def to_ask(look: Look, most: int = MOST) -> list[Sought]:
    """The labelled images that a newer model is asked about: first those no model learned from."""
    query = "SELECT id, blob, use FROM samples WHERE state = ? ORDER BY captured_at DESC LIMIT ?"
    rows = [row for state in (TAG, NONE) for row in look.rows(query, (state, most))]
    order = {"holdout": 0, "": 1, "training": 2}
    rows.sort(key=lambda row: order.get(row["use"], 1))
    return [Sought(row["id"], row["blob"]) for row in rows]


def doubted(images: Sequence[Suspect], newer: Mapping[str, Said], version: str) -> list[Doubted]:
    """The labels in doubt, likeliest mistakes first. `newer`: what the model `version` says, by image id.

    An image that it was not asked about yet is held against what was said of it in the field: that was before it had a
    label, so no model learned from it. The newer one did learn from those that are used for training.
    """
    said = {
        image.key: {one.tag: one.probability for one in answer}
        for image in images
        if isinstance(answer := newer.get(image.id), tuple)
    }
    of_newer = [
        Labelled(image.key, image.label, said[image.key], image.use != "training")
        for image in images
        if image.key in said
    ]
    of_field = [Labelled(image.key, image.label, image.said) for image in images if image.key not in said]
    models = {image.key: (image.model, image.said) for image in images}
    models |= {key: (version, answer) for key, answer in said.items()}
    doubts = [*likely_mistakes(of_newer), *likely_mistakes(of_field)]
    doubts.sort(key=lambda doubt: (not doubt.unseen, -doubt.gap, doubt.id))
    return [Doubted(doubt, *models[doubt.id]) for doubt in doubts]
