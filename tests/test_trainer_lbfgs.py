"""The minimiser finds minima whose places are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from trainer.learning.lbfgs import Found, Vector, minimise


def rosenbrock(x: Vector) -> tuple[float, Vector]:
    """A bent valley with its floor's lowest point at (1, 1)."""
    a, b = x
    slopes = np.array([-2 * (1 - a) - 400 * a * (b - a**2), 200 * (b - a**2)])
    return float((1 - a) ** 2 + 100 * (b - a**2) ** 2), slopes


def bowl(x: Vector) -> tuple[float, Vector]:
    """Steep one way and shallow the other; lowest at 0, 1, 2, ..."""
    steepness, centre = np.logspace(0, 2, len(x)), np.arange(len(x))
    return float(steepness @ (x - centre) ** 2) / 2, steepness * (x - centre)


def lowest(objective: Callable[[Vector], Found], start: Vector, reach: Vector | float = 1.0) -> Vector:
    (found,) = minimise(lambda points: {0: objective(points[0])}, [start], [reach], tolerance=1e-9)
    return found


def test_the_end_of_a_bent_valley_is_found() -> None:
    np.testing.assert_allclose(lowest(rosenbrock, np.array([-1.2, 1.0])), [1, 1], atol=1e-3)


def test_the_bottom_of_an_uneven_bowl_is_found() -> None:
    np.testing.assert_allclose(lowest(bowl, np.zeros(30)), np.arange(30), atol=1e-3)


def test_who_knows_how_far_to_reach_needs_two_steps() -> None:
    looks: list[Vector] = []

    def counted(x: Vector) -> Found:
        looks.append(x)
        return bowl(x)

    np.testing.assert_allclose(lowest(counted, np.zeros(30), 1 / np.sqrt(np.logspace(0, 2, 30))), np.arange(30))
    assert len(looks) <= 3


def test_functions_that_go_on_together_end_where_each_does_alone() -> None:
    asked: list[tuple[int, ...]] = []

    def both(points: Mapping[int, Vector]) -> dict[int, Found]:
        asked.append(tuple(points))
        return {nth: (rosenbrock, bowl)[nth](x) for nth, x in points.items()}

    starts = [np.array([-1.2, 1.0]), np.zeros(5)]
    found = minimise(both, starts, [1.0, 1.0], tolerance=1e-9)
    for one, objective, start in zip(found, (rosenbrock, bowl), starts, strict=True):
        assert one.tobytes() == lowest(objective, start).tobytes()
    assert asked[0] == (0, 1)
    assert len(asked[-1]) == 1  # who has ended is not asked again


def test_the_start_is_left_as_it_was() -> None:
    start = np.zeros(5)
    lowest(bowl, start)
    assert not start.any()


def test_at_the_minimum_one_look_is_enough() -> None:
    looks: list[Vector] = []

    def counted(x: Vector) -> Found:
        looks.append(x)
        return bowl(x)

    assert lowest(counted, np.arange(4.0)).tolist() == [0, 1, 2, 3]
    assert len(looks) == 1


def test_a_slope_that_promises_what_is_not_there_ends_where_it_began() -> None:
    assert lowest(lambda x: (float(x @ x), -2 * x - 1), np.array([0.5])).tolist() == [0.5]
