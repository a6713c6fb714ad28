"""The minimiser finds minima whose places are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.learning.lbfgs import minimise

Vector = npt.NDArray[np.float64]


def rosenbrock(x: Vector) -> tuple[float, Vector]:
    """A bent valley with its floor's lowest point at (1, 1)."""
    a, b = x
    slopes = np.array([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)])
    return float((1 - a) ** 2 + 100 * (b - a**2) ** 2), slopes


def bowl(x: Vector) -> tuple[float, Vector]:
    """Steep one way and shallow the other; lowest at 0, 1, 2, ..."""
    steepness, centre = np.logspace(0, 2, len(x)), np.arange(len(x))
    return float(steepness @ (x - centre) ** 2) / 2, steepness * (x - centre)


def test_the_end_of_a_bent_valley_is_found() -> None:
    np.testing.assert_allclose(minimise(rosenbrock, np.array([-1.2, 1.0])), [1, 1], atol=1e-3)


def test_the_bottom_of_an_uneven_bowl_is_found() -> None:
    np.testing.assert_allclose(minimise(bowl, np.zeros(30)), np.arange(30), atol=1e-3)


def test_the_start_is_left_as_it_was() -> None:
    start = np.zeros(5)
    minimise(bowl, start)
    assert not start.any()


def test_at_the_minimum_one_look_is_enough() -> None:
    looks = []

    def counted(x: Vector) -> tuple[float, Vector]:
        looks.append(x)
        return bowl(x)

    assert minimise(counted, np.arange(4.0)).tolist() == [0, 1, 2, 3]
    assert len(looks) == 1


def test_a_slope_that_promises_what_is_not_there_ends_where_it_began() -> None:
    assert minimise(lambda x: (float(x @ x), -2 * x - 1), np.array([0.5])).tolist() == [0.5]
