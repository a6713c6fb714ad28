"""Are the probabilities honest? One temperature makes them so, and a figure says how well."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Labels = npt.NDArray[np.intp]

_TEMPERATURES = np.exp(np.linspace(-3, 3, 241))
_BINS = 10


def softmax(logits: Matrix) -> Matrix:
    """Probabilities along the last axis."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities: Matrix = raised / raised.sum(axis=-1, keepdims=True)
    return probabilities


def log_loss(probabilities: Matrix, labels: Labels) -> float:
    """Mean of -ln p of the true tag, in nats; probabilities [images, tags]."""
    return float(-np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean())


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


def calibration_error(probabilities: Matrix, labels: Labels) -> float:
    """Expected calibration error (Naeini et al., 2015): mean gap between confidence and accuracy over ten bins."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(float(confidence[bins == b].sum() - right[bins == b].sum())) for b in np.unique(bins)]
    return sum(gaps) / len(labels)
