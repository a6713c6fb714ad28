"""Are the probabilities honest? A temperature, or a line for each tag, makes them so, and a figure says how well."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]

_TEMPERATURES = np.exp(np.linspace(-3, 3, 241))
_BINS = 10
_NEWTON_STEPS = 50
_STEEPEST = 20.0  # as the lowest temperature


def softmax(logits: Matrix) -> Matrix:
    """Probabilities along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Matrix = raised / raised.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logits: Matrix) -> Matrix:
    """Each number's own probability."""
    probabilities: Matrix = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probabilities


def log_loss(probabilities: Matrix, labels: Labels) -> float:
    """Mean of -ln p of the true tag, in nats; probabilities [images, tags]."""
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())


def log_losses(probabilities: Matrix, truth: npt.NDArray[np.bool_]) -> Matrix:
    """Mean of -ln p of what is so, tag or no tag, for each tag by itself."""
    losses: Matrix = -np.log(np.where(truth, probabilities, 1 - probabilities) + 1e-12).mean(axis=0)
    return losses


def temperature(logits: Matrix, labels: Labels) -> float:
    """What to divide out-of-fold `logits` [images, tags] by, so that probabilities tell how often they are right.

    The targets are smoothed as Platt did (1999): the true tag gets 1 - 1/(n + 2). Without that, images that can be
    told apart without error drive the temperature to 0, every answer becomes 100 % sure, and nothing is ever flagged.
    """
    images, tags = logits.shape
    doubt = 1 / (images + 2)
    targets = np.full(logits.shape, doubt / (tags - 1))
    targets[np.arange(images), labels] = 1 - doubt
    centred = logits - logits.max(axis=1, keepdims=True)

    def loss(t: float) -> float:
        scaled = centred / t
        return float(-(targets * (scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True)))).sum())

    return float(min(_TEMPERATURES, key=loss))


def line(logits: Matrix, truth: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and shift that make a probability of one tag's out-of-fold `logits` [images]: Platt scaling.

    Source: Platt (1999), with his smoothed targets, by Newton's method. The slope is never negative: an answer that is
    worse than none becomes the tag's share of all images.
    """
    having = int(truth.sum())
    lacking = len(truth) - having
    targets = np.where(truth, (having + 1) / (having + 2), 1 / (lacking + 2))
    share = float(targets.mean())
    prior = 0.0, float(np.log(share / (1 - share)))
    spread = float(logits.std())
    if spread < 1e-9:
        return prior
    x = np.stack([(logits - logits.mean()) / spread, np.ones(len(logits))])
    at = np.array(prior)
    for _ in range(_NEWTON_STEPS):
        p = sigmoid(at @ x)
        slope = x @ (p - targets)
        bend = (x * np.maximum(p * (1 - p), 1e-9)) @ x.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(bend, slope)
        at = at - step * min(1.0, 4 / float(np.abs(step).max() + 1e-12))  # no leap out of where the bend holds
        if np.abs(step).max() < 1e-8:
            break
    steepness = float(at[0]) / spread
    if steepness <= 0:
        return prior
    return min(steepness, _STEEPEST), float(at[1]) - min(steepness, _STEEPEST) * float(logits.mean())


def calibration_error(probabilities: Matrix, labels: Labels) -> float:
    """Expected calibration error (Naeini et al., 2015): mean gap between confidence and accuracy over ten bins."""
    return _gap(probabilities.max(axis=1), probabilities.argmax(axis=1) == labels)


def calibration_error_of_each(probabilities: Matrix, truth: npt.NDArray[np.bool_]) -> float:
    """The same where tags are independent: mean gap between probability and share, over all tags of all images."""
    return _gap(probabilities.ravel(), truth.ravel())


def _gap(sure: Matrix, right: npt.NDArray[np.bool_]) -> float:
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(sure[bins == b].sum() - right[bins == b].sum())) for b in np.unique(bins)]
    return sum(gaps) / len(sure)
