"""Which images are flagged, and why."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripeloop.prediction import Prediction
from ripeloop.uncertainty import Policy, TagPolicy, confidence, entropy, margin, reason_to_flag

NEVER = 1.0
QUIET = Policy(confidence_below=0, margin_below=0, entropy_above=0, audit_rate=0)
PROBABILITIES = st.lists(st.floats(0, 1), max_size=6)


def answers(*probabilities):
    return [Prediction(f"tag{i}", p) for i, p in enumerate(probabilities)]


@pytest.mark.parametrize(
    ("probabilities", "policy", "reason"),
    [
        ((0.9, 0.1), Policy(), None),
        ((0.79, 0.21), Policy(), "low_confidence"),
        ((0.1, 0.79, 0.11), Policy(), "low_confidence"),
        ((0.9, 0.85), Policy(), "narrow_margin"),
        ((0.9, 0.1), Policy(entropy_above=0.3), "high_entropy"),
        ((0.99, 0.01), Policy(entropy_above=0.3), None),
        ((), Policy(), "low_confidence"),
        ((0.5, 0.5), QUIET, None),
    ],
)
def test_an_image_is_flagged_for_the_threshold_it_met(probabilities, policy, reason):
    assert reason_to_flag(answers(*probabilities), policy, NEVER) == reason


@pytest.mark.parametrize(
    ("probabilities", "own", "reason"),
    [
        ((0.9, 0.1), TagPolicy(confidence_below=0.95), "low_confidence"),
        ((0.7, 0.3), TagPolicy(confidence_below=0), None),
        ((0.9, 0.85), TagPolicy(margin_below=0), None),
        ((0.9, 0.1), TagPolicy(entropy_above=0.3), "high_entropy"),
        ((0.1, 0.9), TagPolicy(confidence_below=0.95), None),  # likeliest is the other one
        ((0.7, 0.3), TagPolicy(margin_below=0.1), "low_confidence"),  # as for all where it says nothing of its own
        ((), TagPolicy(confidence_below=0), "low_confidence"),
    ],
)
def test_the_likeliest_tag_may_have_thresholds_of_its_own(probabilities, own, reason):
    assert reason_to_flag(answers(*probabilities), Policy(tags={"tag0": own}), NEVER) == reason


def test_an_audit_does_not_look_at_the_answer():
    policy = Policy(audit_rate=0.05, tags={"tag0": TagPolicy(confidence_below=0.9)})
    assert reason_to_flag(answers(1.0, 0.0), policy, 0.049) == "audit"
    assert reason_to_flag(answers(0.1, 0.1), policy, 0.049) == "audit"
    assert reason_to_flag(answers(1.0, 0.0), policy, 0.05) is None


@given(PROBABILITIES, st.floats(0, 0.999))
def test_with_every_threshold_off_nothing_is_flagged(probabilities, chance):
    assert reason_to_flag(answers(*probabilities), QUIET, chance) is None


@given(PROBABILITIES)
def test_measures_stay_in_their_ranges(probabilities):
    predictions = answers(*probabilities)
    assert 0 <= margin(predictions) <= confidence(predictions) <= 1
    assert entropy(predictions) >= 0


def test_entropy_is_in_nats():
    assert entropy(answers(0.25, 0.25, 0.25, 0.25)) == pytest.approx(math.log(4))
