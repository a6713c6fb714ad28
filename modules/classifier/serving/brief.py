"""What a flagged image's record says of a model with thousands of tags: the likeliest ones. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ripeloop.prediction import Prediction

MAX_BYTES = 192 * 1024  # of JSON; a hub takes messages of 256 KB, and the spool records of twice that
_AROUND = 64  # bytes of JSON around a tag: its fields' names and a probability of 8 digits


def brief(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """The likeliest of these that fit into a record, in the order they had; all of them for any usual model."""
    left, fit = MAX_BYTES, set[int]()
    for n in sorted(range(len(predictions)), key=lambda n: -predictions[n].probability):
        left -= len(json.dumps(predictions[n].tag)) + _AROUND
        if left < 0:
            break
        fit.add(n)
    return tuple(one for n, one in enumerate(predictions) if n in fit)
