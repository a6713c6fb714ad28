"""Which penalty is best, and how good the fit is: every image is judged by a fit that has not seen it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from trainer.learning.collected import Collected, Scaling
from trainer.learning.folds import Places, folds_of, in_fold_order
from trainer.learning.head import Aim, Head, answers, fit, unpacked
from trainer.learning.losses import Loss, Sigmoid, Softmax, Truth
from trainer.learning.progress import Parts, Told, nobody
from trainer.learning.rows import Span, Table, Vector, spread

PENALTIES = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
"""Those searched, strongest first; each next fit starts where the last one ended."""

SEARCHED = 1000
"""With twice as many images and more, the penalty is searched on so many of them first, which is quicker from there on.

The figures are always those of all.
"""

_WEAKEST, _STRONGEST = 1e-8, 1e-2
_NEAR = 4  # penalties that are tried on all images, as a rule


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
    spread: Vector
    parts: Parts
    starts: list[Vector] = field(default_factory=list)

    def answers(self, penalties: Vector) -> Matrix:
        """Out-of-fold logits [images of the spans, tags]."""
        aims = [self.aim([other for other in self.spans if other != held], penalties) for held in self.spans]
        self.starts = fit(self.table, aims, self.starts, self.spread, self.parts.passed)
        told = zip(self.starts, self.spans, strict=True)
        return np.concatenate([answers(start, self.table, span, len(penalties)) for start, span in told])

    def aim(self, spans: list[Span], penalties: Vector) -> Aim:
        """To answer those images right."""
        return Aim(spans, self.loss(spans), penalties)

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
    told: Told = nobody,
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
        parts = Parts(2 + len(PENALTIES) + (_NEAR if _is_large(truth) else 0), told)
        table, scaling = collected.table(emphasis, parts.within)
        parts.ended()
        head, judged, penalties = _trained(table, scaling, truth[order], folds[order], independent, parts)
        parts.left(0)
    return head, _figures(judged.probabilities[place], truth, folds, independent, penalties)


def _is_large(truth: Truth) -> bool:
    return len(truth) > 2 * SEARCHED


def _trained(
    table: Table, scaling: Scaling, truth: Truth, folds: Places, independent: bool, parts: Parts
) -> tuple[Head, _Judged, Vector]:
    ends = np.flatnonzero(np.diff(folds, append=-1)) + 1
    spans = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
    most = -(-SEARCHED // len(spans))
    searched = [(start, min(end, start + most)) if _is_large(truth) else (start, end) for start, end in spans]
    fits = _Fits(table, truth, independent, searched, spread(table, searched), parts)
    penalties, judged = _searched(fits)
    if _is_large(truth):
        parts.left(_NEAR + 1)
        fits.spans = spans
        penalties, judged = _settled(fits, np.maximum(penalties * most * len(spans) / len(truth), _WEAKEST))
    parts.left(1)
    aim = fits.aim([(0, len(truth))], penalties)
    (packed,) = fit(table, [aim], [np.mean(fits.starts, axis=0)], fits.spread, parts.passed)
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


def _searched(fits: _Fits) -> tuple[Vector, _Judged]:
    """The best penalty of each tag (or of all), and what it showed; ends after two weaker ones that were worse.

    The `fits` start from the best ones afterwards: what comes next is near those.
    """
    tags = fits.truth.shape[1]
    path: Iterator[tuple[float, _Judged]] = ((penalty, _judged(fits, np.full(tags, penalty))) for penalty in PENALTIES)
    penalty, best = next(path)
    starts = fits.starts
    penalties = np.full(len(best.losses), penalty)
    worse = np.zeros(len(best.losses), int)
    for penalty, judged in path:
        better = judged.losses < best.losses
        best = _best(best, judged, better)
        penalties = np.where(better, penalty, penalties)
        worse = np.where(better, 0, worse + 1)
        starts = fits.starts if better.any() else starts
        if (worse >= 2).all():
            break
    fits.starts = starts
    return np.broadcast_to(penalties, (tags,)).copy(), best


def _settled(fits: _Fits, penalties: Vector) -> tuple[Vector, _Judged]:
    """The best penalties near those, tried on all images of the `fits`: weaker ones, and where none is better stronger.

    The `fits` start from the best ones afterwards.
    """
    best, starts, first = _judged(fits, penalties), fits.starts, penalties
    for factor in (1 / 3, 3.0):
        moving = penalties == first
        while (moving := moving & _allowed(penalties * factor)).any():
            tried = np.where(moving, penalties * factor, penalties)
            fits.starts = starts
            judged = _judged(fits, tried)
            better = judged.losses < best.losses
            if better.any():
                best, starts = _best(best, judged, better), fits.starts
            moving = moving & better
            penalties = np.where(moving, tried, penalties)
    fits.starts = starts
    return penalties, best


def _allowed(penalties: Vector) -> npt.NDArray[np.bool_]:
    return (penalties >= _WEAKEST) & (penalties <= _STRONGEST)


def _best(one: _Judged, other: _Judged, better: npt.NDArray[np.bool_]) -> _Judged:
    """Tag by tag the one or, where `better`, the other."""
    return _Judged(*(np.where(better, getattr(other, name), getattr(one, name)) for name in _Judged.__slots__))


def _judged(fits: _Fits, penalties: Vector) -> _Judged:
    logits, truth = fits.answers(penalties), fits.seen_truth
    fits.parts.ended()
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
