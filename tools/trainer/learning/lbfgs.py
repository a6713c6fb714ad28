"""Minimise smooth functions with L-BFGS: gradients only, a short memory, no dependency.

Source: Nocedal and Wright, "Numerical Optimization", algorithms 7.4 and 7.5, with a backtracking (Armijo) step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Found = tuple[float, Vector]
"""Value and gradient at a point."""
Objectives = Callable[[Mapping[int, Vector]], Mapping[int, Found]]
"""What some of several functions are, each by its number, at one point each."""

_MEMORY = 10
_SUFFICIENT_DECREASE = 1e-4
_SMALLEST_STEP = 1e-10


def minimise(
    objectives: Objectives,
    starts: Sequence[Vector],
    reaches: Sequence[Vector | float],
    *,
    steps: int = 150,
    tolerance: float = 1e-5,
) -> list[Vector]:
    """Where each function is least, from its start; all go on together, so one look at the data serves them all.

    `reaches` say for each number of a point how far is about as far as for another: 1 over the root of how strongly the
    function bends there. The better they are, the fewer looks are needed. Each function ends when its slopes, in steps
    of that reach, promise less than `tolerance` more, when its value no longer falls, or after `steps`.
    """
    descents = [_descent(start, reach, steps, tolerance) for start, reach in zip(starts, reaches, strict=True)]
    asked = {nth: next(descent) for nth, descent in enumerate(descents)}
    ended = dict[int, Vector]()
    while asked:
        found = objectives(asked)
        still = dict[int, Vector]()
        for nth, one in found.items():
            try:
                still[nth] = descents[nth].send(one)
            except StopIteration as end:
                ended[nth] = end.value
        asked = still
    return [ended[nth] for nth in range(len(descents))]


def _descent(start: Vector, reach: Vector | float, steps: int, tolerance: float) -> Generator[Vector, Found, Vector]:
    """Asks for value and gradient at one point after another; ends with the lowest."""
    x = start / reach
    value, gradient = yield start
    gradient = gradient * reach
    memory: deque[tuple[Vector, Vector]] = deque(maxlen=_MEMORY)
    for _ in range(steps):
        if gradient @ gradient / 2 < tolerance:
            break
        direction = _downhill(gradient, memory)
        slope, lower = float(gradient @ direction), False
        length = 1.0 if memory else min(1.0, 1 / float(np.sqrt(gradient @ gradient)))
        while not lower and length > _SMALLEST_STEP:
            x_next = x + length * direction
            value_next, gradient_next = yield x_next * reach
            lower = value_next <= value + _SUFFICIENT_DECREASE * length * slope
            length /= 2
        if not lower or value_next == value:
            break  # nothing lower can be told apart in floating point
        gradient_next = gradient_next * reach
        moved, bent = x_next - x, gradient_next - gradient
        if bent @ moved > 1e-12:  # else the curvature is lost in rounding and would spoil the memory
            memory.append((moved, bent))
        x, value, gradient = x_next, value_next, gradient_next
    return x * reach


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
