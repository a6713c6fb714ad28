"""The last layer: it learns what can be learnt, and its figures do not flatter it."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.learning.calibration import sigmoid, softmax
from trainer.learning.crossvalidation import CrossValidated, train_head
from trainer.learning.head import Aim, Head, fit, objective
from trainer.learning.losses import Sigmoid, Softmax
from trainer.learning.rows import InMemory, spread

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
    aim = Aim(spans, kind(truth, spans, 2), np.array([0.1, 0.2, 0.3]))
    at = rng.normal(0, 1, 5 * 3 + 3)
    step = 1e-6 * np.eye(len(at))

    def found(packed: np.ndarray) -> tuple[float, np.ndarray]:
        ((value, gradient),) = objective([packed], table, [aim])
        return value, gradient

    slopes = [(found(at + one)[0] - found(at - one)[0]) / 2e-6 for one in step]
    np.testing.assert_allclose(found(at)[1], slopes, atol=1e-7)


@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
def test_what_is_aimed_at_together_is_as_each_by_itself(kind: type[Softmax] | type[Sigmoid]) -> None:
    rng = np.random.default_rng(1)
    table, truth = InMemory(rng.normal(0, 1, (15, 2, 5))), one_hot(rng.integers(0, 3, 15), 3)
    spans = [(0, 4), (4, 10), (10, 15)]
    seen = [[spans[1], spans[2]], [spans[0], spans[2]], [spans[0]]]
    aims = [Aim(one, kind(truth, one, 2), rng.uniform(0.1, 0.3, 3)) for one in seen]
    points = list(rng.normal(0, 1, (3, 5 * 3 + 3)))
    for (value, gradient), point, aim in zip(objective(points, table, aims), points, aims, strict=True):
        ((alone, slopes),) = objective([point], table, [aim])
        assert value == pytest.approx(alone)
        np.testing.assert_allclose(gradient, slopes, atol=1e-12)


def test_a_fit_lies_where_the_gradient_is_flat() -> None:
    rng = np.random.default_rng(2)
    table, truth = InMemory(rng.normal(0, 1, (50, 1, 8))), one_hot(rng.integers(0, 4, 50), 4)
    spans = [(0, 50)]
    aim = Aim(spans, Softmax(truth, spans, 1), np.full(4, 0.01))
    packed = fit(table, [aim], [], spread(table, spans))
    ((_, slopes),) = objective(packed, table, [aim])
    assert np.abs(slopes).max() < 2e-3
    looks: list[None] = []
    fit(table, [aim], packed, spread(table, spans), lambda: looks.append(None))
    assert len(looks) == 1  # nothing is left to do


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
