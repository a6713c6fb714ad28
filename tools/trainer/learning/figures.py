"""How well an iteration does, from cross-validation: each image was judged by a fit that had not seen it.

The cloud measures some of its figures on images it trained on; here none are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.floating[Any]]
Truth = npt.NDArray[np.bool_]

THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Cross-validated `probabilities` [images, tags], the `folds` [images], and the `truth` [images, tags]."""

    probabilities: Matrix
    folds: npt.NDArray[np.intp]
    truth: Truth


@dataclass(frozen=True, slots=True)
class Figure:
    """Precision and recall at a threshold with their deviation over the folds, and the average precision; all 0 to 1.

    A precision without any answer, or a recall without any image, is 0.
    """

    precision: float
    precision_deviation: float
    recall: float
    recall_deviation: float
    average_precision: float


def save(path: Path, probabilities: Matrix, folds: npt.NDArray[np.intp] | None) -> None:
    """Write what cross-validation said."""
    if folds is None:
        folds = np.zeros(len(probabilities), np.intp)
    with path.open("wb") as file:
        np.savez(file, probabilities=probabilities.astype(np.float32), folds=folds)


def load(path: Path) -> tuple[Matrix, npt.NDArray[np.intp]]:
    """What `save` wrote: probabilities and folds."""
    with np.load(path, allow_pickle=False) as saved:
        return saved["probabilities"], saved["folds"]


def of_tag(evaluation: Evaluation, tag: int, threshold: float) -> Figure:
    """The figures of one tag, by its column."""
    columns = Evaluation(
        evaluation.probabilities[:, tag : tag + 1], evaluation.folds, evaluation.truth[:, tag : tag + 1]
    )
    return _figure(columns, threshold, [average_precision(columns.probabilities[:, 0], columns.truth[:, 0])])


def of_all(evaluation: Evaluation, threshold: float) -> Figure:
    """The figures of all answers together; the average precision is the mean of the tags'."""
    means = [
        average_precision(evaluation.probabilities[:, tag], evaluation.truth[:, tag])
        for tag in range(evaluation.truth.shape[1])
    ]
    return _figure(evaluation, threshold, means)


def average_precision(probabilities: Matrix, truth: Truth) -> float:
    """The area under precision over recall, without interpolation; 0 where no image is so.

    Images with the same probability count together, so that their order says nothing.
    """
    if not truth.any():
        return 0.0
    order = np.argsort(-probabilities, kind="stable")
    right, falling = truth[order], -probabilities[order]
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    last_alike = np.searchsorted(falling, falling, side="right") - 1
    return float(precision[last_alike][right].mean())


def uncertainty(probabilities: Sequence[float], *, multilabel: bool) -> float:
    """The entropy of an answer as a share of the most there could be, 0 to 1."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1.0)
    if multilabel:
        q = np.clip(1 - p, 1e-12, 1.0)
        return float(-(p * np.log(p) + q * np.log(q)).mean() / np.log(2)) if len(p) else 0.0
    return float(-(p * np.log(p)).sum() / np.log(len(p))) if len(p) > 1 else 0.0


def _figure(evaluation: Evaluation, threshold: float, means: Sequence[float]) -> Figure:
    answered = evaluation.probabilities >= threshold
    precision, recall = _both(answered, evaluation.truth)
    by_fold = [
        _both(answered[evaluation.folds == fold], evaluation.truth[evaluation.folds == fold])
        for fold in np.unique(evaluation.folds)
    ]
    deviations = np.std(np.array(by_fold or [(0.0, 0.0)]), axis=0)
    return Figure(precision, float(deviations[0]), recall, float(deviations[1]), float(np.mean(means or [0.0])))


def _both(answered: Truth, truth: Truth) -> tuple[float, float]:
    right = float((answered & truth).sum())
    return right / max(1.0, float(answered.sum())), right / max(1.0, float(truth.sum()))
