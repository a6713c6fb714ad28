"""The last layer: it learns what can be learnt, and its figures do not flatter it."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from trainer.backbone import FEATURE_COUNT
from trainer.calibration import softmax
from trainer.features import VIEWS
from trainer.head import Examples, Head, _scaled, fit, objective, train_head

SIZE = 40


def clouds(
    rng: np.random.Generator, counts: list[int], apart: float, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray]:
    """Features [images, 2 views, size] around one centre a tag, and the tags."""
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.random.default_rng(0).normal(0, apart, (len(counts), size))
    images = centres[labels] + rng.normal(0, 1, (len(labels), size))
    views = images[:, None] + rng.normal(0, 0.1, (len(labels), 2, size))
    return (7 + 3 * views).astype(np.float32), labels


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    return softmax((features[:, 0] @ head.weights + head.bias).astype(np.float64))


def test_the_gradient_is_the_slope_of_the_objective() -> None:
    rng = np.random.default_rng(1)
    rows, labels, weights = rng.normal(0, 1, (12, 5)), rng.integers(0, 3, 12), rng.random(12)
    examples = Examples(rows, labels, weights / weights.sum())
    at = rng.normal(0, 1, 5 * 3 + 3)
    step = 1e-6 * np.eye(len(at))
    slopes = [
        (objective(at + one, examples, 3, 0.1)[0] - objective(at - one, examples, 3, 0.1)[0]) / 2e-6 for one in step
    ]
    np.testing.assert_allclose(objective(at, examples, 3, 0.1)[1], slopes, atol=1e-7)


def test_a_fit_lies_where_the_gradient_is_flat() -> None:
    rng = np.random.default_rng(2)
    examples = Examples(rng.normal(0, 1, (50, 8)), rng.integers(0, 4, 50), np.full(50, 1 / 50))
    assert np.abs(objective(fit(examples, 4, 0.01), examples, 4, 0.01)[1]).max() < 1e-4


@pytest.mark.parametrize("each", [5, 60])  # fewer rows than features, and more
def test_what_lies_apart_is_told_apart(each: int) -> None:
    features, labels = clouds(np.random.default_rng(3), [each] * 3, 2.0)
    head, figures = train_head(features, labels, 3)
    assert figures.accuracy == 1
    unseen, truth = clouds(np.random.default_rng(4), [100] * 3, 2.0)
    assert (probabilities(head, unseen).argmax(axis=1) == truth).mean() > 0.99


def test_a_head_is_as_sure_as_it_is_right_on_unseen_images() -> None:
    features, labels = clouds(np.random.default_rng(5), [80] * 3, 0.25)
    head, figures = train_head(features, labels, 3)
    unseen, truth = clouds(np.random.default_rng(6), [1000] * 3, 0.25)
    answers = probabilities(head, unseen)
    accuracy = (answers.argmax(axis=1) == truth).mean()
    assert figures.accuracy == pytest.approx(accuracy, abs=0.07)
    assert answers.max(axis=1).mean() == pytest.approx(accuracy, abs=0.07)
    assert figures.calibration_error < 0.1


def test_the_figures_of_labels_that_mean_nothing_are_those_of_chance() -> None:
    rng = np.random.default_rng(7)
    features, _ = clouds(rng, [60, 60], 0.0, size=300)
    labels = rng.permutation(np.arange(120) % 4)
    head, figures = train_head(features, labels, 4)
    assert (probabilities(head, features).argmax(axis=1) == labels).mean() > 0.9  # it knows them all by heart
    assert figures.accuracy == pytest.approx(0.25, abs=0.1)
    assert figures.log_loss == pytest.approx(np.log(4), abs=0.1)


def test_a_rare_tag_is_found_more_often_than_its_share_alone_would_have_it() -> None:
    features, labels = clouds(np.random.default_rng(8), [180, 12], 0.12)
    head, figures = train_head(features, labels, 2)
    rows = features[:, 0].astype(np.float64) - features[:, 0].mean(axis=0)
    packed = fit(Examples(rows, labels, np.full(len(rows), 1 / len(rows))), 2, 1.0)
    unbalanced = rows @ packed[:-2].reshape(-1, 2) + packed[-2:]
    rare = labels == 1
    assert figures.probabilities[rare, 1].mean() > 1.5 * rare.mean()
    assert probabilities(head, features)[:, 1].mean() > softmax(unbalanced)[:, 1].mean()


def test_the_same_features_give_the_same_head() -> None:
    features, labels = clouds(np.random.default_rng(9), [10, 10], 0.3)
    (one, _), (again, _) = train_head(features, labels, 2), train_head(features, labels, 2)
    assert one.weights.tobytes() == again.weights.tobytes()
    assert one.bias.tobytes() == again.bias.tobytes()


def test_images_that_are_all_alike_are_answered_with_a_shrug() -> None:
    head, figures = train_head(np.ones((20, 2, SIZE), np.float32), np.arange(20) % 2, 2)
    assert probabilities(head, np.ones((1, 2, SIZE), np.float32))[0].tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert figures.accuracy == 0.5


def test_preparing_a_thousand_images_needs_little_more_memory_than_their_features() -> None:
    features = np.random.default_rng(10).random((1000, VIEWS, FEATURE_COUNT), np.float32)
    tracemalloc.start()
    rows, _ = _scaled(features)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.square(rows).sum(axis=-1).mean() == pytest.approx(1, abs=0.2)  # rows of about unit length
    assert peak < 2.5 * features.nbytes
