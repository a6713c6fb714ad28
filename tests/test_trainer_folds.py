"""Held-out images: each tag in every fold, whatever else an image has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.learning.folds import FOLDS, folds_of, in_fold_order


@given(st.integers(0, 10_000), st.lists(st.floats(0.02, 0.6), min_size=1, max_size=6), st.integers(20, 120))
def test_every_tag_is_spread_over_all_folds(seed: int, shares: list[float], images: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((images, len(shares))) < shares
    truth[:5] = True
    folds = folds_of(truth, rng)
    assert set(folds) <= set(range(FOLDS))
    in_all = np.bincount(folds, minlength=FOLDS)
    assert in_all.max() - in_all.min() <= images / FOLDS / 2 + len(shares)
    rarest = np.bincount(folds[truth[:, truth.sum(axis=0).argmin()]], minlength=FOLDS)
    assert rarest.max() - rarest.min() <= 1
    for tag in range(len(shares)):
        seen_without = [int(truth[folds != fold, tag].sum()) for fold in range(FOLDS)]
        assert min(seen_without) >= 1


def test_one_tag_an_image_is_spread_evenly() -> None:
    truth = np.arange(3) == np.repeat(np.arange(3), [40, 8, 5])[:, None]
    folds = folds_of(truth, np.random.default_rng(0))
    for tag, least in ((0, 10), (1, 2), (2, 1)):
        counts = np.bincount(folds[truth[:, tag]], minlength=FOLDS)
        assert (counts.min(), counts.max() - counts.min() <= 1) == (least, True)


@pytest.mark.parametrize("seed", range(5))
def test_a_tag_that_is_spread_already_with_another_one_is_levelled_out(seed: int) -> None:
    truth = np.zeros((6, 2), bool)
    truth[:4, 0] = truth[2:, 1] = True  # two images have both
    folds = folds_of(truth, np.random.default_rng(seed))
    assert [sorted(folds[truth[:, tag]]) for tag in range(2)] == [[0, 1, 2, 3]] * 2


def test_the_order_is_by_fold_and_mixed_within() -> None:
    folds = np.arange(100) % 4
    order = in_fold_order(folds, np.random.default_rng(0))
    assert sorted(order) == list(range(100))
    assert folds[order].tolist() == sorted(folds.tolist())
    assert order[:25].tolist() != sorted(order[:25].tolist())
