"""The judge's numbers: against published values, against counting by hand, and as properties."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from retrain.judging.chances import Paired, Share, at_most
from retrain.judging.curve import Turn, outlook, read
from retrain.judging.figures import figures
from retrain.package.threshold import LEAST, MOST, chosen
from ripeloop.errors import SettingsError
from ripeloop.prediction import Prediction
from trainer.learning.calibration import calibration_error

RED, GREEN = "red", "green"


def said(red: float) -> tuple[Prediction, ...]:
    return Prediction(RED, red), Prediction(GREEN, 1 - red)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I: the score method without continuity correction
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_published_one(hits: int, of: int, low: float, high: float) -> None:
    assert (Share(hits, of).low, Share(hits, of).high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(some.integers(0, 500), some.integers(0, 500))
def test_an_interval_holds_its_share_and_mirrors(hits: int, misses: int) -> None:
    one, other = Share(hits, hits + misses), Share(misses, hits + misses)
    assert 0 <= one.low <= one.high <= 1
    assert one.value is None or one.low <= one.value <= one.high
    assert one.low == pytest.approx(1 - other.high)


def test_of_nothing_nothing_is_known() -> None:
    assert (Share(0, 0).value, Share(0, 0).low, Share(0, 0).high) == (None, 0.0, 1.0)


@given(some.integers(0, 60), some.integers(0, 60))
def test_mcnemars_exact_test_counts_every_toss(gained: int, lost: int) -> None:
    tosses = gained + lost
    fewer = sum(math.comb(tosses, k) for k in range(min(gained, lost) + 1))
    by_hand = min(Fraction(1), 2 * Fraction(fewer, 2**tosses))
    assert Paired(gained, lost, tosses).p == pytest.approx(float(by_hand), rel=1e-9)


def test_the_paired_test_of_a_worked_example() -> None:
    # ten images changed sides, nine of them for the better: 2 (1 + 10) / 1024
    assert Paired(9, 1, 200).p == pytest.approx(22 / 1024)
    assert Paired(1, 9, 200).p == pytest.approx(22 / 1024)
    assert Paired(9, 1, 200).difference == pytest.approx(0.04)
    # half an image more on each side: 8 / 202 -+ 1.96 sqrt(11 - 8^2 / 202) / 202
    assert Paired(9, 1, 200).interval == (pytest.approx(0.00789, abs=5e-6), pytest.approx(0.07132, abs=5e-6))


def test_a_hundred_thousand_tosses_are_counted_too() -> None:
    assert at_most(50_000, 100_000) == pytest.approx(0.5 + 0.5 * math.sqrt(2 / math.pi / 100_000), rel=1e-4)
    assert at_most(49_000, 100_000) == pytest.approx(1.3e-10, rel=0.1)


@given(some.lists(some.tuples(some.floats(0, 1), some.sampled_from((RED, GREEN))), min_size=1, max_size=60))
def test_figures_agree_with_counting(images: list[tuple[float, str]]) -> None:
    answers, truths = [said(p) for p, _ in images], [truth for _, truth in images]
    found = figures((RED, GREEN), (RED, GREEN), truths, answers)
    right = [(RED if p >= 1 - p else GREEN) == truth for p, truth in images]
    assert found.accuracy == Share(sum(right), len(right))
    assert sum(found.confusion.values()) == len(images)
    assert sum(row.recall.of for row in found.tags) == sum(row.precision.of for row in found.tags) == len(images)
    assert sum(one.right.of for one in found.bins) == len(images)
    of_truth = [p if truth == RED else 1 - p for p, truth in images]
    assert found.brier == pytest.approx(sum(2 * (1 - p) ** 2 for p in of_truth) / len(images))
    assert found.log_loss == pytest.approx(sum(-math.log(max(p, 1e-7)) for p in of_truth) / len(images))


@given(some.lists(some.tuples(some.integers(0, 255), some.booleans()), min_size=1, max_size=60))
def test_the_calibration_error_is_the_trainers(images: list[tuple[int, bool]]) -> None:
    import numpy as np

    rows = np.array([[n / 255, 1 - n / 255] for n, _ in images])
    labels = np.array([int(label) for _, label in images])
    answers = [(Prediction(RED, row[0]), Prediction(GREEN, row[1])) for row in rows.tolist()]
    found = figures((RED, GREEN), (RED, GREEN), [(RED, GREEN)[label] for label in labels], answers)
    assert found.calibration_error == pytest.approx(calibration_error(rows, labels))


def test_an_image_of_a_tag_the_model_does_not_know_is_wrong_and_counts_in_no_loss() -> None:
    found = figures((RED, GREEN, "blue"), (RED, GREEN), [RED, "blue"], [said(1.0), said(0.9)])
    assert found.accuracy == Share(1, 2)
    assert (found.brier, found.log_loss) == (0.0, 0.0)
    assert [row.known for row in found.tags] == [True, True, False]
    assert figures((RED,), (RED,), [GREEN], [said(1.0)]).brier is None


@given(some.lists(some.tuples(some.floats(0, 1), some.booleans()), max_size=200), some.floats(0.001, 0.5))
def test_a_threshold_leaves_as_few_mistakes_unseen_as_was_asked(answers: list[tuple[float, bool]], most: float) -> None:
    threshold = chosen(answers, most)
    if threshold.confidence_below is None:
        assert 1 / (len(answers) + 1) > most * 0.999
        return
    value = threshold.confidence_below
    assert LEAST <= value <= MOST
    assert threshold.unseen == sum(confidence >= value and not right for confidence, right in answers)
    if value < MOST:
        assert (threshold.unseen + 1) / (len(answers) + 1) <= most + 1e-9
    # and no lower one would do
    lower = value - 0.0002
    if LEAST < value < MOST:
        unseen = sum(confidence >= lower and not right for confidence, right in answers)
        assert (unseen + 1) / (len(answers) + 1) > most - 1e-9


def test_a_threshold_lies_just_above_the_mistake_that_must_be_seen() -> None:
    right = [(0.99, True)] * 95
    wrong = [(0.9, False), (0.8, False), (0.7, False), (0.6, False)]
    threshold = chosen(right + wrong, 0.02)  # of 100 one may be missed: two counted, one of them to come
    assert threshold.confidence_below == 0.8001
    assert (threshold.unseen, threshold.flagged, threshold.images) == (1, 3, 99)


def test_too_few_images_choose_no_threshold_and_say_how_many_would() -> None:
    threshold = chosen([(0.9, True)] * 48, 0.02)
    assert threshold.confidence_below is None
    assert "48 images of the holdout are too few; 49 are needed" in threshold.reason
    assert chosen([(0.9, True)] * 49, 0.02).confidence_below == LEAST
    assert chosen([(0.9, True)] * 49, 0.0).confidence_below is None


def test_a_model_that_is_sure_of_its_mistakes_gets_the_highest_threshold_and_it_is_said() -> None:
    threshold = chosen([(1.0, False)] * 100, 0.02)
    assert threshold.confidence_below == MOST
    assert "the model is sure of its mistakes" in threshold.reason


def test_errors_that_halve_with_the_labels_go_on_halving() -> None:
    ahead = outlook([Turn(100, 0.6), Turn(200, 0.8), Turn(400, 0.9)])
    assert ahead is not None
    assert (ahead.now, ahead.then) == (pytest.approx(0.9), pytest.approx(0.95))
    assert ahead.worth_it
    assert ahead.sentence == "Yes: twice the labels, 800 instead of 400, may bring it from about 90 % to 95 %."


def test_a_flat_curve_is_not_worth_more_labels_and_a_falling_one_is_not_believed() -> None:
    for accuracies in ((0.9, 0.9, 0.9), (0.92, 0.9, 0.88)):
        ahead = outlook([Turn(100 * 2**n, accuracy) for n, accuracy in enumerate(accuracies)])
        assert ahead is not None
        assert not ahead.worth_it
        assert ahead.sentence.startswith("Hardly")


@given(some.lists(some.tuples(some.integers(1, 10**9), some.floats(0, 1)), max_size=8))
def test_an_outlook_is_between_none_and_all_whatever_the_history(points: list[tuple[int, float]]) -> None:
    ahead = outlook([Turn(*point) for point in points])
    if len({labels for labels, _ in points}) < 3:
        assert ahead is None
    else:
        assert ahead is not None
        assert 0 <= ahead.now <= ahead.then <= 1


@pytest.mark.parametrize(
    "line", ["{", "7", "[]", "{}", '{"labels": 0, "accuracy": 1}', '{"labels": true, "accuracy": 1}',
             '{"labels": 5, "accuracy": 2}', '{"labels": 5, "accuracy": NaN}', '{"labels": 5, "accuracy": "1"}',
             '{"labels": 1e3, "accuracy": 1}', "[" * 100_000]
)  # fmt: skip
def test_a_history_that_is_none_is_told_by_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / "history.jsonl").write_text('{"labels": 5, "accuracy": 0.5}\n\n' + line + "\n")
    with pytest.raises(SettingsError, match=r"line 3 of .* is no turn"):
        read(tmp_path / "history.jsonl")


def test_a_history_is_read_in_the_order_of_its_labels(tmp_path: Path) -> None:
    (tmp_path / "h").write_text('{"labels": 9, "accuracy": 1, "version": "b"}\n{"labels": 5, "accuracy": 0.5}\n')
    assert read(tmp_path / "h") == [Turn(5, 0.5), Turn(9, 1.0, "b")]
