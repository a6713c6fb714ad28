"""How much people agree, how good each is, how much a suggestion steers: against figures worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrain.judging.chances import Share
from retrain.label.quality.agreement import agreement, kappa, own
from retrain.label.quality.labellers import Same, Steered, measured, seconds_each, steered, steered_by_person
from retrain.labels import BLIND, GRID, IMPORTED, JUNK, KNOWN, NONE, REVIEW, SUGGESTED, TAG, UNSURE, Answer

AT = "2026-11-22T08:00:00.000000Z"


def says(what: str, by: str = "kari", how: str = BLIND, at: str = AT) -> Answer:
    return Answer(what, (), by, at, how) if what in (NONE, UNSURE, JUNK) else Answer(TAG, (what,), by, at, how)


def both(kari: str, ola: str) -> tuple[Answer, ...]:
    return says(kari), says(ola, "ola")


# Cohen's table as textbooks have it: of 50 images both say yes to 20, both no to 15; 5 and 10 they differ on
TEXTBOOK = [*[both("yes", "yes")] * 20, *[both("yes", "no")] * 5, *[both("no", "yes")] * 10, *[both("no", "no")] * 15]


def test_kappa_is_the_textbooks():
    (pair,) = agreement(TEXTBOOK).pairs
    assert (pair.one, pair.other) == ("kari", "ola")
    assert pair.kappa.agreed == Share(35, 50)
    assert pair.kappa.chance == pytest.approx(0.5)
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.kappa.low == pytest.approx(2 * Share(35, 50).low - 1)
    assert pair.kappa.high == pytest.approx(2 * Share(35, 50).high - 1)


def test_each_tag_is_held_against_all_the_rest():
    images = [
        *[both("ripe", "ripe")] * 8,
        both("ripe", "green"),
        *[both("green", "green")] * 3,
        both("rotten", "rotten"),
    ]
    found = agreement(images)
    assert set(found.tags) == {"green", "ripe", "rotten"}
    assert found.tags["rotten"].value == 1
    assert found.tags["ripe"].agreed == Share(12, 13)
    assert found.tags["ripe"].value == pytest.approx(1 - (1 / 13) / (1 - (9 * 8 + 4 * 5) / 169))
    assert found.pairs[0].tags == found.tags  # of one pair that is the same


def test_perfect_agreement_of_few_images_is_no_certainty():
    (pair,) = agreement([both("ripe", "ripe"), both("green", "green"), both("ripe", "ripe")]).pairs
    assert pair.kappa.value == 1
    assert pair.kappa.low < 0.2
    assert pair.kappa.high == 1


def test_kappa_is_undefined_where_both_only_ever_said_the_same_one_thing():
    (pair,) = agreement([both("ripe", "ripe")] * 30).pairs
    assert pair.kappa.value is None
    assert (pair.kappa.low, pair.kappa.high) == (None, None)
    assert pair.kappa.undefined == "one_answer"
    assert pair.kappa.agreed == Share(30, 30)
    assert kappa({}).undefined == "no_images"


def test_who_is_unsure_makes_no_claim_and_is_counted():
    (pair,) = agreement([*TEXTBOOK, both("yes", UNSURE), both(UNSURE, UNSURE)]).pairs
    assert pair.kappa.value == pytest.approx(0.4)
    assert pair.unsure == 2


def test_junk_and_none_of_these_are_answers_like_any_tag():
    (pair,) = agreement([both(JUNK, JUNK), both(NONE, NONE), both("ripe", NONE)]).pairs
    assert pair.kappa.agreed == Share(2, 3)
    assert pair.unsure == 0


def test_only_what_people_said_by_themselves_counts():
    answers = (
        says("green"),
        says("ripe"),  # changed her mind: the newest counts
        says("ripe", "ola"),
        says("green", "ola", KNOWN),
        says("rotten", "per", REVIEW),
        says("rotten", "file", IMPORTED),
        says("green", "eva", GRID),
    )
    assert [(one.by, one.tags) for one in own(answers)] == [
        ("eva", ("green",)),
        ("kari", ("ripe",)),
        ("ola", ("ripe",)),
    ]
    assert agreement([answers]).images == 1


def test_one_person_alone_agrees_with_nobody():
    found = agreement([[says("ripe")], [says("ripe", "ola")], []])
    assert (found.pairs, found.images) == ((), 0)


def test_three_people_are_three_pairs_and_the_tags_add_up():
    three = (says("ripe"), says("ripe", "ola"), says("green", "per"))
    found = agreement([three, (says("green"), says("green", "ola"))])
    assert [(pair.one, pair.other, pair.kappa.agreed) for pair in found.pairs] == [
        ("kari", "ola", Share(2, 2)),
        ("kari", "per", Share(0, 1)),
        ("ola", "per", Share(0, 1)),
    ]
    assert found.tags["ripe"].agreed == Share(2, 4)


@given(st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), st.integers(0, 40)))
def test_kappa_stays_between_its_ends_whatever_was_said(table):
    found = kappa(table)
    if found.value is not None:
        assert -1 <= found.low <= found.value + 1e-9
        assert found.value <= found.high + 1e-9
        assert found.high <= 1 + 1e-9
    assert kappa({(b, a): n for (a, b), n in table.items()}).value == pytest.approx(found.value)


def test_a_labeller_is_measured_on_images_that_were_known():
    known = says("ripe", "per")
    pairs = [*[(says("ripe"), known)] * 9, (says("green"), known), (says(UNSURE), known), (says(JUNK, "ola"), known)]
    kari, ola = measured(pairs)
    assert (kari.by, kari.right, kari.unsure) == ("kari", Share(9, 10), 1)
    assert (ola.by, ola.right, ola.unsure) == ("ola", Share(0, 1), 0)


def test_a_suggestion_steers_where_more_agree_who_see_it():
    answers = [
        Same("kari", SUGGESTED, True, 60),
        Same("ola", SUGGESTED, True, 30),
        Same("ola", SUGGESTED, False, 10),
        Same("kari", BLIND, True, 30),
        Same("kari", BLIND, False, 20),
        Same("kari", GRID, True, 1000),
    ]
    found = steered(answers)
    assert (found.shown, found.hidden) == (Share(90, 100), Share(30, 50))
    assert found.difference == pytest.approx(0.3)
    assert found.interval == pytest.approx((0.156, 0.445), abs=0.002)  # by hand, from the two of Wilson
    assert found.steers
    assert found.enough
    assert not Steered(Share(90, 100), Share(30, 49)).enough
    assert steered_by_person(answers)["ola"] == Steered(Share(30, 40), Share(0, 0))


def test_nothing_is_said_of_a_suggestion_that_was_always_shown():
    found = Steered(Share(5, 5), Share(0, 0))
    assert (found.difference, found.interval, found.steers) == (None, (-1.0, 1.0), False)


def test_pauses_and_many_at_once_are_no_measure_of_pace():
    clock = ["08:00:09", "08:00:00", "08:00:02", "08:00:05", "08:00:05", "09:30:00"]
    assert seconds_each([*(f"2026-11-22T{time}.000000Z" for time in clock), "yesterday"]) == 3.0
    assert seconds_each([AT]) is None
    assert seconds_each([]) is None
