"""Which images of the holdout a package carries as golden ones: some the model is sure of, some near the border. Pure.

Of each tag they are spread evenly from the least sure answer to the surest, so that they are like the images cameras
post, and mixed, for a device looks at the first of them to choose how it decodes. Answers so near the border that
another processor's rounding may tip them are left out: they would fail a good model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from retrain.judging.answers import Answer, Answered
from retrain.judging.figures import likeliest
from ripeloop.uncertainty import margin


def steady(answer: Answer, tolerance: float) -> bool:
    """Whether no change of each probability within the tolerance makes another tag the likeliest."""
    return margin(answer) > 2 * tolerance


def choose(answered: Sequence[Answered], count: int, tolerance: float, number: int = 0) -> list[Answered]:
    """At most `count` of these, by the answers of model `number`, in the order of their ids."""
    by_tag: dict[str, list[Answered]] = {}
    for one in sorted(answered, key=lambda one: (margin(one.answers[number]), one.id)):
        if steady(one.answers[number], tolerance):
            by_tag.setdefault(likeliest(one.answers[number]).tag, []).append(one)
    spread = [_ends_first(by_tag[tag], count) for tag in sorted(by_tag)]
    in_turn = [one for turn in zip_longest(*spread) for one in turn if one is not None]
    return sorted(in_turn[:count], key=lambda one: one.id)


def _ends_first(ordered: Sequence[Answered], count: int) -> list[Answered]:
    """Both ends, then the middle of what lies between, and so on: every beginning of it is spread evenly."""
    picked = dict.fromkeys((len(ordered) - 1, 0))
    gaps = [(0, len(ordered) - 1)]
    while gaps and len(picked) < count:
        low, high = gaps.pop(0)
        middle = (low + high) // 2
        if low < middle < high:
            picked[middle] = None
            gaps += [(low, middle), (middle, high)]
    return [ordered[place] for place in picked]
