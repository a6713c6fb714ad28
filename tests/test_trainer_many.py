"""Many images: read from a file, in a few looks, in little memory, and learnt from as well as few are."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from test_trainer_head import answers, clouds, mixed, one_hot
from trainer.learning import axes, collected, crossvalidation
from trainer.learning.augment import VIEWS
from trainer.learning.backbone import FEATURE_COUNT
from trainer.learning.collected import Collected
from trainer.learning.crossvalidation import CrossValidated, _Fits, _searched, _settled, train_head
from trainer.learning.head import Head, objective
from trainer.learning.progress import Parts, nobody
from trainer.learning.rows import Block, InFile, Span, spread


def trained(features: np.ndarray, labels: np.ndarray, folder: Path | None = None) -> tuple[Head, CrossValidated]:
    return train_head(features, one_hot(labels, labels.max() + 1), folder=folder)


def uneven(rng: np.random.Generator, images: int, size: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Features that differ a lot in some directions and hardly in others, where tags are told apart as well."""
    fixed = np.random.default_rng(0)
    turn = np.linalg.qr(fixed.normal(0, 1, (size, size)))[0]
    steps = np.arange(1, size + 1)
    hidden, telling = rng.normal(0, 1, (images, size)), fixed.normal(0, 2, (size, 3)) / np.sqrt(steps)[:, None]
    labels = (hidden @ telling + rng.gumbel(0, 0.5, (images, 3))).argmax(axis=1)
    rows = (hidden / steps) @ turn
    return np.stack([rows, rows + rng.normal(0, 0.001, rows.shape)], axis=1).astype(np.float16), labels


def fits(images: int) -> _Fits:
    """Of two tags that are hard to tell, in three folds."""
    features, labels = clouds(np.random.default_rng(16), [images // 2] * 2, 0.2)
    order = np.random.default_rng(1).permutation(images)
    with Collected(images) as gathered:
        for place, one in enumerate(features[order]):
            gathered.put(place, one)
        table, _ = gathered.table()
    third = images // 3
    spans = [(start, start + third) for start in (0, third, 2 * third)]
    return _Fits(table, one_hot(labels[order], 2), False, spans, spread(table, spans), Parts(9, nobody))


@pytest.mark.parametrize("independent", [False, True])
def test_rows_in_a_file_give_the_same_head_as_rows_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, independent: bool
) -> None:
    features, truth = mixed(np.random.default_rng(15), 500, [0.5, 0.3], 0.4)
    if not independent:
        truth = one_hot(truth[:, 0].astype(int), 2)
    features = features.astype(np.float16)
    head, figures = train_head(features, truth, independent=independent)
    monkeypatch.setattr(collected, "IN_MEMORY", 100)
    in_file, same = train_head(features, truth, independent=independent, folder=tmp_path)
    np.testing.assert_allclose(in_file.weights, head.weights, atol=1e-4 * np.abs(head.weights).max())
    np.testing.assert_allclose(same.probabilities, figures.probabilities, atol=1e-4)
    again, _ = train_head(features, truth, independent=independent, folder=tmp_path)
    assert again.weights.tobytes() == in_file.weights.tobytes()
    assert list(tmp_path.iterdir()) == []


def test_four_times_the_images_are_looked_at_no_more_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    class Counted(InFile):
        def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[int, Block]]:
            for first, rows in super().blocks(spans):
                looked_at.append(len(rows))
                yield first, rows

    monkeypatch.setattr(collected, "InFile", Counted)
    monkeypatch.setattr(collected, "IN_MEMORY", 100)
    monkeypatch.setattr(crossvalidation, "SEARCHED", 100)
    looks: dict[int, float] = {}
    for images in (400, 1600):
        features, labels = uneven(np.random.default_rng(19), images)
        looked_at.clear()
        trained(features, labels, tmp_path)
        looks[images] = sum(looked_at) / images
    assert looks[400] < 180  # for all folds and penalties together
    assert looks[1600] < 1.3 * looks[400]


def test_a_penalty_chosen_on_some_images_serves_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(np.random.default_rng(16), [400, 400], 0.2)
    _, figures = trained(features, labels)
    monkeypatch.setattr(crossvalidation, "SEARCHED", 200)
    head, fewer = trained(features, labels)
    assert fewer.probabilities.shape == (800, 2)
    assert fewer.accuracy == pytest.approx(figures.accuracy, abs=0.02)
    unseen, truth = clouds(np.random.default_rng(17), [1000] * 2, 0.2)
    assert (answers(head, unseen).argmax(axis=1) == truth).mean() == pytest.approx(fewer.accuracy, abs=0.04)


def test_the_axes_of_a_sample_serve_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(np.random.default_rng(20), [200] * 3, 0.15, size=300)
    _, figures = trained(features, labels)
    monkeypatch.setattr(axes, "MOST", 200)
    head, fewer = trained(features, labels)
    assert fewer.accuracy == pytest.approx(figures.accuracy, abs=0.03)
    unseen, truth = clouds(np.random.default_rng(21), [500] * 3, 0.15, size=300)
    assert (answers(head, unseen).argmax(axis=1) == truth).mean() == pytest.approx(fewer.accuracy, abs=0.04)


def test_what_follows_the_search_begins_where_the_best_penalty_ended() -> None:
    three = fits(300)
    penalties, _ = _searched(three)
    aim = three.aim(three.spans[1:], penalties)
    ((_, slopes),) = objective([three.starts[0]], three.table, [aim])
    assert np.abs(slopes).max() < 1e-3


@pytest.mark.parametrize("begun", [3e-6, 3e-3])
def test_a_penalty_that_was_too_weak_or_too_strong_for_all_images_is_set_right(begun: float) -> None:
    three = fits(300)
    wanted, best = _searched(three)
    three.starts = []
    penalties, judged = _settled(three, np.full(2, begun))
    assert judged.losses[0] < best.losses[0] + 0.003
    assert penalties[0] == pytest.approx(wanted[0], rel=9)


def test_the_bar_moves_within_a_fit_and_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(np.random.default_rng(16), [150, 150], 0.2)
    for searched in (150, 149):  # up to twice as many images as are searched are searched at once
        told: list[tuple[int, int]] = []
        monkeypatch.setattr(crossvalidation, "SEARCHED", searched)
        train_head(features, one_hot(labels, 2), told=lambda *done, told=told: told.append(done))
        assert told[0] == (0, 100)
        assert told[-1] == (100, 100)
        assert told == sorted(set(told))
        assert len(told) > 20  # of some ten fits


def test_the_rows_of_a_thousand_images_need_little_memory() -> None:
    features = np.random.default_rng(10).random((1000, 1, FEATURE_COUNT), np.float32).astype(np.float16)
    features = features.repeat(len(VIEWS), axis=1)
    tracemalloc.start()
    with Collected(1000) as gathered:
        for place, one in enumerate(features):
            gathered.put(place, one)
        table, _ = gathered.table()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    squares = [np.square(rows).sum(axis=-1).mean() for _, rows in table.blocks([(0, 1000)])]
    assert np.mean(squares) == pytest.approx(1, abs=0.2)  # rows of about unit length
    assert peak < 90e6


def test_four_times_the_images_need_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "IN_MEMORY", 100)
    monkeypatch.setattr(axes, "MOST", 200)
    one, peaks = np.random.default_rng(10).random((2, 300)).astype(np.float16), []
    for images in (1000, 4000):
        tracemalloc.start()
        with Collected(images, tmp_path) as gathered:
            for place in range(images):
                gathered.put(place, one + np.float16(place % 2))
            table, _ = gathered.table()
            assert sum(len(rows) for _, rows in table.blocks([(0, 200), (500, images)])) == images - 300
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000
    assert list(tmp_path.iterdir()) == []
