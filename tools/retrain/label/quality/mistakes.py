"""Which labels are likely mistakes: those where a model says something else, and is surer than it usually is. Pure.

The rule is that of confident learning (Northcutt et al., 2021): for each tag, how sure the model is on average of the
images labelled so; a label is in doubt where another tag reaches its own average, and the given one is less likely.
A model that learned from a label repeats it: answers about images it was not trained on tell most, and stand first.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LEAST = 3
"""Images of a tag from which on its average tells; a tag with fewer is held against `SURE`."""
SURE = 0.7


@dataclass(frozen=True, slots=True)
class Labelled:
    """One labelled image: its `tag`, and how likely a model finds each. `unseen`: it did not learn from this label."""

    id: str
    tag: str
    said: Mapping[str, float]
    unseen: bool = True


@dataclass(frozen=True, slots=True)
class Doubt:
    """A label that is likely a mistake: what was said, what the model says, and how sure it is of each."""

    id: str
    label: str
    says: str
    of_label: float
    of_says: float
    unseen: bool = True

    @property
    def gap(self) -> float:
        """How much surer the model is of its own answer, 0 to 1."""
        return self.of_says - self.of_label


def likely_mistakes(images: Iterable[Labelled]) -> list[Doubt]:
    """The labels in doubt: first those the model did not learn from, then by how much surer it is of another tag.

    A label whose tag the model does not know is left out: it could say nothing else.
    """
    known = [one for one in images if one.tag in one.said]
    usual = averages(known)
    doubts = [doubt for one in known if (doubt := _doubt(one, usual)) is not None]
    return sorted(doubts, key=lambda doubt: (not doubt.unseen, -doubt.gap, doubt.id))


def averages(images: Iterable[Labelled]) -> dict[str, float]:
    """How sure the model is, on average, of the images labelled with each tag."""
    said: defaultdict[str, list[float]] = defaultdict(list)
    for one in images:
        said[one.tag].append(one.said[one.tag])
    return {tag: math.fsum(values) / len(values) for tag, values in said.items() if len(values) >= LEAST}


def _doubt(one: Labelled, usual: Mapping[str, float]) -> Doubt | None:
    of_label = one.said[one.tag]
    if max(one.said.values()) <= of_label:
        return None
    others = [(value, tag) for tag, value in one.said.items() if tag != one.tag and value >= usual.get(tag, SURE)]
    if not others or (likeliest := max(others))[0] <= of_label:
        return None
    return Doubt(one.id, one.tag, likeliest[1], of_label, likeliest[0], one.unseen)
