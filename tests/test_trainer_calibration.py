"""Probabilities that tell how often they are right."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.learning.calibration import calibration_error, line, log_loss, softmax, temperature


def answers(rng: np.random.Generator, images: int, tags: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and true tags drawn with exactly the probabilities that the logits mean."""
    logits = rng.normal(0, spread, (images, tags))
    odds = softmax(logits).cumsum(axis=1)
    return logits, (rng.random((images, 1)) > odds).sum(axis=1)


def test_softmax_sums_to_one_however_large_the_logits() -> None:
    probabilities = softmax(np.array([[1e4, 0, -1e4], [0, 0, 0]]))
    assert probabilities.sum(axis=1).tolist() == [1, 1]
    assert probabilities[1].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_what_made_honest_logits_too_sure_or_too_shy(factor: float) -> None:
    logits, labels = answers(np.random.default_rng(1), 4000, 4, 2.0)
    assert temperature(logits * factor, labels) == pytest.approx(factor, rel=0.1)


def test_a_temperature_makes_noisy_answers_honest() -> None:
    logits, labels = answers(np.random.default_rng(2), 1000, 4, 1.5)
    too_sure = logits * 5
    assert calibration_error(softmax(too_sure), labels) > 0.2
    assert calibration_error(softmax(too_sure / temperature(too_sure, labels)), labels) < 0.05


@pytest.mark.parametrize("images", [12, 60, 600])
def test_images_that_are_told_apart_without_error_do_not_make_every_answer_sure(images: int) -> None:
    labels = np.arange(images) % 3
    logits = np.eye(3)[labels] * 8
    confidence = softmax(logits / temperature(logits, labels)).max(axis=1)
    # Platt's targets allow one error in images + 2; half or twice that is the grid's step
    assert 0.4 / (images + 2) < 1 - confidence.max() < 2.5 / (images + 2)


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.8, 0.2], (10, 1))
    assert calibration_error(probabilities, np.repeat([0, 1], [8, 2])) == pytest.approx(0)
    assert calibration_error(probabilities, np.repeat([0, 1], [3, 7])) == pytest.approx(0.5)
    assert calibration_error(np.tile([1.0, 0.0], (4, 1)), np.ones(4, int)) == pytest.approx(1)


def test_the_log_loss_is_that_of_the_true_tag() -> None:
    assert log_loss(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([1, 0])) == pytest.approx(-np.log([0.5, 0.9]).mean())


def test_a_line_makes_one_tags_probabilities_honest() -> None:
    rng = np.random.default_rng(21)
    honest = rng.normal(-1, 2, 4000)
    truth = rng.random(4000) < 1 / (1 + np.exp(-honest))
    slope, shift = line(5 * honest + 7, truth)  # far too sure, and off
    assert slope == pytest.approx(0.2, rel=0.15)
    assert slope * 7 + shift == pytest.approx(0, abs=0.25)


@pytest.mark.parametrize("logits", [np.zeros(40), np.linspace(1, -1, 40)])  # the same for all; worse than nothing
def test_a_line_of_answers_worth_nothing_says_the_share(logits: np.ndarray) -> None:
    slope, shift = line(logits, np.arange(40) >= 30)
    assert slope == 0
    assert 1 / (1 + np.exp(-shift)) == pytest.approx(0.25, abs=0.03)


def test_a_line_through_answers_without_error_stays_finite() -> None:
    slope, shift = line(np.where(np.arange(40) >= 30, 9.0, -9.0), np.arange(40) >= 30)
    assert 0 < slope < 1
    assert np.isfinite(shift)
