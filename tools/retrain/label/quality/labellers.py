"""How good each labeller is, how much the model's suggestion steers, and how fast people are. Pure.

A person is measured on images whose answer was known before and that are asked again, hidden among the others. How much
a suggestion steers shows in how often people say the same as the model where they see what it says, and where it is
hidden from them: which images those are is drawn by lot, so that any difference is the suggestion's doing.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median

from retrain.judging.chances import Share
from retrain.labels import BLIND, SUGGESTED, UNSURE, Answer
from ripeloop.prediction import parse_time

PAUSE = 120
"""Seconds between two answers from which on somebody did something else meanwhile."""
FEW = 20
"""Images below which a share says little; the pages say so instead of it."""
ENOUGH = 50
"""Images of each kind, suggestion shown and hidden, below which nothing is concluded from their difference."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One person on images whose answer was known: how many were right, and on how many they were unsure."""

    by: str
    right: Share
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Steered:
    """How often the answer was the model's: where its suggestion was `shown`, and where it was `hidden`."""

    shown: Share
    hidden: Share

    @property
    def difference(self) -> float | None:
        """What it is more where the suggestion is shown, -1 to 1; None where one of the two has no images."""
        if self.shown.value is None or self.hidden.value is None:
            return None
        return self.shown.value - self.hidden.value

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference (Newcombe, 1998, from the two of Wilson)."""
        shown, hidden = self.shown.value, self.hidden.value
        if shown is None or hidden is None:
            return -1.0, 1.0
        down = math.hypot(shown - self.shown.low, self.hidden.high - hidden)
        up = math.hypot(self.shown.high - shown, hidden - self.hidden.low)
        return max(-1.0, shown - hidden - down), min(1.0, shown - hidden + up)

    @property
    def enough(self) -> bool:
        """Whether there are answers enough of both kinds to conclude anything."""
        return min(self.shown.of, self.hidden.of) >= ENOUGH

    @property
    def steers(self) -> bool:
        """Whether more agree where they see the suggestion, by more than chance explains."""
        return self.interval[0] > 0


@dataclass(frozen=True, slots=True)
class Same:
    """So many answers of a person, given in that way (`how`), are (`same`) the model's suggestion, or are not."""

    by: str
    how: str
    same: bool
    answers: int


def measured(pairs: Iterable[tuple[Answer, Answer]]) -> tuple[Measured, ...]:
    """Each person, by name, on pairs of an answer and what was known. Who is unsure is neither right nor wrong."""
    by_person: defaultdict[str, list[tuple[Answer, Answer]]] = defaultdict(list)
    for said, known in pairs:
        by_person[said.by].append((said, known))
    return tuple(_measured(by, both) for by, both in sorted(by_person.items()))


def steered(answers: Iterable[Same]) -> Steered:
    """How much the suggestion steers over all of `answers`. Unsure, junk and none of these are answers unlike it.

    Many answers at once are left out: those who gave them saw one suggestion for all.
    """
    counts = Counter[tuple[str, bool]]()
    for one in answers:
        counts[one.how, one.same] += one.answers
    shown, hidden = (Share(counts[how, True], counts[how, True] + counts[how, False]) for how in (SUGGESTED, BLIND))
    return Steered(shown, hidden)


def steered_by_person(answers: Iterable[Same]) -> dict[str, Steered]:
    """The same of each person, by name."""
    by_person: defaultdict[str, list[Same]] = defaultdict(list)
    for one in answers:
        by_person[one.by].append(one)
    return {by: steered(theirs) for by, theirs in sorted(by_person.items())}


def seconds_each(times: Iterable[str]) -> float | None:
    """How long one person took for half of the answers, or less, in seconds, from when they came (ISO 8601).

    Only times between two answers tell, and neither those of many at once nor pauses longer than `PAUSE`; None without.
    """
    moments = sorted(moment for at in times if (moment := _moment(at)) is not None)
    gaps = [(after - before).total_seconds() for before, after in pairwise(moments)]
    took = [gap for gap in gaps if 0 < gap <= PAUSE]
    return median(took) if took else None


def _measured(by: str, pairs: Sequence[tuple[Answer, Answer]]) -> Measured:
    sure = [(said, known) for said, known in pairs if said.kind != UNSURE]
    right = sum(said.says == known.says for said, known in sure)
    return Measured(by, Share(right, len(sure)), len(pairs) - len(sure))


def _moment(at: str) -> datetime | None:
    try:
        return parse_time(at)
    except ValueError:
        return None
