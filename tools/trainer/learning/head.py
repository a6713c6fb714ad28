"""The last layer: logistic regression on frozen features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.learning.lbfgs import Found, minimise
from trainer.learning.losses import Loss
from trainer.learning.rows import Block, Span, Table, Vector

_BENDS = 0.03
"""How strongly the loss bends, as a share of the rows' spread: about the p (1 - p) of images where a fit ends."""


@dataclass(frozen=True, slots=True)
class Head:
    """Logits are `features @ weights + bias`: weights [features, tags], bias [tags], calibrated.

    They become probabilities by softmax, or where tags are `independent` each by its own sigmoid.
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    independent: bool = False


@dataclass(frozen=True, slots=True)
class Aim:
    """What a fit makes least: `loss` over the images of `spans`, and half of `penalties` times squared weights."""

    spans: Sequence[Span]
    loss: Loss
    penalties: Vector


def fit(
    table: Table,
    aims: Sequence[Aim],
    starts: Sequence[Vector],
    spread: Vector,
    passed: Callable[[], None] = lambda: None,
) -> list[Vector]:
    """Packed weights and bias for each aim, near where it is least.

    `starts` is where each begins; where there are none, they begin with nothing. All aims have as many tags, and
    spans that are the same or apart. `spread` [size] is the mean of the rows' squares. `passed` hears of each pass over
    the rows.
    """

    def objectives(points: Mapping[int, Vector]) -> Mapping[int, Found]:
        found = objective(list(points.values()), table, [aims[nth] for nth in points])
        passed()
        return dict(zip(points, found, strict=True))

    tags = len(aims[0].penalties)
    nothing = np.zeros((table.shape[2] + 1) * tags)
    return minimise(objectives, starts or [nothing] * len(aims), [_reach(aim.penalties, spread) for aim in aims])


def _reach(penalties: Vector, spread: Vector) -> Vector:
    """How far each weight and bias goes: far where rows differ little and the penalty is low, too."""
    weights = 1 / np.sqrt(_BENDS * spread[:, None] + penalties)
    return np.concatenate([weights.ravel(), np.full(len(penalties), 1 / np.sqrt(_BENDS))])


def objective(points: Sequence[Vector], table: Table, aims: Sequence[Aim]) -> list[Found]:
    """For each aim the value to make least and its gradient, at its packed point; in one pass over the rows."""
    tags = len(aims[0].penalties)
    parts = [unpacked(point, tags) for point in points]
    totals = np.array([(aim.penalties * w**2).sum() / 2 for aim, (w, _) in zip(aims, parts, strict=True)])
    slopes = np.stack([aim.penalties * weights for aim, (weights, _) in zip(aims, parts, strict=True)], axis=1)
    bias_slopes = np.zeros((len(aims), tags))
    for span in sorted({span for aim in aims for span in aim.spans}):
        seeing = [nth for nth, aim in enumerate(aims) if span in aim.spans]
        weights: Block = np.stack([parts[nth][0] for nth in seeing], axis=1)  # [size, aims, tags]
        bias: Block = np.stack([parts[nth][1] for nth in seeing])
        part = np.zeros((table.shape[2], len(seeing) * tags))
        for first, rows in table.blocks([span]):
            weights, bias = weights.astype(rows.dtype, copy=False), bias.astype(rows.dtype, copy=False)
            flat = rows.reshape(-1, rows.shape[2])
            errors = (flat @ weights.reshape(rows.shape[2], -1)).reshape(len(flat), *bias.shape) + bias
            totals[seeing] += _losses(errors, [aims[nth].loss for nth in seeing], first, rows.shape[1])
            part += flat.T @ errors.reshape(len(flat), -1)
            bias_slopes[seeing] += errors.sum(axis=0)
        slopes[:, seeing] += part.reshape(-1, *bias.shape)
    gradients = [np.concatenate([slopes[:, nth].ravel(), bias_slopes[nth]]) for nth in range(len(aims))]
    return list(zip(totals.tolist(), gradients, strict=True))


def _losses(logits: Block, losses: Sequence[Loss], first: int, views: int) -> Vector:
    """The loss for each aim of the images from `first` on; logits [rows, aims, tags] become slopes in their place."""
    found = np.zeros(len(losses))
    for nth, loss in enumerate(losses):
        one = np.ascontiguousarray(logits[:, nth]).reshape(-1, views, logits.shape[2])
        found[nth] = loss.errors(one, first).sum()
        logits[:, nth] = one.reshape(-1, logits.shape[2])
    return found


def answers(packed: Vector, table: Table, span: Span, tags: int) -> Vector:
    """Logits [images, tags] of the images themselves, not of their other views."""
    weights, bias = unpacked(packed, tags)
    parts = [rows[:, 0] @ weights.astype(rows.dtype) + bias for _, rows in table.blocks([span])]
    return np.concatenate(parts) if parts else np.empty((0, tags))


def unpacked(packed: Vector, tags: int) -> tuple[Vector, Vector]:
    """Weights [size, tags] and bias [tags]."""
    return packed[:-tags].reshape(-1, tags), packed[-tags:]
