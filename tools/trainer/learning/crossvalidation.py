"""Which penalty is best, and how good the fit is: every image is judged by a fit that has not seen it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.learning.calibration import (
    Matrix,
    calibration_error,
    calibration_error_of_each,
    line,
    log_loss,
    log_losses,
    sigmoid,
    softmax,
    temperature,
)
from trainer.learning.folds import Places, folds_of, in_fold_order
from trainer.learning.head import PENALTIES, Head, answers, fit, unpacked
from trainer.learning.losses import Loss, Sigmoid, Softmax, Truth
from trainer.learning.rows import Collected, Scaling, Span, Table, Vector

SEARCHED = 1000
"""With twice as many images and more, the penalty is searched on so many of them first, which is quicker from there on.

The figures are always those of all.
"""

_WEAKEST = 1e-7

Told = Callable[[int, int], None]


def _nobody(_done: int, _of: int) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What held-out images showed.

    `probabilities` [images, tags] are the answers, `folds` [images] who was judged together; `log_loss` is in nats a
    decision, `calibration_error` 0 to 1, `accuracy` the share of images answered right (where tags are independent: of
    decisions, tag or no tag, at one half). `penalties` are those chosen, one a tag.
    """

    probabilities: Matrix
    folds: Places
    accuracy: float
    log_loss: float
    calibration_error: float
    penalties: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    """Out-of-fold answers of one penalty: per tag where tags are independent, else one number for all."""

    probabilities: Matrix
    slope: Vector
    shift: Vector
    losses: Vector


@dataclass(slots=True)
class _Fits:
    """A table with its folds as spans, and where the fit of each fold is so far."""

    table: Table
    truth: Truth
    independent: bool
    spans: list[Span]
    starts: dict[int, Vector] = field(default_factory=dict)

    def answers(self, penalties: Vector, done: Callable[[], None]) -> Matrix:
        """Out-of-fold logits [images of the spans, tags]."""
        logits = []
        for held, span in enumerate(self.spans):
            seen = [other for nth, other in enumerate(self.spans) if nth != held]
            loss = self.loss(seen)
            self.starts[held] = fit(self.table, seen, loss, penalties, self.starts.get(held))
            logits.append(answers(self.starts[held], self.table, span, len(penalties)))
            done()
        return np.concatenate(logits)

    def loss(self, spans: list[Span]) -> Loss:
        """The loss over those images."""
        kind = Sigmoid if self.independent else Softmax
        return kind(self.truth, spans, self.table.shape[1])

    @property
    def seen_truth(self) -> Truth:
        """The truth of the images in the spans, in their order."""
        return np.concatenate([self.truth[start:end] for start, end in self.spans])


def train_head(
    features: Iterable[npt.NDArray[np.floating[Any]]],
    truth: Truth,
    *,
    independent: bool = False,
    seed: int = 0,
    emphasis: Vector | float = 1.0,
    folder: Path | None = None,
    told: Told = _nobody,
) -> tuple[Head, CrossValidated]:
    """The head that fits the `features` [views, size] of each image best, and its cross-validated figures.

    `truth` [images, tags] says which tags each image has: just one, unless tags are `independent`. The first view is
    the image itself; the others are seen in training only. Every tag needs two images or more. `folder` holds what does
    not fit into memory; `told` hears how many steps of how many are done.
    """
    rng = np.random.default_rng(seed)
    folds = folds_of(truth, rng)
    order = in_fold_order(folds, rng)
    place = np.empty(len(order), np.intp)
    place[order] = np.arange(len(order))
    with Collected(len(truth), folder) as collected:
        for nth, one in enumerate(features):
            collected.put(int(place[nth]), one)
        table, scaling = collected.table(emphasis)
        head, judged, penalties = _trained(table, scaling, truth[order], folds[order], independent, told)
    return head, _figures(judged.probabilities[place], truth, folds, independent, penalties)


def _trained(
    table: Table, scaling: Scaling, truth: Truth, folds: Places, independent: bool, told: Told
) -> tuple[Head, _Judged, Vector]:
    ends = np.flatnonzero(np.diff(folds, append=-1)) + 1
    spans = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    large = len(truth) > 2 * SEARCHED
    most = -(-SEARCHED // len(spans))
    searched = [(start, min(end, start + most)) if large else (start, end) for start, end in spans]
    steps = len(spans) * (len(PENALTIES) + (4 if large else 0)) + 1
    done = 0

    def step() -> None:
        nonlocal done
        done = min(done + 1, steps - 1)
        told(done, steps)

    few = _Fits(table, truth, independent, searched)
    penalties, judged = _searched(few, step)
    if large:
        fits = _Fits(table, truth, independent, spans, few.starts)
        penalties, judged = _weakened(fits, penalties, step)
        few.starts = fits.starts
    everything = [(0, len(truth))]
    start = np.mean(list(few.starts.values()), axis=0)
    packed = fit(table, everything, few.loss(everything), penalties, start)
    told(steps, steps)
    weights, bias = scaling.unscaled(*unpacked(packed, truth.shape[1]))
    return (
        Head(
            (weights * judged.slope).astype(np.float32),
            (bias * judged.slope + judged.shift).astype(np.float32),
            independent,
        ),
        judged,
        penalties,
    )


def _searched(fits: _Fits, step: Callable[[], None]) -> tuple[Vector, _Judged]:
    """The best penalty of each tag (or of all), and what it showed; ends after two weaker ones that were worse.

    The `fits` start from the best ones afterwards: what comes next is near those.
    """
    tags = fits.truth.shape[1]
    path: Iterator[tuple[float, _Judged]] = (
        (penalty, _judged(fits, np.full(tags, penalty), step)) for penalty in PENALTIES
    )
    penalty, best = next(path)
    starts = dict(fits.starts)
    penalties = np.full(len(best.losses), penalty)
    worse = np.zeros(len(best.losses), int)
    for penalty, judged in path:
        better = judged.losses < best.losses
        best = _best(best, judged, better)
        penalties = np.where(better, penalty, penalties)
        worse = np.where(better, 0, worse + 1)
        starts = dict(fits.starts) if better.any() else starts
        if (worse >= 2).all():
            break
    fits.starts = starts
    return np.broadcast_to(penalties, (tags,)).copy(), best


def _weakened(fits: _Fits, penalties: Vector, step: Callable[[], None]) -> tuple[Vector, _Judged]:
    """The penalties of some images made to fit all of them: the more there are, the weaker is best."""
    best = _judged(fits, penalties, step)
    starts = dict(fits.starts)
    while penalties.min() > _WEAKEST:
        weaker = penalties / 3
        judged = _judged(fits, weaker, step)
        better = judged.losses < best.losses
        if not better.any():
            break
        best, penalties = _best(best, judged, better), np.where(better, weaker, penalties)
        starts = dict(fits.starts)
    fits.starts = starts
    return penalties, best


def _best(one: _Judged, other: _Judged, better: npt.NDArray[np.bool_]) -> _Judged:
    """Tag by tag the one or, where `better`, the other."""
    return _Judged(*(np.where(better, getattr(other, name), getattr(one, name)) for name in _Judged.__slots__))


def _judged(fits: _Fits, penalties: Vector, step: Callable[[], None]) -> _Judged:
    logits, truth = fits.answers(penalties, step), fits.seen_truth
    if fits.independent:
        lines = np.array([line(logits[:, tag], truth[:, tag]) for tag in range(truth.shape[1])])
        probabilities = sigmoid(logits * lines[:, 0] + lines[:, 1])
        return _Judged(probabilities, lines[:, 0], lines[:, 1], log_losses(probabilities, truth))
    labels = truth.argmax(axis=1)
    heat = temperature(logits, labels)
    probabilities = softmax(logits / heat)
    loss = np.array([log_loss(probabilities, labels)])
    return _Judged(probabilities, np.array([1 / heat]), np.array([0.0]), loss)


def _figures(
    probabilities: Matrix, truth: Truth, folds: Places, independent: bool, penalties: Vector
) -> CrossValidated:
    labels = truth.argmax(axis=1)
    if independent:
        accuracy = float(((probabilities >= 0.5) == truth).mean())
        loss = float(log_losses(probabilities, truth).mean())
        error = calibration_error_of_each(probabilities, truth)
    else:
        accuracy = float((probabilities.argmax(axis=1) == labels).mean())
        loss, error = log_loss(probabilities, labels), calibration_error(probabilities, labels)
    return CrossValidated(probabilities, folds, accuracy, loss, error, tuple(penalties.tolist()))
