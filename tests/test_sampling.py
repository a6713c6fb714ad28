"""What a twin or a package asks of the policy, what of it is refused, and which of two words wins."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.limits import MAX_DOCUMENT_BYTES, MAX_VALUE_BYTES
from ripeloop.errors import Refused
from ripeloop.sampling import MAX_REPORTED, Sampling, reported
from ripeloop.uncertainty import Policy, TagPolicy

NOTHING = Sampling()
SHARE = st.none() | st.floats(0, 1)
TAG_POLICIES = st.builds(TagPolicy, SHARE, SHARE, SHARE)
SAMPLINGS = st.builds(Sampling, SHARE, SHARE, SHARE, SHARE, st.dictionaries(st.sampled_from("abc"), TAG_POLICIES))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("confidence_below", "margin_below", "entropy_above", "audit_rate", "tags", "tag", "other")


def test_the_fields_have_the_twins_names():
    section = {
        "confidence_below": 0.8,
        "margin_below": 0.3,
        "entropy_above": 0,
        "audit_rate": 0.02,
        "tags": [{"tag": "ripe", "confidence_below": 0.95}, {"tag": "so, very $ripe.", "entropy_above": 1.2}],
    }
    sampling, refused = Sampling.from_section(section, NOTHING)
    own = {"ripe": TagPolicy(confidence_below=0.95), "so, very $ripe.": TagPolicy(entropy_above=1.2)}
    assert (sampling, refused) == (Sampling(0.8, 0.3, 0, 0.02, own), {})
    assert sampling.over(Policy(0.1, 0.1, 0.1, 0.1)) == Policy(0.8, 0.3, 0, 0.02, own)
    assert reported(sampling.over(Policy())) == section | {"tags_left_out": 0}


def test_unknown_fields_are_ignored_and_what_is_not_named_is_left_to_others():
    sampling, refused = Sampling.from_section({"margin_below": 0.1, "colour": "blue"}, NOTHING)
    assert (sampling, refused) == (Sampling(margin_below=0.1), {})
    assert sampling.over(Policy(confidence_below=0.7)) == Policy(confidence_below=0.7, margin_below=0.1)


@pytest.mark.parametrize("bad", [-0.1, 1.1, "0.5", True, None, float("nan"), float("inf"), 10**400, [0.5], {}])
def test_a_bad_value_is_refused_and_the_old_one_stays(bad):
    before = Sampling(confidence_below=0.6)
    sampling, refused = Sampling.from_section({"confidence_below": bad, "margin_below": 0.2}, before)
    assert sampling == Sampling(confidence_below=0.6, margin_below=0.2)
    assert list(refused) == ["confidence_below"]
    shown = {"[0.5]": "a list", "{}": "an object"}.get(repr(bad), repr(bad)[:50])
    assert refused["confidence_below"].endswith(f"not {shown}")


@pytest.mark.parametrize("bad", [-1, 1e308, 10**400, float("nan"), float("inf")])
def test_an_entropy_no_model_has_is_refused(bad):
    sampling, refused = Sampling.from_section({"entropy_above": bad}, Sampling(entropy_above=0.5))
    assert sampling.entropy_above == 0.5
    assert "between 0 and 1000" in refused["entropy_above"]


@pytest.mark.parametrize("section", [None, 3, "off", [1]])
def test_a_section_that_is_no_object_is_refused_whole(section):
    with pytest.raises(Refused, match="must be an object"):
        Sampling.from_section(section, NOTHING)


def test_what_is_wrong_with_one_tag_costs_only_that_field():
    before = Sampling(tags={"ripe": TagPolicy(confidence_below=0.9, margin_below=0.4), "gone": TagPolicy(0.1)})
    entries = [
        {"tag": "ripe", "confidence_below": 7, "margin_below": 0.5},
        {"tag": "green", "entropy_above": 0.2, "audit_rate": 0.5},
        {"tag": "green", "confidence_below": 0.1},
        {"confidence_below": 0.1},
        {"tag": ""},
        {"tag": "\ud800"},
        {"tag": "x" * 1025},
        "ripe",
    ]
    sampling, refused = Sampling.from_section({"tags": entries}, before)
    assert sampling.tags == {"ripe": TagPolicy(0.9, 0.5), "green": TagPolicy(entropy_above=0.2)}
    told = refused["tags"].split("; ")
    assert told[0] == "ripe: confidence_below must be between 0 and 1, not 7"
    assert told[1].startswith("green: audit_rate must be the same for all tags")
    assert told[2] == "green stands there twice"
    assert told[3:] == [f"entry {number} must name its tag" for number in (4, 5, 6, 7, 8)]


def test_tags_in_another_form_are_refused_and_the_old_ones_stay():
    before = Sampling(tags={"ripe": TagPolicy(0.9)})
    sampling, refused = Sampling.from_section({"tags": {"ripe": {"confidence_below": 0.5}}}, before)
    assert sampling == before
    assert "must be a list" in refused["tags"]


def test_what_is_said_for_all_tags_holds_for_those_an_earlier_word_excepted():
    package = Sampling(margin_below=0.2, tags={"ripe": TagPolicy(confidence_below=0.95, entropy_above=0.4)})
    twin = Sampling(confidence_below=0.5, tags={"green": TagPolicy(margin_below=0)})
    policy = twin.over(package.over(Policy()))
    assert policy == Policy(0.5, 0.2, tags={"ripe": TagPolicy(entropy_above=0.4), "green": TagPolicy(margin_below=0)})
    assert Sampling(confidence_below=0, entropy_above=0).over(package.over(Policy())).tags == {}


@given(SAMPLINGS, SAMPLINGS)
def test_the_later_word_wins_and_saying_it_twice_changes_nothing(first, then):
    policy = then.over(first.over(Policy()))
    assert then.over(policy) == policy
    for name in ("confidence_below", "margin_below", "entropy_above", "audit_rate"):
        said = [value for value in (getattr(then, name), getattr(first, name)) if value is not None]
        assert getattr(policy, name) == [*said, getattr(Policy(), name)][0]


@given(SAMPLINGS)
def test_a_section_says_what_it_was_made_from(sampling):
    assert Sampling.from_section(json.loads(json.dumps(sampling.to_section())), NOTHING) == (sampling, {})


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.lists(st.dictionaries(st.sampled_from(NAMES), JSON))))
def test_whatever_stands_in_a_twin_the_policy_stays_one(section):
    policy = Sampling.from_section(section, NOTHING)[0].over(Policy())
    for one in (policy, *policy.tags.values()):
        assert all(value is None or 0 <= value <= 1 for value in (one.confidence_below, one.margin_below))
    assert 0 <= policy.audit_rate <= 1


def test_what_is_reported_fits_into_a_twin():
    tags = {f"{number:04}{'ü' * 1020}": TagPolicy(0.5, 0.5, 0.5) for number in range(100)}
    told = reported(Policy(tags=tags))
    size = len(json.dumps(told, ensure_ascii=False).encode())
    assert size < MAX_REPORTED + 1000 < MAX_DOCUMENT_BYTES
    assert len(told["tags"]) + told["tags_left_out"] == 100
    assert told["tags"]
    assert len(f"0000{'🍌' * 1020}".encode()) <= MAX_VALUE_BYTES
