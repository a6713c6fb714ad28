"""What a training may try, and what an `Advanced` one does with its time: more choices, judged by cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainer.learning.augment import MORE_VIEWS, VIEWS
from trainer.learning.backbone import STAGES
from trainer.learning.crossvalidation import CrossValidated
from trainer.learning.head import Head
from trainer.learning.rows import Vector

_EQUAL = (1.0,) * len(STAGES)


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to train: the views that are looked at, and how much each of the backbone's stages counts."""

    views: tuple[str, ...] = VIEWS
    stages: tuple[float, ...] = _EQUAL

    @property
    def emphasis(self) -> Vector:
        """For each feature, how much it counts [FEATURE_COUNT]."""
        # the average and the maximum of a stage's channels
        return np.repeat(self.stages, [2 * channels for channels in STAGES])

    @property
    def name(self) -> str:
        """For a person."""
        return f"{len(self.views)} views, stages " + ":".join(f"{one:g}" for one in self.stages)


USUAL = Choice()
_STAGES = ((1.0, 1.0, 2.0), (1.0, 2.0, 1.0), (2.0, 1.0, 1.0), (1.0, 2.0, 2.0), (2.0, 2.0, 1.0))
_VIEWS = tuple(VIEWS + MORE_VIEWS[:more] for more in (2, 4, 6))
_BETTER = 0.98  # of the log loss; a smaller gain is chance


@dataclass(frozen=True, slots=True)
class Tried:
    """A choice, the head that came of it, and what held-out images showed of it."""

    choice: Choice
    head: Head
    figures: CrossValidated


Try = Callable[[Choice], Tried]


def best_of(attempt: Try, seconds: float, clock: Callable[[], float], first: Choice = USUAL) -> Tried:
    """The `first` choice or, with `seconds` to spend, the best of those that can be tried in that time.

    A choice with more views is begun only where the time will do, by what the others took. The images are held out in
    the same way for all, so their figures compare.
    """
    began = clock()
    best = attempt(first)
    slowest_view = (clock() - began) / len(first.views)
    for stages in _STAGES if seconds else ():
        if clock() - began + slowest_view * len(VIEWS) > seconds:
            return best
        best = _better(best, attempt(Choice(stages=stages)))
    for views in _VIEWS if seconds else ():
        if clock() - began + slowest_view * len(views) > seconds:
            return best
        best = _better(best, attempt(Choice(views, best.choice.stages)))
    return best


def _better(one: Tried, other: Tried) -> Tried:
    return other if other.figures.log_loss < one.figures.log_loss * _BETTER else one
