"""Twins: patches and the hub's limits."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localedge.database import Database
from localedge.edgehub.twins import Section, Twins, difference, merge, parse_patch
from manifests.limits import check
from ripeloop.errors import Refused

values = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("xyz", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
documents = st.dictionaries(st.text("abc", min_size=1, max_size=2), values, max_size=5)


def nested(depth, leaf=1):
    return leaf if depth == 0 else {"a": nested(depth - 1, leaf)}


def test_a_patch_merges_objects_replaces_the_rest_and_null_removes():
    assert merge({"a": {"x": 1, "y": 2}, "b": [1], "c": 1}, {"a": {"y": None, "z": 3}, "b": [2], "c": None}) == {
        "a": {"x": 1, "z": 3},
        "b": [2],
    }
    assert merge({"a": 1}, {"a": {"x": None, "y": 1}}) == {"a": {"y": 1}}


@given(documents, documents)
def test_the_difference_of_two_documents_leads_from_one_to_the_other(old, new):
    assert json.dumps(merge(old, difference(old, new)), sort_keys=True) == json.dumps(new, sort_keys=True)


@given(documents)
def test_the_same_patch_twice_changes_nothing_more(document):
    assert merge(merge({}, document), document) == merge({}, document)
    assert difference(document, document) == {}


@pytest.mark.parametrize(
    "patch",
    [
        nested(11),
        {"n" * 1024: 1},
        {"v": "x" * 4096},
        {"v": 2**52 - 1, "w": -(2**52)},
        {"v": 1e300, "w": None, "x": {"y": None}},
        {"v": [1, "x", [True], {"a": 1}]},
    ],
)
def test_what_is_just_within_the_limits_passes(patch):
    check(patch)


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        (nested(12), "deeper than 10"),
        ({"n" * 1025: 1}, "1024"),
        ({"v": "x" * 4097}, "4096"),
        ({"v": "é" * 2049}, "4096"),
        ({"v": 2**52}, "2\\^52"),
        ({"v": -(2**52) - 1}, "2\\^52"),
        ({"v": [1, None]}, "null"),
        ({"v": [{"a": None}]}, "null"),
        ({"a.b": 1}, "dot"),
        ({"a": {"$b": 1}}, "dot"),
        ({"a#": 1}, "dot"),
        ({"a b": 1}, "dot"),
        ({"a\x01": 1}, "dot"),
        ({"a": [{"b c": 1}]}, "dot"),
    ],
)
def test_what_is_over_a_limit_is_refused(patch, why):
    with pytest.raises(Refused, match=why):
        check(patch)


def test_a_section_over_32_kib_is_refused():
    full = Section({f"k{n}": "x" * 4000 for n in range(8)})
    assert full.changed({"more": "x" * 600}).version == 2
    with pytest.raises(Refused, match="32768"):
        full.changed({"more": "x" * 800})


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"{", b"\xff", b"[" * 100_000, b'{"a": "\\ud800"}', b'{"a": NaN}'])
def test_a_patch_that_is_no_object_is_refused(body):
    with pytest.raises(Refused):
        parse_patch(body)


async def test_twins_are_on_disk_when_their_future_is_done(tmp_path):
    database = Database(tmp_path / "d.db")
    await Twins(database).change("m", {"a": 1}, {"site": "north"})
    other = Database(tmp_path / "d.db")
    twin = Twins(other).get("m")
    assert (twin.desired.values, twin.tags, twin.revision) == ({"a": 1}, {"site": "north"}, 2)
    other.close()
    database.close()


async def test_a_sync_tells_the_module_the_difference_once(tmp_path):
    database = Database(tmp_path / "d.db")
    twins = Twins(database)
    twins.change("m", {"a": 1, "b": {"c": 1}}, {})
    twins.sync("m")
    twins.change("m", {"a": 2}, {})
    twins.change("m", {"b": None}, {})
    assert twins.get("m").for_module()["desired"] == {"a": 1, "b": {"c": 1}, "$version": 2}
    change = twins.sync("m")
    assert change is not None
    assert json.loads(change.body()) == {"a": 2, "b": None, "$version": 4}
    assert twins.sync("m") is None
    await asyncio.sleep(0)
    database.close()
