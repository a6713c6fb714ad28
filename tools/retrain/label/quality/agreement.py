"""How much people agree: Cohen's kappa of each two of them, over all answers and tag by tag. Pure.

Only what people said by themselves counts: of each the newest answer, without reviews, which were made knowing what
others say, without what was imported, and without images asked again to measure the labeller. Somebody unsure makes no
claim about the image: it is counted, and left out of kappa. Junk and "none of these" are answers like any tag.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from retrain.judging.chances import Share
from retrain.labels import BLIND, GRID, SUGGESTED, TAG, UNSURE, Answer

Said = TypeVar("Said", bound=Hashable)
_Both = Counter[tuple[tuple[str, tuple[str, ...]], tuple[str, tuple[str, ...]]]]  # what two said, and how often


@dataclass(frozen=True, slots=True)
class Kappa:
    """How much better than chance two agree: 1 always, 0 as if by lot, below 0 worse. None where nothing can tell.

    `low` and `high` are its 95 % interval: Wilson's of the agreement, set against the agreement that chance explains.
    (The usual formula with a standard error claims certainty where a few images are all alike.)
    """

    agreed: Share
    chance: float

    @property
    def value(self) -> float | None:
        """Kappa; None without images, and where both only ever gave one and the same answer: all may be chance."""
        return self._of(self.agreed.value) if self.agreed.value is not None else None

    @property
    def low(self) -> float | None:
        """The lower end of its interval."""
        return self._of(self.agreed.low) if self.agreed.of else None

    @property
    def high(self) -> float | None:
        """The upper end of its interval."""
        return self._of(self.agreed.high) if self.agreed.of else None

    @property
    def undefined(self) -> str:
        """Why there is no value: `no_images`, `one_answer`; empty where there is one."""
        if not self.agreed.of:
            return "no_images"
        return "one_answer" if self.value is None else ""

    def _of(self, share: float) -> float | None:
        return None if self.chance >= 1 else max(-1.0, (share - self.chance) / (1 - self.chance))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two people who answered the same images: over all answers, and for each tag either of them used.

    `unsure`: images of both that at least one was unsure about; they are in no kappa.
    """

    one: str
    other: str
    kappa: Kappa
    tags: Mapping[str, Kappa]
    unsure: int = 0


@dataclass(frozen=True, slots=True)
class Agreement:
    """All pairs, those with the most images first, and each tag over all pairs together."""

    pairs: tuple[Pair, ...] = ()
    tags: Mapping[str, Kappa] | None = None
    images: int = 0
    """Those that two people or more have answered."""


def own(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """Of the answers to one image, oldest first and none taken back, what each person said by themselves; by name."""
    newest = {answer.by: answer for answer in answers if answer.how in (SUGGESTED, BLIND, GRID)}
    return tuple(newest[by] for by in sorted(newest))


def agreement(images: Iterable[Iterable[Answer]]) -> Agreement:
    """How much each two people agree, from the answers to each image; those that one alone answered tell nothing."""
    together: defaultdict[tuple[str, str], _Both] = defaultdict(Counter)
    several = 0
    for given in images:
        answers = own(given)
        several += len(answers) > 1
        for one, other in combinations(answers, 2):
            together[one.by, other.by][one.says, other.says] += 1
    pairs = [_pair(one, other, answers) for (one, other), answers in together.items()]
    pairs.sort(key=lambda pair: (-pair.kappa.agreed.of, pair.one, pair.other))
    return Agreement(tuple(pairs), _over_all(together.values()), several)


def kappa(table: Mapping[tuple[Said, Said], int]) -> Kappa:
    """Cohen's kappa of how often one person said this and the other that."""
    images = sum(table.values())
    agreed = sum(count for (one, other), count in table.items() if one == other)
    ones, others = Counter[Said](), Counter[Said]()
    for (one, other), count in table.items():
        ones[one] += count
        others[other] += count
    by_chance = sum(count * others[said] for said, count in ones.items())
    return Kappa(Share(agreed, images), by_chance / images**2 if images else 0.0)


def _pair(one: str, other: str, answers: _Both) -> Pair:
    sure = _sure(answers)
    tags = {tag: kappa(_of_tag(tag, sure)) for tag in _tags(sure)}
    return Pair(one, other, kappa(sure), tags, answers.total() - sure.total())


def _over_all(pairs: Iterable[_Both]) -> dict[str, Kappa]:
    """Each tag with the tables of all pairs added up."""
    sure = sum(map(_sure, pairs), _Both())
    return {tag: kappa(_of_tag(tag, sure)) for tag in _tags(sure)}


def _sure(answers: _Both) -> _Both:
    return _Both({both: n for both, n in answers.items() if not any(kind == UNSURE for kind, _ in both)})


def _tags(answers: _Both) -> list[str]:
    return sorted({tag for both in answers for kind, tags in both if kind == TAG for tag in tags})


def _of_tag(tag: str, answers: _Both) -> Counter[tuple[bool, bool]]:
    """The tag against all the rest."""
    counts = Counter[tuple[bool, bool]]()
    for ((_, one), (_, other)), n in answers.items():
        counts[tag in one, tag in other] += n
    return counts
