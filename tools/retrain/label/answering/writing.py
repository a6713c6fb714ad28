"""What an answer does to the labels of its sample. Pure: the same for an answer of now and for one that waited."""

from __future__ import annotations

from dataclasses import dataclass

from retrain.label.asking.chances import is_blind
from retrain.label.container.rows import is_settled, needed
from retrain.labels import BLIND, GRID, KNOWN, REVIEW, SEEN, SUGGESTED, UNDONE, Answer, Labels
from ripeloop.errors import Refused

FIRST, CHECK, DECIDE = "first", "check", "decide"
"""Why a sample was shown: to be labelled, to measure the labeller, to decide what it is."""
DOUBT = "doubt"
"""Why one that nobody disagrees about was shown to be decided: a model doubts it, or somebody was quicker."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one person wants to say of one sample. `seen`: how many entries its history had when it was shown."""

    id: str
    by: str
    kind: str
    tags: tuple[str, ...]
    at: str
    asked: str = FIRST
    seen: int = 0
    grid: bool = False
    admin: bool = False
    predicted: bool = True
    """Whether there was a suggestion to show."""
    shown: bool = False
    """Whether the person knew the suggestion all the same: a filter told it, or the page that was left."""
    doubted: bool = False
    """Whether it was shown by the server to be decided though nobody disagrees (DOUBT)."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Of all images: those a second person is asked of, and those whose suggestion is hidden."""

    overlap: float
    blind: float


@dataclass(frozen=True, slots=True)
class Taken:
    """Somebody was quicker: their answer."""

    theirs: Answer


def length(labels: Labels) -> int:
    """How many entries the history has had."""
    return labels.dropped + len(labels.answers)


def is_in(labels: Labels, by: str, at: str) -> bool:
    """Whether the history holds what that person did at that moment: written already, by a process that was killed."""
    return any(answer.by == by and answer.at == at for answer in labels.answers)


def decided(labels: Labels, wish: Wish, shares: Shares, *, late: bool = False) -> Labels | Taken:
    """The labels with the wish in them, or who was quicker. Raises Refused for what may not be said.

    `late`: it had to wait, so that what the same person said elsewhere since then stands over it.
    """
    others = [answer for answer in labels.standing if answer.by != wish.by]
    mine = [answer for answer in labels.standing if answer.by == wish.by]
    if wish.asked == DECIDE and labels.standing:
        return _reviewed(labels, wish, late=late)
    if wish.asked == CHECK and not mine and is_settled(labels):
        return labels.with_answer(_answer(wish, KNOWN), late=late)
    if mine and mine[-1].how == REVIEW:  # only another review stands over it
        return labels.with_answer(_answer(wish, REVIEW), late=late)
    if mine or len(others) < needed(wish.id, labels, shares.overlap):
        return labels.with_answer(_answer(wish, _how(wish, shares.blind)), late=late)
    return Taken(others[-1])


def undone(labels: Labels, by: str, answered_at: str, at: str) -> Labels | None:
    """The labels without the answer that `by` gave at `answered_at`; None where that is not their newest.

    Empty, it is their newest, whichever that is.
    """
    left = list[Answer]()
    for answer in labels.answers:
        if answer.by == by and answer.kind != UNDONE:
            left.append(answer)
        elif answer.by == by and left:
            left.pop()
    if not left or (answered_at and left[-1].at != answered_at):
        return None
    return labels.undone(by, at)


def _reviewed(labels: Labels, wish: Wish, *, late: bool) -> Labels | Taken:
    """Who took part in a disagreement does not decide it, unless as an admin. A newer word of another goes first."""
    newer = [answer for answer in labels.answers[max(0, wish.seen - labels.dropped) :] if answer.by != wish.by]
    if newer and newer[-1].kind != UNDONE and newer[-1].how != KNOWN:
        return Taken(newer[-1])
    mine = [answer for answer in labels.standing if answer.by == wish.by]
    decided_it = bool(mine) and mine[-1].how == REVIEW
    if not (wish.admin or decided_it or labels.disputed or wish.doubted):
        raise Refused("nobody disagrees about this image: an admin may decide it")
    if mine and not wish.admin and not decided_it:
        if labels.disputed:
            raise Refused("you took part in this disagreement: somebody else decides it")
        return labels.with_answer(_answer(wish, SEEN), late=late)
    return labels.with_answer(_answer(wish, REVIEW), late=late)


def _how(wish: Wish, share: float) -> str:
    if wish.grid:
        return GRID
    hidden = not wish.shown and is_blind(wish.id, wish.by, share)
    return BLIND if hidden or not wish.predicted else SUGGESTED


def _answer(wish: Wish, how: str) -> Answer:
    return Answer(wish.kind, wish.tags, wish.by, wish.at, how)
