"""The last layer: it learns what can be learnt, and its figures do not flatter it."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from trainer.learning import crossvalidation
from trainer.learning.augment import VIEWS
from trainer.learning.backbone import FEATURE_COUNT
from trainer.learning.calibration import sigmoid, softmax
from trainer.learning.crossvalidation import CrossValidated, _Fits, _searched, train_head
from trainer.learning.head import PENALTIES, Head, fit, objective
from trainer.learning.losses import Sigmoid, Softmax
from trainer.learning.rows import IN_MEMORY, Collected, InMemory

SIZE = 40


def one_hot(labels: np.ndarray, tags: int) -> np.ndarray:
    return np.arange(tags) == labels[:, None]


def clouds(
    rng: np.random.Generator, counts: list[int], apart: float, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Features [images, 2 views, size] around one centre a tag, and the tags."""
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.random.default_rng(0).normal(0, apart, (len(counts), size))
    images = centres[labels] + rng.normal(0, 1, (len(labels), size))
    views = images[:, None] + rng.normal(0, 0.1, (len(labels), 2, size))
    return (7 + 3 * views).astype(np.float32), labels


def mixed(rng: np.random.Generator, images: int, shares: list[float], apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Features of images that have each tag by itself, by its share; and which have which."""
    truth = rng.random((images, len(shares))) < shares
    directions = np.random.default_rng(0).normal(0, apart, (len(shares), SIZE))
    features = truth @ directions + rng.normal(0, 1, (images, SIZE))
    return np.repeat(features[:, None], 2, axis=1).astype(np.float32), truth


def answers(head: Head, features: np.ndarray) -> np.ndarray:
    logits = (features[:, 0] @ head.weights + head.bias).astype(np.float64)
    return sigmoid(logits) if head.independent else softmax(logits)


def trained(features: np.ndarray, labels: np.ndarray, tags: int) -> tuple[Head, CrossValidated]:
    return train_head(features, one_hot(labels, tags))


@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
def test_the_gradient_is_the_slope_of_the_objective(kind: type[Softmax] | type[Sigmoid]) -> None:
    rng = np.random.default_rng(1)
    table, truth = InMemory(rng.normal(0, 1, (12, 2, 5))), one_hot(rng.integers(0, 3, 12), 3)
    spans = [(0, 4), (6, 12)]
    loss, penalties = kind(truth, spans, 2), np.array([0.1, 0.2, 0.3])
    at = rng.normal(0, 1, 5 * 3 + 3)
    step = 1e-6 * np.eye(len(at))

    def value(packed: np.ndarray) -> float:
        return objective(packed, table, spans, loss, penalties)[0]

    slopes = [(value(at + one) - value(at - one)) / 2e-6 for one in step]
    np.testing.assert_allclose(objective(at, table, spans, loss, penalties)[1], slopes, atol=1e-7)


def test_a_fit_lies_where_the_gradient_is_flat() -> None:
    rng = np.random.default_rng(2)
    table, truth = InMemory(rng.normal(0, 1, (50, 1, 8))), one_hot(rng.integers(0, 4, 50), 4)
    loss, penalties = Softmax(truth, [(0, 50)], 1), np.full(4, 0.01)
    packed = fit(table, [(0, 50)], loss, penalties)
    assert np.abs(objective(packed, table, [(0, 50)], loss, penalties)[1]).max() < 1e-4


@pytest.mark.parametrize("each", [5, 60])  # fewer rows than features, and more
def test_what_lies_apart_is_told_apart(each: int) -> None:
    features, labels = clouds(np.random.default_rng(3), [each] * 3, 2.0)
    head, figures = trained(features, labels, 3)
    assert figures.accuracy == 1
    unseen, truth = clouds(np.random.default_rng(4), [100] * 3, 2.0)
    assert (answers(head, unseen).argmax(axis=1) == truth).mean() > 0.99


def test_a_head_is_as_sure_as_it_is_right_on_unseen_images() -> None:
    features, labels = clouds(np.random.default_rng(5), [80] * 3, 0.25)
    head, figures = trained(features, labels, 3)
    unseen, truth = clouds(np.random.default_rng(6), [1000] * 3, 0.25)
    said = answers(head, unseen)
    accuracy = (said.argmax(axis=1) == truth).mean()
    assert figures.accuracy == pytest.approx(accuracy, abs=0.07)
    assert said.max(axis=1).mean() == pytest.approx(accuracy, abs=0.07)
    assert figures.calibration_error < 0.1


def test_the_figures_of_labels_that_mean_nothing_are_those_of_chance() -> None:
    rng = np.random.default_rng(7)
    features, _ = clouds(rng, [60, 60], 0.0, size=300)
    labels = rng.permutation(np.arange(120) % 4)
    head, figures = trained(features, labels, 4)
    assert (answers(head, features).argmax(axis=1) == labels).mean() > 0.9  # it knows them all by heart
    assert figures.accuracy == pytest.approx(0.25, abs=0.1)
    assert figures.log_loss == pytest.approx(np.log(4), abs=0.1)


def test_a_rare_tag_is_found_more_often_than_its_share_alone_would_have_it() -> None:
    features, labels = clouds(np.random.default_rng(8), [180, 12], 0.12)
    head, figures = trained(features, labels, 2)
    rare = labels == 1
    assert figures.probabilities[rare, 1].mean() > 1.5 * rare.mean()
    assert answers(head, features)[:, 1].mean() > 1.2 * rare.mean()  # a fit without weights says the share


def test_tags_that_come_together_are_each_learnt_and_each_calibrated() -> None:
    features, truth = mixed(np.random.default_rng(11), 300, [0.5, 0.2, 0.05], 0.5)
    head, figures = train_head(features, truth, independent=True)
    unseen, is_so = mixed(np.random.default_rng(12), 3000, [0.5, 0.2, 0.05], 0.5)
    said = answers(head, unseen)
    assert ((said >= 0.5) == is_so).mean(axis=0).min() > 0.85
    np.testing.assert_allclose(said.mean(axis=0), is_so.mean(axis=0), atol=0.04)
    assert figures.accuracy == pytest.approx(((said >= 0.5) == is_so).mean(), abs=0.03)
    assert figures.calibration_error < 0.05
    both = is_so[:, 0] & is_so[:, 1]
    assert (said[both][:, :2] >= 0.5).all(axis=1).mean() > 0.7


def test_the_few_images_with_a_rare_tag_weigh_more_than_their_share() -> None:
    truth = (np.arange(100) < 10)[:, None]
    slopes = np.zeros((100, 1, 1))
    loss = Sigmoid(truth, [(0, 100)], 1).errors(slopes, 0)  # of answers that know nothing
    assert float(loss[0]) == pytest.approx(np.log(2))
    having = np.abs(slopes[truth]).sum() / np.abs(slopes).sum()
    assert having == pytest.approx(np.sqrt(10) / (np.sqrt(10) + np.sqrt(90)))


def test_a_tag_that_all_images_have_is_always_answered() -> None:
    features, truth = mixed(np.random.default_rng(13), 60, [0.5, 1.0], 1.0)
    head, figures = train_head(features, truth, independent=True)
    assert (answers(head, features)[:, 1] > 0.9).all()
    assert np.isfinite(figures.probabilities).all()


def test_the_figures_of_a_tag_that_means_nothing_are_its_share() -> None:
    rng = np.random.default_rng(14)
    features, _ = mixed(rng, 120, [0.5], 0.0)
    truth = rng.permutation(np.arange(120) % 4 == 0)[:, None]
    head, figures = train_head(features, truth, independent=True)
    assert figures.probabilities.mean() == pytest.approx(0.25, abs=0.05)
    assert figures.probabilities.max() < 0.6
    assert answers(head, features).mean() == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize("independent", [False, True])
def test_the_same_features_give_the_same_head(independent: bool) -> None:
    features, labels = clouds(np.random.default_rng(9), [10, 10], 0.3)
    (one, first), (again, second) = (
        train_head(features, one_hot(labels, 2), independent=independent) for _ in range(2)
    )
    assert one.weights.tobytes() == again.weights.tobytes()
    assert one.bias.tobytes() == again.bias.tobytes()
    assert first.probabilities.tobytes() == second.probabilities.tobytes()


def test_images_that_are_all_alike_are_answered_with_a_shrug() -> None:
    head, figures = trained(np.ones((20, 2, SIZE), np.float32), np.arange(20) % 2, 2)
    assert answers(head, np.ones((1, 2, SIZE), np.float32))[0].tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert figures.accuracy == pytest.approx(0.5, abs=0.15)
    assert figures.probabilities.max() < 0.55


def test_features_that_hardly_differ_are_no_trouble() -> None:
    rng = np.random.default_rng(18)
    labels = np.arange(300) % 2
    hidden = np.stack([labels + rng.normal(0, 0.1, 300), rng.normal(0, 1, 300)], axis=1)
    features = 1000 + hidden @ rng.normal(0, 1, (2, 1500))  # a plane in many dimensions
    head, figures = trained(np.repeat(features[:, None], 2, axis=1).astype(np.float32), labels, 2)
    assert figures.accuracy > 0.95
    assert np.isfinite(head.weights).all()


def test_rows_in_a_file_give_the_same_head_as_rows_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(np.random.default_rng(15), [300, 200], 0.2)
    features = features.astype(np.float16)
    head, figures = trained(features, labels, 2)
    monkeypatch.setattr("trainer.learning.rows.IN_MEMORY", 100)
    told = list[tuple[int, int]]()
    in_file, same = train_head(features, one_hot(labels, 2), folder=tmp_path, told=lambda *done: told.append(done))
    np.testing.assert_allclose(in_file.weights, head.weights, atol=0.02 * np.abs(head.weights).max())
    np.testing.assert_allclose(same.probabilities, figures.probabilities, atol=0.02)
    assert list(tmp_path.iterdir()) == []
    assert told[-1][0] == told[-1][1]


def test_a_penalty_chosen_on_some_images_serves_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(np.random.default_rng(16), [400, 400], 0.2)
    _, figures = trained(features, labels, 2)
    monkeypatch.setattr(crossvalidation, "SEARCHED", 200)
    head, fewer = trained(features, labels, 2)
    assert fewer.probabilities.shape == (800, 2)
    assert fewer.accuracy == pytest.approx(figures.accuracy, abs=0.02)
    unseen, truth = clouds(np.random.default_rng(17), [1000] * 2, 0.2)
    assert (answers(head, unseen).argmax(axis=1) == truth).mean() == pytest.approx(fewer.accuracy, abs=0.04)


def test_the_rows_of_a_thousand_images_need_little_memory() -> None:
    features = np.random.default_rng(10).random((1000, len(VIEWS), FEATURE_COUNT), np.float32)
    tracemalloc.start()
    with Collected(1000) as collected:
        for place, one in enumerate(features):
            collected.put(place, one)
        table, _ = collected.table()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    ((_, rows), *_) = table.blocks([(0, 1000)])
    assert np.square(rows).sum(axis=-1).mean() == pytest.approx(1, abs=0.2)  # rows of about unit length
    assert peak < 130e6


def test_many_images_need_no_more_memory_than_a_block_of_them(tmp_path: Path) -> None:
    images, size = IN_MEMORY + 1000, 500
    one = np.random.default_rng(10).random((2, size)).astype(np.float16)
    tracemalloc.start()
    with Collected(images, tmp_path) as collected:
        for place in range(images):
            collected.put(place, one + np.float16(place % 2))
        table, _ = collected.table()
        seen = sum(len(rows) for _, rows in table.blocks([(0, 1000), (1500, images)]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == images - 500
    assert peak < 0.5 * images * one.nbytes


def test_up_to_twice_as_many_images_as_are_searched_are_searched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(np.random.default_rng(16), [150, 150], 0.2)
    told: list[tuple[int, int]] = []
    for searched, stages in ((150, 0), (149, 4)):
        monkeypatch.setattr(crossvalidation, "SEARCHED", searched)
        train_head(features, one_hot(labels, 2), told=lambda *done: told.append(done))
        folds = 4
        assert told[-1] == (folds * (len(PENALTIES) + stages) + 1,) * 2


def test_what_follows_the_search_begins_where_the_best_penalty_ended() -> None:
    features, labels = clouds(np.random.default_rng(16), [150, 150], 0.2)
    order = np.random.default_rng(1).permutation(300)
    with Collected(300) as collected:
        for place, one in enumerate(features[order]):
            collected.put(place, one)
        table, _ = collected.table()
    spans = [(start, start + 100) for start in (0, 100, 200)]
    fits = _Fits(table, one_hot(labels[order], 2), False, spans)
    penalties, _ = _searched(fits, lambda: None)
    _, slopes = objective(fits.starts[0], table, spans[1:], fits.loss(spans[1:]), penalties)
    assert np.abs(slopes).max() < 1e-4
