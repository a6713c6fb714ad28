"""Turned along the axes of a sample, rows lose nothing that matters."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.learning import axes
from trainer.learning.axes import Axes
from trainer.learning.collected import Collected


def test_no_more_axes_than_rows_and_what_rows_have_in_common_stays() -> None:
    rows = np.random.default_rng(1).normal(0, 0.2, (20, 50)).astype(np.float32)
    turned = Axes.of(rows).along(rows)
    assert turned.shape == (20, 20)
    np.testing.assert_allclose(turned @ turned.T, rows @ rows.T, atol=1e-4)


def test_axes_stand_upright_on_each_other_and_rows_differ_most_along_the_last() -> None:
    rows = np.random.default_rng(2).normal(0, 0.2, (200, 30)).astype(np.float32)
    found = Axes.of(rows)
    np.testing.assert_allclose(found.columns.T @ found.columns, np.eye(30), atol=1e-4)
    squares = np.square(found.along(rows)).sum(axis=0)
    assert (np.diff(squares) > -1e-4).all()


def test_weights_mean_the_same_before_and_after_they_are_turned_back() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(0, 0.2, (10, 2, 40)).astype(np.float32)
    found = Axes.of(rows.reshape(20, 40))
    weights = rng.normal(0, 1, (20, 3))
    np.testing.assert_allclose(rows @ found.back(weights), found.along(rows) @ weights, atol=1e-4)


def test_rows_that_are_all_nothing_have_an_axis_of_nothing() -> None:
    rows = np.zeros((6, 9), np.float32)
    assert Axes.of(rows).along(rows).tolist() == [[0.0]] * 6


@pytest.mark.parametrize(("most", "expected"), [(100, 39), (30, 30), (15, 15)])
def test_the_sample_is_of_the_images_themselves_first(
    monkeypatch: pytest.MonkeyPatch, most: int, expected: int
) -> None:
    monkeypatch.setattr(axes, "MOST", most)
    rng = np.random.default_rng(4)
    features = rng.normal(0, 1, (20, 2, 60))
    with Collected(20) as collected:
        for place, one in enumerate(features):
            collected.put(place, one)
        table, scaling = collected.table()
    assert table.shape == (20, 2, expected)
    rows = scaling.rows(features.astype(np.float32))
    ((_, turned),) = table.blocks([(0, 20)])
    kept = np.square(turned).sum(axis=-1) / np.square(rows).sum(axis=-1)
    whole = np.isclose(kept, 1, atol=1e-3)
    assert whole[:, 0].sum() == min(most, 20)
    assert whole[:, 1].sum() == max(0, min(most - 20, 20))


def test_of_many_images_no_other_views_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "ENOUGH", 20)
    for images, expected in ((19, 37), (20, 20)):
        with Collected(images) as collected:
            for place, one in enumerate(np.random.default_rng(4).normal(0, 1, (images, 2, 60))):
                collected.put(place, one)
            table, _ = collected.table()
        assert table.shape[2] == expected
