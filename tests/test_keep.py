"""Which images are kept, and which of two is the more useful: plain functions, no disk, no clock."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripeloop.prediction import Flagged, Prediction, image_id
from sampler.keeping.keep import Candidate, Decision, Rival, Rules, decide, held_from, places, starts, usefulness
from sampler.keeping.near import LOOKS, PAIRS, Recent

MONDAY = datetime(2026, 11, 23, 8, 30, 40, tzinfo=UTC)
RULES = Rules(hold_minutes=0)


def flagged(word: str = "a", confidence: float = 0.5, **fields: Any) -> Flagged:
    predictions = (Prediction("ripe", confidence), Prediction("unripe", 1 - confidence))
    words: dict[str, Any] = {"reason": "low_confidence", "predictions": predictions}
    return Flagged(image_id(word.encode()), MONDAY, **(words | fields))


def nobody(*_: Any) -> None:
    return None


def rival(usefulness: float) -> Rival:
    return Rival("r", usefulness, MONDAY, "ripe", "low_confidence")


def taken(n: int) -> Counter[tuple[str, str]]:
    return Counter(dict.fromkeys(places("ripe", "low_confidence", MONDAY), n))


def test_a_known_image_is_a_duplicate_whatever_else_it_is() -> None:
    one = Candidate(flagged(reason="audit"), known=True, nearest=0)
    assert decide(one, Rules(max_per_hour=1), taken(9), nobody, MONDAY) == Decision("duplicate")


def test_what_looks_like_a_recent_one_is_a_near_duplicate_within_the_distance() -> None:
    for nearest, word in ((10, "near_duplicate"), (11, None), (None, None)):
        assert decide(Candidate(flagged(), nearest=nearest), RULES, {}, nobody, MONDAY).dropped == word
    strict = Rules(near_distance=0)
    assert decide(Candidate(flagged(), nearest=1), strict, {}, nobody, MONDAY).dropped is None


@pytest.mark.parametrize(
    ("limit", "word"),
    [
        ("max_per_minute", "budget"),
        ("max_per_hour", "budget"),
        ("max_per_day", "budget"),
        ("max_per_tag", "quota_tag"),
        ("max_per_reason", "quota_reason"),
    ],
)
def test_each_budget_drops_what_comes_after_its_last_place(limit: str, word: str) -> None:
    rules = Rules(**{limit: 3})
    assert decide(Candidate(flagged()), rules, taken(2), nobody, MONDAY) == Decision()
    assert decide(Candidate(flagged()), rules, taken(3), nobody, MONDAY) == Decision(word)
    assert decide(Candidate(flagged()), Rules(), taken(10**6), nobody, MONDAY) == Decision()


def test_an_audit_sample_is_starved_by_nothing_and_takes_nobodys_place() -> None:
    rules = Rules(max_per_minute=1, max_per_hour=1, max_per_day=1, max_per_tag=1, max_per_reason=1)
    assert decide(Candidate(flagged(reason="audit"), nearest=0), rules, taken(99), nobody, MONDAY) == Decision()
    assert places("ripe", "audit", MONDAY) == []


def test_of_two_for_one_place_the_more_useful_has_it() -> None:
    unsure, sure = Candidate(flagged(confidence=0.5)), Candidate(flagged(confidence=0.9))
    rules = Rules(max_per_hour=1)
    better = decide(unsure, rules, taken(1), lambda *_: rival(sure.usefulness), MONDAY)
    assert better == Decision(instead_of=rival(sure.usefulness), word="budget")
    assert decide(sure, rules, taken(1), lambda *_: rival(unsure.usefulness), MONDAY) == Decision("budget")
    assert decide(sure, rules, taken(1), lambda *_: rival(sure.usefulness), MONDAY) == Decision("budget")


def test_the_one_that_goes_frees_a_place_in_every_short_budget() -> None:
    asked: list[tuple[Any, ...]] = []
    rules = Rules(max_per_hour=1, max_per_day=1, max_per_tag=1)
    decide(Candidate(flagged()), rules, taken(1), lambda *question: asked.append(question), MONDAY)  # type: ignore[arg-type, func-returns-value]
    assert asked == [(MONDAY.replace(minute=0, second=0), "ripe", None)]


def test_uncertainty_comes_first_and_diversity_decides_between_the_equally_unsure() -> None:
    def of(confidence: float, nearest: int | None) -> float:
        one = flagged(confidence=confidence)
        return usefulness(one.predictions, one.reason, nearest)

    assert of(0.5, 20) > of(0.6, 120) > of(0.6, 20) > of(0.9, 128)
    assert of(0.6, 120) > of(0.6, None) > of(0.6, 20)
    assert usefulness((), "audit") > usefulness((), "low_confidence") > of(0.5, 11)


@given(
    st.lists(st.floats(0, 1), max_size=4),
    st.one_of(st.none(), st.integers(0, 256)),
)
def test_no_image_is_more_useful_than_an_audit_sample(probabilities: list[float], nearest: int | None) -> None:
    predictions = [Prediction(f"{n}", p) for n, p in enumerate(probabilities)]
    assert 0 <= usefulness(predictions, "narrow_margin", nearest) < usefulness(predictions, "audit", nearest)


def test_a_day_of_a_budget_is_the_local_date_whatever_the_clocks_do() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    change = [datetime(2026, 10, 25, hour, 30, tzinfo=berlin, fold=fold) for hour in (0, 2, 23) for fold in (0, 1)]
    days = {places("t", "r", at)[2] for at in change}
    assert days == {("2026-10-25", "day")}
    twice = {places("t", "r", at)[1] for at in change[2:4]}
    assert len(twice) == 2  # the hour that comes twice is two hours
    assert starts(datetime(2026, 11, 23, 0, 10, tzinfo=berlin))[2] == datetime(2026, 11, 22, 23, tzinfo=UTC)


def test_the_day_of_a_clock_change_begins_at_its_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for noon, midnight in (
            (datetime(2027, 3, 28, 10, tzinfo=UTC), datetime(2027, 3, 27, 23, tzinfo=UTC)),
            (datetime(2026, 10, 25, 10, tzinfo=UTC), datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ):
            assert starts(noon.astimezone())[2] == midnight
    finally:
        monkeypatch.undo()
        time.tzset()


def test_images_are_held_only_while_a_budget_is_set() -> None:
    assert held_from(Rules(), short=False, now=MONDAY) is None
    assert held_from(Rules(max_per_day=1, hold_minutes=0), short=False, now=MONDAY) is None
    for rules, short in ((Rules(max_per_tag=1), False), (Rules(), True)):
        assert held_from(rules, short=short, now=MONDAY) == MONDAY - timedelta(minutes=10)


# -- looks


def dhash(bits: int) -> str:
    return f"{(1 << bits) - 1:064x}"


def test_the_nearest_look_is_that_of_the_same_camera_tag_and_time() -> None:
    recent = Recent()
    recent.add("a", dhash(0), "left", "ripe", MONDAY)
    recent.add("b", dhash(30), "left", "ripe", MONDAY - timedelta(minutes=20))
    assert recent.nearest(dhash(7), "left", "ripe", MONDAY, 10) == 7
    assert recent.nearest(dhash(29), "left", "ripe", MONDAY, 30) == 1
    assert recent.nearest(dhash(7), "right", "ripe", MONDAY, 10) is None
    assert recent.nearest(dhash(7), "left", "unripe", MONDAY, 10) is None
    assert recent.nearest(dhash(7), "left", "ripe", MONDAY + timedelta(minutes=11), 10) is None
    assert recent.nearest("", "left", "ripe", MONDAY, 10) is None
    recent.forget({"a"})
    assert recent.nearest(dhash(7), "left", "ripe", MONDAY, 10) is None


def test_no_time_is_too_far_away_to_be_compared() -> None:
    recent = Recent()
    recent.add("a", dhash(0), "left", "ripe", MONDAY)
    assert recent.nearest(dhash(0), "left", "ripe", datetime.max.replace(tzinfo=UTC), 10) is None
    assert recent.nearest(dhash(0), "left", "ripe", datetime.min.replace(tzinfo=UTC), 10) is None


def test_looks_take_a_bounded_room_and_a_bounded_time() -> None:
    rng, recent = random.Random(3), Recent()
    for n in range(PAIRS * 2):
        recent.add("x", dhash(1), f"camera {n}", "ripe", MONDAY)
    assert len(recent._looks) == PAIRS
    for n in range(LOOKS * 2):
        recent.add(f"{n}", f"{rng.getrandbits(256):064x}", "left", "ripe", MONDAY)
    assert len(recent._looks["left", "ripe"]) == LOOKS
    begin = time.thread_time()  # not of what else the machine does
    recent.nearest(dhash(5), "left", "ripe", MONDAY, 10)
    assert time.thread_time() - begin < 0.02  # in truth a hundredth of that
