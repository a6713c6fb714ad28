"""Who sees what, in which order: on a real cache, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelling import sample_of
from retrain.label.answering.writing import CHECK, Shares, Taken, Wish, decided, undone
from retrain.label.asking import chances
from retrain.label.asking.queue import Pace, Queue
from retrain.label.container import finding, samples
from retrain.label.container.cache import Cache, Found, Look
from retrain.label.container.filters import ORDERS, STATE_WORDS, Filters
from retrain.label.container.rows import STATES, key_of
from retrain.labels import BLIND, KNOWN, REVIEW, SUGGESTED, TAG, UNSURE, Answer, Labels
from ripeloop.blobname import Blob

DAY = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def cache(tmp_path: Path) -> AsyncIterator[Cache]:
    opened = Cache(tmp_path / "cache.db")
    yield opened
    opened.close()


def blob(nth: int, labels: Labels | None = None, **about: Any) -> Blob:
    sample, _ = sample_of(nth, image=nth.to_bytes(4, "big"), **about)
    metadata = sample.metadata()
    return Blob(sample.blob, 100, labels.into(metadata) if labels else metadata, etag=str(nth))


def says(tag: str, by: str, how: str = BLIND) -> Answer:
    return Answer(TAG, (tag,), by, "2026-11-22T08:00:00Z", how)


async def put(cache: Cache, *blobs: Blob, overlap: float = 0.0) -> None:
    await cache.change(samples.put, blobs, overlap)


def pace(overlap: float = 0.0, known: float = 0.0, lease: float = 60.0, skip: float = 60.0) -> Pace:
    return Pace(overlap, known, lease, skip)


def draws(*values: float) -> Any:
    """Chance, told beforehand; the last one for ever."""
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


async def shown(
    queue: Queue, person: str, n: int = 100, mode: str = "label", admin: bool = False, **asked: str
) -> list[str]:
    filters = Filters.of(asked, name=person, admin=admin)
    return [row["blob"] for row in (await queue.next(person, admin, filters, mode, [], n)).rows]


async def test_what_a_label_would_teach_most_comes_first(cache: Cache) -> None:
    sure = blob(1, predictions=[("ripe", 0.95), ("unripe", 0.05)])
    unsure = blob(2, predictions=[("ripe", 0.5), ("unripe", 0.5)])
    audit = blob(3, reason="audit", predictions=[("ripe", 0.99)])
    await put(cache, sure, unsure, audit)
    assert await shown(Queue(cache, pace()), "kari") == [audit.name, unsure.name, sure.name]


async def test_every_order_and_filter_finds_what_a_search_through_all_rows_finds(cache: Cache) -> None:
    """The indexes are a matter of speed alone."""
    blobs = []
    for nth in range(240):
        answered = (
            [says("ripe", "kari")] if nth % 7 == 0 else [Answer(UNSURE, by="per", at="x")] if nth % 11 == 0 else []
        )
        blobs.append(
            blob(
                nth,
                Labels(tuple(answered)) if answered else None,
                device=f"line-{nth % 4}",
                reason=("audit", "low_confidence", "narrow_margin")[nth % 3],
                predictions=[(("ripe", "unripe")[nth % 2], 0.5 + (nth % 10) / 20), ("other", 0.1)],
                at=DAY + timedelta(hours=nth * 3),
            )
        )
    await put(cache, *blobs)
    every = await cache.ask(lambda look: look.rows("SELECT * FROM samples"))
    asked: list[dict[str, str]] = [
        {}, {"device": "line-1"}, {"tag": "ripe", "reason": "audit"}, {"from": "2026-11-05", "to": "2026-11-07"},
        {"device": "line-3", "from": "2026-11-20"}, {"said": "ripe"}, {"by": "kari"}, {"device": "nowhere"},
        {"by": "per", "device": "line-1"},
    ]  # fmt: skip
    for order in ORDERS:
        for state in STATE_WORDS:
            for one in asked:
                filters = Filters.of({**one, "order": order, "state": state}, name="anna", admin=True)
                wanted = expected(every, filters)
                assert await paged(cache, filters) == wanted, (order, state, one)


def expected(every: Sequence[Found], filters: Filters) -> list[str]:
    begin, end = filters.moments
    wanted = [
        row
        for row in every
        if row["state"] in filters.states("any")
        and all(row[name] == word for name, word in filters.cell.items())
        and (not begin or row["captured_at"] >= begin)
        and (not end or row["captured_at"] < end)
        and (not filters.said or row["said"] == filters.said)
        and (not filters.by or row["by"] == filters.by)
    ]
    newest = filters.order == "newest" and not filters.said and not filters.by
    wanted.sort(key=lambda row: finding.place_of(row, filters), reverse=newest)
    return [row["key"] for row in wanted]


async def paged(cache: Cache, filters: Filters, n: int = 37) -> list[str]:
    """All pages of a search, each from where the one before ended, by way of the address."""
    found: list[str] = []
    after: finding.Place | None = None
    while True:
        rows = await cache.ask(finding.find, filters, filters.states("any"), finding.Condition(), n, after)
        found += [row["key"] for row in rows]
        if len(rows) < n:
            return found
        after = finding.from_cursor(finding.to_cursor(finding.place_of(rows[-1], filters)), filters)
        assert after is not None


@pytest.mark.parametrize("cells", [1, 300])
async def test_a_filter_that_leaves_many_cells_finds_the_same(cache: Cache, cells: int) -> None:
    await put(cache, *(blob(nth, device=f"line-{nth % cells}", reason="audit") for nth in range(600)))
    await put(cache, *(blob(nth, device=f"line-{nth % cells}", reason="low_confidence") for nth in range(600, 700)))
    every = await cache.ask(lambda look: look.rows("SELECT * FROM samples"))
    filters = Filters.of({"reason": "low_confidence"}, name="anna", admin=True)
    assert await paged(cache, filters) == expected(every, filters)
    newest = Filters.of({"reason": "low_confidence", "order": "newest"}, name="anna", admin=True)
    assert await paged(cache, newest) == expected(every, newest)


def test_a_place_that_somebody_made_up_is_no_place() -> None:
    useful, newest = Filters(), Filters(order="newest")
    for text in ("", "x", "bm8=", finding.to_cursor(("a", "b")), finding.to_cursor((1,)), "%00", "é"):
        assert finding.from_cursor(text, useful) is None
    assert finding.from_cursor(finding.to_cursor((0.5, 3)), newest) is None
    assert finding.from_cursor(finding.to_cursor((0.5, 3)), useful) == (0.5, 3)


async def test_a_lease_ends_by_itself(cache: Cache) -> None:
    await put(cache, blob(1))
    short, long = Queue(cache, pace(lease=-1.0)), Queue(cache, pace())
    assert len(await shown(short, "kari")) == 1
    assert len(await shown(long, "per")) == 1
    assert await shown(long, "kari") == []  # his lease is not over
    await long.release([key_of(blob(1).name)], "kari")  # nor hers to give back
    assert await shown(long, "kari") == []


async def test_a_second_opinion_is_asked_of_somebody_else_and_only_once(cache: Cache) -> None:
    once = blob(1, Labels((says("ripe", "kari"),)))
    await put(cache, once, blob(2), overlap=1.0)
    queue = Queue(cache, pace(overlap=0.1), draws(0.05))
    assert await shown(queue, "kari") == [blob(2).name]
    await queue.release([key_of(blob(2).name)], "kari")
    assert await shown(queue, "per", n=1) == [once.name]  # drawn
    await put(cache, blob(1, Labels((says("ripe", "kari"), says("ripe", "per")))), overlap=1.0)
    assert await shown(queue, "ida") == [blob(2).name]


async def test_a_known_image_takes_the_place_of_a_new_one_and_is_not_asked_alone(cache: Cache) -> None:
    settled = blob(1, Labels((says("ripe", "kari"), says("ripe", "per"))))
    await put(cache, settled)
    queue = Queue(cache, pace(known=0.5), draws(0.1))
    assert await shown(queue, "ida") == []
    await put(cache, blob(2))
    found = await queue.next("ida", False, Filters(), "label", [], 1)
    assert [(row["blob"], row["asked"]) for row in found.rows] == [(settled.name, CHECK)]
    await queue.release([settled.name, key_of(settled.name)], "ida")
    assert await shown(queue, "kari", n=1) == [blob(2).name]  # she gave one of its answers


async def test_only_a_certain_label_measures_people(cache: Cache) -> None:
    reviewed = blob(1, Labels((says("ripe", "kari"), says("unripe", "per"), says("ripe", "anna", REVIEW))))
    alone, differ = blob(2, Labels((says("ripe", "kari"),))), blob(3, Labels((says("a", "kari"), says("b", "per"))))
    vague = blob(4, Labels((Answer(UNSURE, by="kari"), Answer(UNSURE, by="per"))))
    await put(cache, reviewed, alone, differ, vague)
    rows = await cache.ask(lambda look: look.rows("SELECT blob FROM samples WHERE settled = 1"))
    assert [row["blob"] for row in rows] == [reviewed.name]


@pytest.fixture(scope="module")
def many() -> list[str]:
    return [f"{nth:064x}" for nth in range(4000)]


def test_shares_are_what_they_say_and_depend_on_nothing_else(many: list[str]) -> None:
    twice = [id_ for id_ in many if chances.wants_two(id_, 0.05)]
    assert 130 < len(twice) < 270
    blind = [id_ for id_ in many if chances.is_blind(id_, "kari", 0.2)]
    assert 700 < len(blind) < 900
    assert blind == [id_ for id_ in many if chances.is_blind(id_, "kari", 0.2)]
    both = [id_ for id_ in twice if chances.is_blind(id_, "kari", 0.2)]
    assert 15 < len(both) < 70  # one says nothing of the other
    assert not any(chances.wants_two(id_, 0.0) for id_ in many)
    assert all(chances.wants_two(id_, 1.0) for id_ in many)


WHO = st.sampled_from(["kari", "per", "ida"])
STEPS = st.lists(st.tuples(WHO, st.sampled_from(["ripe", "unripe", "undo", "check", "decide"])), max_size=12)


@given(STEPS, st.sampled_from([0.0, 1.0]))
def test_whatever_people_do_no_more_stand_than_are_wanted_and_checks_decide_nothing(steps: Any, overlap: float) -> None:
    labels, shares = Labels(), Shares(overlap, 0.0)
    for nth, (who, what) in enumerate(steps):
        at = f"2026-11-22T08:00:{nth:02}Z"
        if what == "undo":
            without = undone(labels, who, "", at)
            before = labels.standing
            labels = labels if without is None else without
            assert {answer.by for answer in labels.standing} >= {
                one.by for one in before if one.by != who and one.how != REVIEW
            } or any(one.how == REVIEW for one in (*before, *labels.standing))
            continue
        wish = Wish(
            "0" * 64, who, TAG, ("ripe" if what == "ripe" else "unripe",), at,
            asked=what if what in ("check", "decide") else "first", seen=len(labels.answers), admin=True,
        )  # fmt: skip
        found = decided(labels, wish, shares)
        if isinstance(found, Taken):
            assert found.theirs.by != who
            continue
        if found.answers[-1].how == KNOWN:
            assert found.standing == labels.standing
        labels = found
    opinions = [answer for answer in labels.standing if answer.how != REVIEW]
    assert len(opinions) <= 1 + int(overlap)
    assert not any(answer.how == KNOWN for answer in labels.standing)


def test_a_review_stands_until_another_one() -> None:
    shares = Shares(0.0, 0.0)
    labels = Labels((says("ripe", "kari", SUGGESTED), says("unripe", "anna", REVIEW)))
    again = Wish("0" * 64, "anna", TAG, ("ripe",), "2026-11-22T09:00:00Z", admin=True)
    found = decided(labels, again, shares)
    assert not isinstance(found, Taken)
    assert found.final == Answer(TAG, ("ripe",), "anna", "2026-11-22T09:00:00Z", REVIEW)
    assert isinstance(decided(labels, Wish("0" * 64, "kari", TAG, ("ripe",), "z"), shares), Taken)


def test_what_nobody_answered_is_not_decided_but_answered() -> None:
    alone = decided(Labels(), Wish("0" * 64, "ida", TAG, ("ripe",), "z", asked="decide"), Shares(0.0, 0.0))
    assert not isinstance(alone, Taken)
    assert alone.answers[-1].how == SUGGESTED


def test_who_decides_on_what_has_changed_meanwhile_is_told() -> None:
    labels = Labels((says("ripe", "kari"), says("unripe", "per"), says("ripe", "anna", REVIEW)))
    late = Wish("0" * 64, "ida", TAG, ("unripe",), "z", asked="decide", seen=2)
    found = decided(labels, late, Shares(1.0, 0.0))
    assert isinstance(found, Taken)
    assert found.theirs.by == "anna"


async def test_counts_follow_every_change(cache: Cache) -> None:
    def counted(look: Look) -> dict[str, int]:
        rows = look.rows("SELECT state, sum(n) AS n FROM counts GROUP BY state")
        return {row["state"]: row["n"] for row in rows if row["n"]}

    await put(cache, blob(1), blob(2), blob(3))
    await put(cache, blob(1, Labels((says("ripe", "kari"),))), blob(2, Labels((says("a", "kari"), says("b", "per")))))
    assert await cache.ask(counted) == {"open": 1, "tag": 1, "disputed": 1}
    await put(cache, blob(1))
    await cache.change(samples.forget, key_of(blob(3).name))
    assert await cache.ask(counted) == {"open": 1, "disputed": 1}
    assert set(await cache.ask(counted)) <= set(STATES)


async def test_leases_of_a_clock_that_was_ahead_end_with_the_next_start(cache: Cache) -> None:
    await put(cache, *(blob(nth) for nth in range(4)))
    now = time.time()

    def leased(look: Look) -> None:
        keys = [key_of(blob(nth).name) for nth in range(4)]
        ahead = now + 400 * 86400
        leases = [(keys[0], "per", ahead), (keys[1], "", ahead), (keys[2], "", now + 3600), (keys[3], "per", now + 30)]
        look.run_all("INSERT INTO leases VALUES (?, ?, ?)", leases)
        look.run("INSERT INTO skips VALUES ('kari', ?, ?)", (keys[0], ahead))

    await cache.change(leased)
    queue = Queue(cache, pace())
    assert await shown(queue, "kari") == []
    await queue.begin()
    assert set(await shown(queue, "kari")) == {blob(0).name, blob(1).name}


async def test_who_says_what_they_have_gets_no_lease_by_it(cache: Cache) -> None:
    await put(cache, *(blob(nth) for nth in range(4)))
    queue, keys = Queue(cache, pace()), [key_of(blob(nth).name) for nth in range(4)]
    found = await queue.next("kari", False, Filters(), "label", keys[:3], 10)
    assert [row["key"] for row in found.rows] == keys[3:]
    assert set(await shown(queue, "per")) == {blob(nth).name for nth in range(3)}


async def test_a_lease_goes_on_while_its_image_is_on_the_screen(cache: Cache) -> None:
    await put(cache, blob(1))
    short, long = Queue(cache, pace(lease=0.5)), Queue(cache, pace(lease=60))
    (row,) = (await short.next("kari", False, Filters(), "label", [], 1)).rows
    await long.next("kari", False, Filters(), "label", [row["key"]], 1)
    await asyncio.sleep(0.6)
    assert await shown(long, "per") == []


@pytest.mark.parametrize("place", [[1, 10**27], [True, 1], [1.0, -(2**63) - 1], [1], 7, [1, "x"], None])
def test_a_cursor_that_no_database_takes_is_none(place: Any) -> None:
    assert finding.from_cursor(finding.to_cursor(place), Filters()) is None


def test_a_cursor_with_half_a_letter_is_none() -> None:
    newest = Filters(order="newest")
    assert finding.from_cursor(finding.to_cursor(("\ud800", 1)), newest) is None
    assert finding.from_cursor(finding.to_cursor(("2026", 1)), newest) == ("2026", 1)


def test_a_kept_answer_does_not_stand_over_a_newer_one_of_the_same_person() -> None:
    labels = Labels((Answer(TAG, ("unripe",), "kari", "2026-11-22T11:00:00Z", BLIND),))
    wish = Wish("0" * 64, "kari", TAG, ("ripe",), "2026-11-22T10:00:00Z")
    kept, now = decided(labels, wish, Shares(0.0, 0.0), late=True), decided(labels, wish, Shares(0.0, 0.0))
    assert isinstance(kept, Labels)
    assert isinstance(now, Labels)
    assert kept.final == labels.final
    assert now.final is not None
    assert now.final.tags == ("ripe",)  # two servers' clocks may differ: what is said now stands
