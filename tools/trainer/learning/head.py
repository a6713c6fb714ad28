"""The last layer: logistic regression on frozen features, its penalty chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.learning.lbfgs import minimise
from trainer.learning.losses import Loss
from trainer.learning.rows import Block, Span, Table, Vector

# strongest first; each next fit starts where the last one ended
PENALTIES = (3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6)

Told = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Head:
    """Logits are `features @ weights + bias`: weights [features, tags], bias [tags], calibrated.

    They become probabilities by softmax, or where tags are `independent` each by its own sigmoid.
    """

    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    independent: bool = False


def fit(table: Table, spans: Sequence[Span], loss: Loss, penalties: Vector, start: Vector | None = None) -> Vector:
    """Packed weights and bias where `loss` plus half of each tag's penalty times its squared weights is least."""
    size = (table.shape[2] + 1) * len(penalties)
    return minimise(
        lambda packed: objective(packed, table, spans, loss, penalties), np.zeros(size) if start is None else start
    )


def objective(
    packed: Vector, table: Table, spans: Sequence[Span], loss: Loss, penalties: Vector
) -> tuple[float, Vector]:
    """The value to minimise and its gradient, at `packed`."""
    exact_weights, exact_bias = unpacked(packed, len(penalties))
    total, slopes, bias_slopes = 0.0, penalties * exact_weights, np.zeros(len(penalties))
    weights: Block | None = None
    for first, rows in table.blocks(spans):
        flat = rows.reshape(-1, rows.shape[2])
        if weights is None:
            weights = exact_weights.astype(rows.dtype)
        logits = flat @ weights
        logits += exact_bias.astype(rows.dtype)
        total += float(loss.errors(logits.reshape(*rows.shape[:2], -1), first).sum())
        slopes += flat.T @ logits
        bias_slopes += logits.sum(axis=0)
    total += float((penalties * (exact_weights**2).sum(axis=0)).sum()) / 2
    return total, np.concatenate([slopes.ravel(), bias_slopes])


def answers(packed: Vector, table: Table, span: Span, tags: int) -> Vector:
    """Logits [images, tags] of the images themselves, not of their other views."""
    weights, bias = unpacked(packed, tags)
    parts = [rows[:, 0] @ weights.astype(rows.dtype) + bias for _, rows in table.blocks([span])]
    return np.concatenate(parts) if parts else np.empty((0, tags))


def unpacked(packed: Vector, tags: int) -> tuple[Vector, Vector]:
    """Weights [size, tags] and bias [tags]."""
    return packed[:-tags].reshape(-1, tags), packed[-tags:]
