"""The last layer: multinomial logistic regression on frozen features, its penalty chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.calibration import Labels, Matrix, calibration_error, log_loss, softmax, temperature
from trainer.lbfgs import Vector, minimise

Features = npt.NDArray[np.float32]
# float32 in training, which is twice as fast and as small; with float64 the objective is exact enough to be checked
Rows = npt.NDArray[np.floating[Any]]

# strongest first; each next fit starts where the last one ended
PENALTIES = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)
FOLDS = 4

_TURNED_BELOW = 0.35  # rows per feature


@dataclass(frozen=True, slots=True)
class Head:
    """Logits are `features @ weights + bias`: weights [features, tags], bias [tags], temperature included."""

    weights: Features
    bias: Features


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """What held-out images showed: every image was judged by a fit that had not seen it.

    `probabilities` [images, tags] are those answers; `log_loss` is in nats, `calibration_error` 0 to 1.
    """

    probabilities: Matrix
    accuracy: float
    log_loss: float
    calibration_error: float
    penalty: float
    temperature: float


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows to fit: one row per view of each image, with its tag's number and its weight (summing to 1)."""

    rows: Rows
    labels: Labels
    weights: Vector


def train_head(features: Features, labels: Labels, tags: int, *, seed: int = 0) -> tuple[Head, CrossValidated]:
    """The head that fits `features` [images, views, features] best, and its cross-validated figures.

    The first view is the image itself; the others are seen in training only. Every tag needs two images or more.
    """
    rows, scaling = _scaled(features)
    folds = _folds(labels, min(FOLDS, int(np.bincount(labels, minlength=tags).min())), np.random.default_rng(seed))
    figures = _cross_validated(rows, labels, tags, folds)
    parameters = fit(_examples(rows, labels, tags), tags, figures.penalty)
    return scaling.unscaled(*_unpacked(parameters, tags), figures.temperature), figures


def fit(examples: Examples, tags: int, penalty: float, start: Vector | None = None) -> Vector:
    """Packed weights and bias where weighted cross-entropy plus `penalty`/2 times the squared weights is least."""
    size = examples.rows.shape[1] * tags + tags
    return minimise(
        lambda packed: objective(packed, examples, tags, penalty), np.zeros(size) if start is None else start
    )


def objective(packed: Vector, examples: Examples, tags: int, penalty: float) -> tuple[float, Vector]:
    """The value to minimise and its gradient, at `packed`."""
    weights, bias = _unpacked(packed.astype(examples.rows.dtype), tags)
    logits = examples.rows @ weights + bias
    logits -= logits.max(axis=1, keepdims=True)
    errors = np.exp(logits)
    totals = errors.sum(axis=1)
    nth = np.arange(len(examples.labels))
    loss = float(examples.weights @ (np.log(totals) - logits[nth, examples.labels]))
    errors /= totals[:, None]
    errors[nth, examples.labels] -= 1
    errors *= examples.weights[:, None]
    slopes = examples.rows.T @ errors + penalty * weights
    gradient = np.concatenate([slopes.ravel(), errors.sum(axis=0)]).astype(np.float64)
    return loss + penalty / 2 * float((weights**2).sum()), gradient


@dataclass(frozen=True, slots=True)
class _Scaling:
    """How raw features became rows: less `mean`, over `scale`, turned by `turn` (or not)."""

    mean: Vector
    scale: Vector
    turn: Rows | None

    def unscaled(self, weights: Rows, bias: Rows, temperature: float) -> Head:
        """The same head for raw features, with the temperature folded in."""
        raw = (weights if self.turn is None else self.turn @ weights) / self.scale[:, None]
        shifted = bias - self.mean @ raw
        return Head((raw / temperature).astype(np.float32), (shifted / temperature).astype(np.float32))


def _scaled(features: Features) -> tuple[Rows, _Scaling]:
    """Rows [images, views, size] of about unit length, in as few dimensions as lose nothing."""
    images, views, size = features.shape
    flat = features.reshape(-1, size)
    mean = flat.mean(axis=0, dtype=np.float64)
    rows: Rows = flat - mean.astype(np.float32)
    variance = np.square(rows).mean(axis=0, dtype=np.float64)
    # a feature that hardly ever fires must not be blown up to the size of the others
    scale = np.sqrt(variance) + 0.05 * np.sqrt(variance.mean() + mean.var())
    scale = np.where(scale > 0, scale, 1) * np.sqrt(size)  # all images may be the same one
    rows /= scale.astype(np.float32)
    turn = None
    # The penalised optimum lies in the span of the rows: fit there, exactly and faster. With many rows the turning
    # saves no time, and takes several times their memory.
    if len(rows) < size * _TURNED_BELOW:
        turn, corner = np.linalg.qr(rows.T)
        rows = np.ascontiguousarray(corner.T)
    return rows.reshape(images, views, -1), _Scaling(mean, scale, turn)


def _examples(rows: Rows, labels: Labels, tags: int) -> Examples:
    """All views as rows. A tag's images weigh 1/sqrt(count) each: rare tags count more, yet not all tags alike."""
    _, views, size = rows.shape
    counts = np.bincount(labels, minlength=tags)
    weights = np.repeat(1 / np.sqrt(counts[labels]), views)
    return Examples(rows.reshape(-1, size), np.repeat(labels, views), weights / weights.sum())


def _folds(labels: Labels, folds: int, rng: np.random.Generator) -> Labels:
    """The fold of each image; every tag is spread evenly over all folds."""
    fold = np.empty(len(labels), np.intp)
    for tag in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == tag))
        fold[members] = np.arange(len(members)) % folds
    return fold


def _cross_validated(rows: Rows, labels: Labels, tags: int, folds: Labels) -> CrossValidated:
    """The figures of the best penalty; the search ends after two weaker ones in a row were worse."""
    path = _path(rows, labels, tags, folds)
    best, worse = next(path), 0
    for figures in path:
        if figures.log_loss < best.log_loss:
            best, worse = figures, 0
        else:
            worse += 1
        if worse == 2:
            break
    return best


def _path(rows: Rows, labels: Labels, tags: int, folds: Labels) -> Iterator[CrossValidated]:
    """The figures of each penalty, strongest first."""
    starts: dict[int, Vector] = {}
    for penalty in PENALTIES:
        logits = np.zeros((len(labels), tags))
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            starts[fold] = fit(_examples(rows[~out], labels[~out], tags), tags, penalty, starts.get(fold))
            weights, bias = _unpacked(starts[fold], tags)
            logits[out] = rows[out, 0] @ weights + bias
        yield _figures(logits, labels, penalty)


def _figures(logits: Matrix, labels: Labels, penalty: float) -> CrossValidated:
    heat = temperature(logits, labels)
    probabilities = softmax(logits / heat)
    return CrossValidated(
        probabilities,
        accuracy=float((probabilities.argmax(axis=1) == labels).mean()),
        log_loss=log_loss(probabilities, labels),
        calibration_error=calibration_error(probabilities, labels),
        penalty=penalty,
        temperature=heat,
    )


def _unpacked(packed: Rows, tags: int) -> tuple[Rows, Rows]:
    return packed[:-tags].reshape(-1, tags), packed[-tags:]
