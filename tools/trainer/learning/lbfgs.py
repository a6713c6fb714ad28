"""Minimise a smooth function with L-BFGS: gradients only, a short memory, no dependency.

Source: Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 7.5, with a backtracking (Armijo) step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Objective = Callable[[Vector], tuple[float, Vector]]

_MEMORY = 10
_SUFFICIENT_DECREASE = 1e-4
_SMALLEST_STEP = 1e-10
_NO_PROGRESS = 1e-9


def minimise(objective: Objective, start: Vector, *, steps: int = 150, tolerance: float = 2e-5) -> Vector:
    """Where `objective` (value and gradient at a point) is least, from `start`.

    Ends when the largest slope is below `tolerance`, when the value no longer falls, or after `steps`.
    """
    x = start.astype(np.float64)
    value, gradient = objective(x)
    memory: deque[tuple[Vector, Vector]] = deque(maxlen=_MEMORY)
    for _ in range(steps):
        if np.abs(gradient).max(initial=0.0) < tolerance:
            break
        direction = _downhill(gradient, memory)
        first = 1.0 if memory else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        x_next, value_next, gradient_next = _step(objective, x, value, gradient, direction, first)
        moved, bent = x_next - x, gradient_next - gradient
        if bent @ moved > 1e-12:  # else the curvature is lost in rounding and would spoil the memory
            memory.append((moved, bent))
        done = abs(value - value_next) < _NO_PROGRESS * max(1.0, abs(value))
        x, value, gradient = x_next, value_next, gradient_next
        if done:
            break
    return x


def _step(
    objective: Objective, x: Vector, value: float, gradient: Vector, direction: Vector, length: float
) -> tuple[Vector, float, Vector]:
    """The first point along `direction`, halving from `length`, that lies low enough; with its value and gradient."""
    slope = float(gradient @ direction)
    while length > _SMALLEST_STEP:
        x_next = x + length * direction
        value_next, gradient_next = objective(x_next)
        if value_next <= value + _SUFFICIENT_DECREASE * length * slope:
            return x_next, value_next, gradient_next
        length /= 2
    return x, value, gradient  # nothing lower can be told apart in floating point


def _downhill(gradient: Vector, memory: deque[tuple[Vector, Vector]]) -> Vector:
    """Minus the gradient, bent by the curvature seen in the last steps (the two-loop recursion)."""
    direction = -gradient
    weights = []
    for moved, bent in reversed(memory):
        weight = (moved @ direction) / (bent @ moved)
        direction = direction - weight * bent
        weights.append(weight)
    if memory:
        moved, bent = memory[-1]
        direction = direction * ((moved @ bent) / (bent @ bent))
    for (moved, bent), weight in zip(memory, reversed(weights), strict=True):
        direction = direction + moved * (weight - (bent @ direction) / (bent @ moved))
    return direction
