"""Which images are flagged, and why."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripeloop.prediction import Prediction
from ripeloop.uncertainty import Policy, confidence, entropy, margin, reason_to_flag

NEVER = 1.0
QUIET = Policy(min_confidence=0, min_margin=0, max_entropy=0, audit_share=0)
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
        ((0.9, 0.1), Policy(max_entropy=0.3), "high_entropy"),
        ((0.99, 0.01), Policy(max_entropy=0.3), None),
        ((), Policy(), "low_confidence"),
        ((0.5, 0.5), QUIET, None),
    ],
)
def test_an_image_is_flagged_for_the_threshold_it_met(probabilities, policy, reason):
    assert reason_to_flag(answers(*probabilities), policy, NEVER) == reason


def test_an_audit_does_not_look_at_the_answer():
    policy = Policy(audit_share=0.05)
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


def test_a_twin_changes_what_it_names_and_leaves_the_rest():
    policy, refused = Policy.from_desired({"minMargin": 0.1, "colour": "blue"}, Policy(min_confidence=0.7))
    assert policy == Policy(min_confidence=0.7, min_margin=0.1)
    assert refused == {}


@pytest.mark.parametrize("bad", [-0.1, 1.1, "0.5", True, None, float("nan"), float("inf"), 10**400, [0.5], {}])
def test_a_bad_value_is_refused_and_the_old_one_stays(bad):
    before = Policy(min_confidence=0.6)
    policy, refused = Policy.from_desired({"minConfidence": bad, "minMargin": 0.2}, before)
    assert policy == Policy(min_confidence=0.6, min_margin=0.2)
    assert list(refused) == ["policy.minConfidence"]
    assert repr(bad) in refused["policy.minConfidence"]


@pytest.mark.parametrize("bad", [-1, 1e308, 10**400, float("nan"), float("inf")])
def test_an_entropy_no_model_has_is_refused(bad):
    policy, refused = Policy.from_desired({"maxEntropy": bad}, Policy(max_entropy=0.5))
    assert policy.max_entropy == 0.5
    assert "between 0 and 1000" in refused["policy.maxEntropy"]


@pytest.mark.parametrize("section", [None, 3, "off", [1]])
def test_a_section_that_is_no_object_is_refused_whole(section):
    policy, refused = Policy.from_desired(section, Policy())
    assert policy == Policy()
    assert list(refused) == ["policy"]


def test_a_policy_reports_what_a_twin_can_ask_for():
    policy = Policy(0.5, 0.2, 1.1, 0.1)
    assert Policy.from_desired(policy.to_reported(), Policy()) == (policy, {})
