"""The index: what it promises over restarts, replays and any order of events."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ripeloop.errors import SettingsError
from ripeloop.prediction import Flagged, Prediction, format_time, image_id
from sampler.outbox import Counters, Outbox, Waiting
from sampler.sample import Sample

MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def sample(word: str, captured_at: datetime = MONDAY) -> Sample:
    image = word.encode()
    flagged = Flagged(image_id(image), captured_at, "low_confidence", (Prediction("ripe", 0.5),), "v1", "image/png")
    return Sample.of(flagged, image, device="line-1", now=captured_at)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_an_outbox_survives_a_restart(path: Path) -> None:
    first = Outbox(path)
    first.add(sample("a"))
    first.close()
    second = Outbox(path)
    assert second.due(MONDAY, 10) == [Waiting(sample("a"))]
    second.close()


def test_every_change_is_on_disk_when_the_call_returns(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert other.execute("SELECT count(*) FROM samples").fetchone() == (1,)
    other.close()
    assert outbox._rows("PRAGMA synchronous", []) == [{"synchronous": 2}]
    outbox.close()


def test_adding_again_changes_nothing(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.add(sample("a"))
    outbox.uploaded(sample("a").id, MONDAY)
    assert not outbox.add(sample("a"))
    assert not outbox.add(sample("a", MONDAY + MINUTE))
    assert outbox.counters() == Counters(kept=1, uploaded=1, uploaded_bytes=1)
    outbox.close()


def test_the_oldest_come_first_and_each_once(path: Path) -> None:
    outbox = Outbox(path)
    samples = [sample(f"{n}", MONDAY + n * MINUTE) for n in range(5)]
    for one in reversed(samples):
        outbox.add(one)
    first = outbox.due(MONDAY, 2)
    assert [waiting.sample for waiting in first] == samples[:2]
    assert [waiting.sample for waiting in outbox.due(MONDAY, 9, first[-1].sample)] == samples[2:]
    outbox.close()


def test_a_refused_sample_waits_for_its_next_try_and_holds_nobody_up(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("poison"))
    outbox.add(sample("good", MONDAY + MINUTE))
    outbox.refused(sample("poison").id, "no", MONDAY + 5 * MINUTE)
    assert outbox.due(MONDAY, 9) == [Waiting(sample("good", MONDAY + MINUTE))]
    assert outbox.due(MONDAY + 5 * MINUTE, 9)[0] == Waiting(sample("poison"), tries=1)
    outbox.refused(sample("poison").id, "no", None)
    assert outbox.counters() == Counters(kept=2, waiting=1, set_aside=1)
    outbox.close()


def test_a_clock_put_back_a_year_stops_no_upload(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    outbox.refused(sample("a").id, "no", MONDAY + 5 * MINUTE)
    assert outbox.due(MONDAY - timedelta(days=365), 9) == [Waiting(sample("a"), tries=1)]
    outbox.close()


def test_what_the_cloud_has_is_never_set_aside(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    outbox.uploaded(sample("a").id, MONDAY)
    outbox.refused(sample("a").id, "late answer", None)
    assert outbox.counters() == Counters(kept=1, uploaded=1, uploaded_bytes=1)
    outbox.close()


def test_one_flagging_is_dropped_once_and_another_of_the_same_image_again(path: Path) -> None:
    outbox = Outbox(path)
    for moment in (MONDAY, MONDAY, MONDAY + MINUTE):
        outbox.drop(sample("a").id, format_time(moment), "budget", MONDAY)
    assert outbox.was_dropped(sample("a").id, format_time(MONDAY))
    assert not outbox.was_dropped(sample("a").id, format_time(MONDAY - MINUTE))
    assert outbox.counters() == Counters(dropped={"budget": 2})
    outbox.close()


def test_folding_keeps_the_numbers_and_the_drops_that_may_be_told_again(path: Path) -> None:
    outbox = Outbox(path)
    for word in "abc":
        outbox.drop(sample(word).id, format_time(MONDAY), "duplicate", MONDAY)
    outbox.drop(sample("d").id, format_time(MONDAY), "budget", MONDAY + 5 * MINUTE)
    for _ in range(2):
        outbox.fold(MONDAY + MINUTE, [sample("a").id])
        assert outbox.counters() == Counters(dropped={"duplicate": 3, "budget": 1})
    assert outbox.was_dropped(sample("a").id, format_time(MONDAY))
    assert not outbox.was_dropped(sample("b").id, format_time(MONDAY))
    outbox.close()


def test_known_tells_the_flagging_and_whether_the_spool_may_let_go(path: Path) -> None:
    outbox = Outbox(path)
    ids = [image_id(f"{n}".encode()) for n in range(1200)]
    for word in ("1", "2", "3"):
        outbox.add(sample(word))
    outbox.uploaded(sample("2").id, MONDAY)
    outbox.proven([sample("3").id])
    known = outbox.known(ids)
    assert {id_: one.safe for id_, one in known.items()} == {ids[1]: False, ids[2]: True, ids[3]: True}
    assert all(one.captured_at == MONDAY for one in known.values())
    outbox.close()


def test_what_is_uploaded_or_proven_needs_no_second_look(path: Path) -> None:
    outbox = Outbox(path)
    for word in "abc":
        outbox.add(sample(word))
    outbox.uploaded(sample("a").id, MONDAY)
    assert outbox.unproven(MONDAY - MINUTE, 9) == []
    assert {one.id for one in outbox.unproven(MONDAY, 9)} == {sample("b").id, sample("c").id}
    outbox.proven([sample("b").id])
    outbox.put_again(sample("c").id, MONDAY + MINUTE)
    assert outbox.unproven(MONDAY, 9) == []
    assert outbox.unproven(MONDAY + MINUTE, 9) == [sample("c")]
    outbox.close()


def test_local_blobs_expire_some_time_after_their_upload(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    assert outbox.expired(MONDAY + MINUTE, 9) == []
    outbox.uploaded(sample("a").id, MONDAY)
    assert outbox.expired(MONDAY - MINUTE, 9) == []
    assert outbox.expired(MONDAY, 9) == [sample("a")]
    outbox.freed([sample("a").id])
    assert outbox.expired(MONDAY, 9) == []
    outbox.close()


def test_the_budget_counts_what_was_kept_in_the_last_hour(path: Path) -> None:
    outbox = Outbox(path)
    for n in range(4):
        outbox.add(replace(sample(f"{n}"), kept_at=MONDAY - n * 30 * MINUTE))
    assert outbox.kept_between(MONDAY - 60 * MINUTE, MONDAY) == 2
    outbox.close()


def test_a_clock_that_was_ahead_leaves_nothing_behind_it(path: Path) -> None:
    outbox = Outbox(path)
    years_ahead = MONDAY + timedelta(days=400)
    for word in "abc":
        outbox.add(replace(sample(word), kept_at=years_ahead))
    outbox.uploaded(sample("c").id, years_ahead)
    outbox.drop(sample("d").id, "then", "budget", years_ahead)
    assert outbox.kept_between(MONDAY - 60 * MINUTE, MONDAY) == 0
    assert outbox.unproven(MONDAY, 9) == outbox.expired(MONDAY, 9) == []
    outbox.leave_the_future(MONDAY)
    assert outbox.unproven(MONDAY - MINUTE, 9) == outbox.expired(MONDAY - MINUTE, 9) == []
    assert [one.id for one in outbox.expired(MONDAY, 9)] == [sample("c").id]
    assert {one.id for one in outbox.unproven(MONDAY, 9)} == {sample("a").id, sample("b").id}
    outbox.fold(MONDAY, [])
    assert not outbox.was_dropped(sample("d").id, "then")
    assert outbox.counters().dropped == {"budget": 1}
    outbox.close()


def rot(data: bytes) -> bytes:
    return data[:4096] + b"rot!" * ((len(data) - 4096) // 4)


@pytest.mark.parametrize(
    "damage", [lambda _: b"no database at all" * 500, lambda data: data[: len(data) // 2], rot, lambda data: data[:50]]
)
def test_a_damaged_index_is_set_aside_and_a_new_one_begun(
    path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(path)
    outbox.add_all([sample(f"{n}") for n in range(200)])
    outbox.completed()
    outbox.close()
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    path.with_name("outbox.db-wal").write_bytes(b"rest")
    for _ in range(2):
        outbox = Outbox(path)
        assert not outbox.is_complete()
        assert outbox.counters() == Counters()
        outbox.close()
    (kept,) = (one for one in path.parent.glob("outbox.db.damaged-*") if not one.name.endswith(("-wal", "-shm")))
    assert kept.read_bytes() == damaged
    assert len([line for line in caplog.messages if "the index is damaged" in line]) == 1


def test_an_index_is_complete_once_it_was_told_so(path: Path) -> None:
    outbox = Outbox(path)
    assert not outbox.is_complete()
    assert outbox.add_all([sample("a"), sample("b")]) == 2
    assert outbox.add_all([sample("a"), sample("c")]) == 1
    assert outbox.add_all([]) == 0
    outbox.completed()
    outbox.close()
    outbox = Outbox(path)
    assert outbox.is_complete()
    assert outbox.counters() == Counters(kept=3, waiting=3)
    outbox.close()


def test_an_index_of_a_newer_version_is_not_touched(path: Path) -> None:
    Outbox(path).close()
    database = sqlite3.connect(path)
    database.execute("UPDATE _sqlite_migrations SET name = 'from_next_year'")
    database.commit()
    database.close()
    with pytest.raises(SettingsError, match="newer sampler"):
        Outbox(path)


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(SettingsError, match="let this user write"):
        Outbox(tmp_path / "state" / "outbox.db")


WORDS = st.sampled_from("abcd")
MOMENTS = st.integers(0, 2).map(lambda n: MONDAY + n * MINUTE)
IMAGES = st.builds(sample, WORDS, MOMENTS)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, twice or not at all, before a kill or after: the counters add up and nothing is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.outbox = Outbox(Path(self.folder.name) / "outbox.db")
        self.kept: dict[str, str] = {}
        self.dropped: dict[tuple[str, str], str] = {}

    @rule(one=IMAGES)
    def add(self, one: Sample) -> None:
        assert self.outbox.add(one) == (one.id not in self.kept)
        self.kept.setdefault(one.id, "waiting")

    @rule(one=IMAGES, reason=st.sampled_from(["duplicate", "budget"]))
    def drop(self, one: Sample, reason: str) -> None:
        self.outbox.drop(one.id, format_time(one.captured_at), reason, one.captured_at)
        self.dropped.setdefault((one.id, format_time(one.captured_at)), reason)

    @rule(one=IMAGES)
    def uploaded(self, one: Sample) -> None:
        self.outbox.uploaded(one.id, MONDAY)
        if one.id in self.kept:
            self.kept[one.id] = "uploaded"

    @rule(one=IMAGES, again=st.booleans())
    def refused(self, one: Sample, again: bool) -> None:
        self.outbox.refused(one.id, "no", MONDAY if again else None)
        if self.kept.get(one.id) == "waiting" and not again:
            self.kept[one.id] = "set_aside"

    @rule(one=IMAGES)
    def safe(self, one: Sample) -> None:
        self.outbox.proven([one.id])
        self.outbox.freed([one.id])

    @rule(moment=MOMENTS)
    def fold(self, moment: datetime) -> None:
        # as in life: what may come again is still in the spool
        self.outbox.fold(moment, {id_ for id_, _ in self.dropped})

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(Path(self.folder.name) / "outbox.db")

    @invariant()
    def the_counters_add_up(self) -> None:
        counters = self.outbox.counters()
        states = list(self.kept.values())
        assert counters.kept == len(states) == counters.uploaded + counters.waiting + counters.set_aside
        assert counters.uploaded == states.count("uploaded")
        assert counters.set_aside == states.count("set_aside")
        assert sum(counters.dropped.values()) == len(self.dropped)
        assert len(self.outbox.due(MONDAY, 99)) == counters.waiting

    def teardown(self) -> None:
        self.outbox.close()
        self.folder.cleanup()


AnyOrder.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
test_the_counters_add_up_in_any_order = AnyOrder.TestCase
