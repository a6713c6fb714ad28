"""What people said of an image: history, disagreement, review, and the room a blob's metadata has."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.labels import JUNK, KEY, KNOWN, MAX_BYTES, NONE, REVIEW, TAG, UNSURE, Answer, Labels
from ripeloop.blobname import check_metadata
from ripeloop.errors import Refused

ANSWERS = st.builds(
    Answer,
    kind=st.just(TAG),
    tags=st.tuples(st.text(min_size=1, max_size=20)),
    by=st.text(min_size=1, max_size=12),
    at=st.just("2026-11-22T08:00:00Z"),
    how=st.sampled_from(["blind", "suggested", REVIEW]),
)


def says(tag: str, by: str = "kari", how: str = "blind") -> Answer:
    return Answer(TAG, (tag,), by, "2026-11-22T08:00:00Z", how)


def after(*answers: Answer) -> Labels:
    labels = Labels()
    for answer in answers:
        labels = labels.with_answer(answer)
    return labels


@given(st.lists(ANSWERS, max_size=12))
def test_labels_travel_as_metadata_and_come_back_the_same(answers):
    labels = after(*answers)
    try:
        metadata = labels.into({"id": "0a"})
    except Refused:
        assert sum(len(_text(answer)) for answer in labels.standing) > MAX_BYTES - 100
        return
    check_metadata(metadata)
    assert metadata["id"] == "0a"
    found = Labels.of(metadata)
    assert found.standing == labels.standing
    assert found.dropped + len(found.answers) == len(answers)
    assert set(found.answers) <= set(answers)


def _text(answer: Answer) -> str:
    return Labels((answer,)).to_json()


def test_an_image_that_nobody_saw_has_no_label():
    assert Labels.of({"id": "0a"}) == Labels()
    assert Labels().final is None
    assert not Labels().disputed


def test_the_newest_answer_of_a_person_stands():
    labels = after(says("ripe"), says("unripe"))
    assert labels.final == says("unripe")
    assert len(labels.answers) == 2


def test_an_undo_brings_the_answer_before_it_back_and_forgets_nothing():
    labels = after(says("ripe"), says("unripe")).undone("kari", "2026-11-22T08:01:00Z")
    assert labels.final == says("ripe")
    assert labels.undone("kari", "2026-11-22T08:02:00Z").final is None
    assert len(labels.answers) == 3


def test_an_answer_that_measures_its_labeller_changes_nothing_and_can_be_taken_back():
    labels = after(says("ripe"), says("unripe", by="per", how=KNOWN))
    assert labels.final == says("ripe")
    assert not labels.disputed
    both = labels.with_answer(says("ripe", by="per")).with_answer(says("unripe", by="per", how=KNOWN))
    assert both.undone("per", "2026-11-22T08:01:00Z").standing == (says("ripe"), says("ripe", by="per"))


def test_an_undo_takes_back_nothing_of_somebody_else():
    assert after(says("ripe")).undone("ola", "2026-11-22T08:01:00Z").final == says("ripe")


def test_two_who_differ_leave_no_label_until_a_review():
    labels = after(says("ripe"), says("unripe", "ola"))
    assert labels.disputed
    assert labels.final is None
    decided = labels.with_answer(says("ripe", "anne", REVIEW))
    assert not decided.disputed
    assert decided.final == says("ripe", "anne", REVIEW)
    assert decided.with_answer(says("unripe", "ola")).final == says("ripe", "anne", REVIEW)
    assert decided.undone("anne", "2026-11-22T09:00:00Z").disputed


def test_two_who_agree_in_another_order_of_tags_do_not_differ():
    both = after(Answer(TAG, ("a", "b"), "kari"), Answer(TAG, ("b", "a"), "ola"))
    assert both.final == Answer(TAG, ("b", "a"), "ola")


@pytest.mark.parametrize("kind", [NONE, UNSURE, JUNK])
def test_an_answer_without_a_tag_is_an_answer(kind):
    assert after(Answer(kind, by="kari")).final == Answer(kind, by="kari")


@pytest.mark.parametrize(
    "bad",
    [
        Answer("maybe", by="kari"),
        Answer(TAG, (), "kari"),
        Answer(NONE, ("ripe",), "kari"),
        Answer(TAG, ("",), "kari"),
        Answer(TAG, ("x" * 129,), "kari"),
        Answer(TAG, ("ripe",), ""),
        Answer(TAG, ("ripe",), "x" * 65),
        Answer(TAG, tuple("ä" * 100 + str(nth) for nth in range(20)), "kari"),
    ],
)
def test_an_answer_that_no_blob_carries_is_refused(bad):
    with pytest.raises(Refused):
        Labels().with_answer(bad)


def test_of_more_answers_than_fit_the_oldest_go_and_are_counted():
    labels = after(*(says(f"tag {nth}") for nth in range(100)))
    metadata = labels.into({})
    found = Labels.of(metadata)
    assert len(metadata[KEY]) <= MAX_BYTES
    assert found.dropped + len(found.answers) == 100
    assert found.final == says("tag 99")


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "{",
        "[]",
        "7",
        '{"answers": 7}',
        '{"answers": [7, {"kind": "later"}, {"kind": "tag", "tags": 1}]}',
        "[" * 9000,
    ],
)
def test_labels_that_cannot_be_read_are_none(damaged):
    assert Labels.of({KEY: damaged}).final is None


@pytest.mark.parametrize("damaged", ["{", "[]", '{"answers": 7}', "[" * 9000])
def test_labels_that_cannot_be_read_are_not_written_over(damaged):
    with pytest.raises(Refused, match="cannot be read"):
        Labels.of({KEY: damaged}).with_answer(says("ripe"))
    with pytest.raises(Refused, match="cannot be read"):
        Labels.of({KEY: damaged}).into({KEY: damaged})


@pytest.mark.parametrize("dropped", ["1e999", "NaN", "-5", "true", "99999999999999999999999", '"7"'])
def test_a_number_of_dropped_answers_that_cannot_be_is_none(dropped):
    labels = Labels.of({KEY: f'{{"answers":[{{"kind":"none","by":"kari"}}],"dropped":{dropped}}}'})
    assert labels.final == Answer(NONE, by="kari")
    assert labels.dropped == 0


def test_what_a_newer_version_wrote_stays_where_it_stands():
    entries = [
        {"kind": "tag", "tags": ["ripe"], "by": "kari", "at": "2026-11-22T08:00:00Z", "note": "hm"},
        {"kind": "box", "by": "kari", "boxes": [[1, 2]]},
        7,
        {"kind": "none", "by": "ola", "at": "2026-11-22T08:01:00Z"},
    ]
    written = {"v": 2, "answers": entries, "locked": True}
    labels = Labels.of({KEY: json.dumps(written)})
    assert json.loads(labels.to_json()) == written
    more = json.loads(labels.with_answer(says("unripe", "per")).into({})[KEY])
    assert more["answers"][:4] == entries
    assert (more["v"], more["locked"]) == (2, True)
    late = Answer(TAG, ("ripe",), "ola", "2026-11-22T07:00:00Z")
    kept = json.loads(labels.with_answer(late, late=True).into({})[KEY])["answers"]
    assert [kept[nth] for nth in (0, 1, 2, 4)] == entries


def test_nobody_pushes_what_stands_out_of_the_blob():
    decided = after(says("ripe"), says("unripe", "per"), says("ripe", "anne", REVIEW))
    labels = decided
    for nth in range(100):
        labels = labels.with_answer(says(f"tag {nth}", "ola"))
        labels = Labels.of(labels.undone("ola", "2026-11-22T08:01:00Z").into({}))
    assert labels.standing == decided.standing
    for nth in range(100):
        labels = Labels.of(labels.with_answer(says("ripe", f"labeller {nth}", KNOWN)).into({}))
    assert labels.final == says("ripe", "anne", REVIEW)
    assert labels.undone("anne", "2026-11-22T09:00:00Z").disputed
    assert labels.dropped + len(labels.answers) == 303


def test_an_undo_goes_with_what_it_took_back():
    labels = after(says("ripe"), says("unripe")).undone("kari", "2026-11-22T08:01:00Z")
    for nth in range(60):
        labels = Labels.of(labels.with_answer(says("x" * 60, f"labeller {nth}", KNOWN)).into({}))
        assert labels.standing == (says("ripe"),)


def test_an_answer_that_would_push_out_what_stands_is_refused():
    labels = after(*(says("x" * 100, f"labeller {nth}") for nth in range(13)))
    labels.into({})
    with pytest.raises(Refused, match="no room"):
        after(*labels.answers, *(says("x" * 100, f"another {nth}") for nth in range(13))).into({})


def test_labels_take_only_the_room_that_the_rest_leaves():
    about = {"predictions": "x" * 4096, "words": "y" * 2500}
    labels = after(*(says(f"tag {nth}") for nth in range(100)))
    metadata = labels.into(about)
    check_metadata(metadata)
    assert Labels.of(metadata).final == says("tag 99")
    with pytest.raises(Refused, match="no room"):
        labels.into({"predictions": "x" * 8100})


def test_an_answer_that_had_to_wait_does_not_stand_over_a_newer_one():
    newer, late = says("unripe"), Answer(TAG, ("ripe",), "kari", "2026-11-22T07:00:00Z", "blind")
    labels = after(newer).with_answer(late, late=True)
    assert labels.answers == (late, newer)
    assert labels.final == newer
    assert labels.undone("kari", "2026-11-22T09:00:00Z").final == late
    assert after(newer).undone("kari", "2026-11-22T08:30:00Z").with_answer(late, late=True).final == late
    assert after(says("ripe", "ola")).with_answer(replace(late, at="2"), late=True).final == replace(late, at="2")
