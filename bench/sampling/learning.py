"""Days of choosing, labelling and training, and how good the model is after each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.sampling.choosing import Choice
from bench.sampling.pictures import Frame, plain
from bench.sampling.stream import Season
from ripeloop.prediction import Prediction
from trainer.learning.calibration import Matrix, softmax
from trainer.learning.crossvalidation import train_head
from trainer.learning.head import Head


@dataclass(frozen=True, slots=True)
class Turn:
    """After a training: the labels it had, how many things they show, and the share of held-out images it has right."""

    labels: int
    things: int
    accuracy: float


@dataclass(frozen=True, slots=True)
class Course:
    """The turns of one season; the first is before the first day. `chosen` is how many images each day gave."""

    turns: Sequence[Turn]
    chosen: Sequence[int]


def course(season: Season, choice: Choice, seed: int) -> Course:
    """What becomes of a season where `choice` says which images are labelled."""
    tags = sorted({frame.tag for frame in season.first})
    rng = np.random.default_rng([seed, 1])
    labelled = list(season.first)
    head = _trained(labelled, tags, seed)
    turns, chosen = [_turn(head, labelled, season.held_out, tags)], []
    for day, frames in enumerate(season.days):
        answers = [
            [Prediction(tag, p) for tag, p in zip(tags, row, strict=True)] for row in _asked(head, frames).tolist()
        ]
        some = choice.of_day(day, frames, answers, rng)
        chosen.append(len(some))
        labelled += some
        head = _trained(labelled, tags, seed)
        turns.append(_turn(head, labelled, season.held_out, tags))
    return Course(turns, chosen)


def _trained(labelled: Sequence[Frame], tags: Sequence[str], seed: int) -> Head:
    truth = np.array([[frame.tag == tag for tag in tags] for frame in labelled])
    head, _ = train_head((frame.features for frame in labelled), truth, seed=seed)
    return head


def _asked(head: Head, frames: Sequence[Frame]) -> Matrix:
    """Probabilities [frames, tags]: what the exported model answers, its backbone being asked already."""
    return softmax(plain(frames) @ head.weights.astype(np.float64) + head.bias)


def _turn(head: Head, labelled: Sequence[Frame], held_out: Sequence[Frame], tags: Sequence[str]) -> Turn:
    right = _asked(head, held_out).argmax(axis=1) == [tags.index(frame.tag) for frame in held_out]
    return Turn(len(labelled), len({frame.thing for frame in labelled}), float(right.mean()))
