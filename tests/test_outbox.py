"""The index: what it promises over restarts, replays and any order of events."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ripeloop.errors import SettingsError
from ripeloop.prediction import Flagged, Prediction, format_time, image_id
from sampler.index.outbox import Outbox
from sampler.sample import Sample
from tallies import told

MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def sample(word: str, captured_at: datetime = MONDAY) -> Sample:
    image = word.encode()
    flagged = Flagged(image_id(image), captured_at, "low_confidence", (Prediction("ripe", 0.5),), "v1", "image/png")
    return Sample.of(flagged, image, device="line-1", now=captured_at)


def line(outbox: Outbox, now: datetime = MONDAY, limit: int = 99, **more: Any) -> list[str]:
    return [one.sample.id for one in outbox.due(now, limit, **more)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_an_outbox_survives_a_restart(path: Path) -> None:
    first = Outbox(path)
    first.add(sample("a"))
    first.close()
    second = Outbox(path)
    assert [one.sample for one in second.due(MONDAY, 10)] == [sample("a")]
    second.close()


def test_every_change_is_on_disk_when_the_call_returns(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert other.execute("SELECT count(*) FROM samples").fetchone() == (1,)
    other.close()
    assert outbox.index.rows("PRAGMA synchronous") == [{"synchronous": 2}]
    outbox.close()


def test_adding_again_changes_nothing(path: Path) -> None:
    outbox = Outbox(path)
    assert outbox.add(sample("a"))
    outbox.uploaded(sample("a").id, MONDAY)
    assert not outbox.add(sample("a"))
    assert not outbox.add(sample("a", MONDAY + MINUTE))
    assert told(outbox) == {"flagged": 1, "kept": 1, "uploaded": 1}
    assert (outbox.counters().uploaded_bytes, outbox.counters().local_bytes) == (1, 1)
    outbox.close()


def test_the_oldest_come_first_and_each_once(path: Path) -> None:
    outbox = Outbox(path)
    samples = [sample(f"{n}", MONDAY + n * MINUTE) for n in range(5)]
    for one in reversed(samples):
        outbox.add(one)
    first = outbox.due(MONDAY + 9 * MINUTE, 2)
    assert [one.sample for one in first] == samples[:2]
    assert [one.sample for one in outbox.due(MONDAY + 9 * MINUTE, 9, first[-1])] == samples[2:]
    assert outbox.counters().oldest_waiting == format_time(MONDAY)
    outbox.close()


def test_a_refused_sample_waits_for_its_next_try_and_holds_nobody_up(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("poison"))
    outbox.add(sample("good", MONDAY + MINUTE))
    outbox.refused(sample("poison").id, "no", MONDAY + 5 * MINUTE)
    assert line(outbox) == [sample("good").id]
    assert outbox.due(MONDAY + 5 * MINUTE, 9)[0].tries == 1
    outbox.refused(sample("poison").id, "no", None)
    assert told(outbox) == {"flagged": 2, "kept": 2, "waiting": 1, "set_aside": 1}
    assert outbox.states_of([sample("poison").id, "nobody"]) == [(sample("poison").id, "set_aside", "no")]
    assert outbox.revive() == 1
    assert told(outbox) == {"flagged": 2, "kept": 2, "waiting": 2}
    assert outbox.due(MONDAY, 9)[0].tries == 0
    outbox.close()


def test_a_clock_put_back_a_year_stops_no_upload(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    outbox.refused(sample("a").id, "no", MONDAY + 5 * MINUTE)
    assert line(outbox, MONDAY - timedelta(days=365)) == [sample("a").id]
    assert line(outbox, MONDAY - timedelta(days=365), kept_before=MONDAY - timedelta(days=366)) == [sample("a").id]
    outbox.close()


def test_what_the_cloud_has_is_never_set_aside(path: Path) -> None:
    outbox = Outbox(path)
    outbox.add(sample("a"))
    outbox.uploaded(sample("a").id, MONDAY)
    outbox.refused(sample("a").id, "late answer", None)
    outbox.evict([sample("a").id], "quota")
    assert told(outbox) == {"flagged": 1, "kept": 1, "uploaded": 1}
    outbox.close()


def test_one_flagging_is_dropped_once_and_another_of_the_same_image_again(path: Path) -> None:
    outbox = Outbox(path)
    for moment in (MONDAY, MONDAY, MONDAY + MINUTE):
        outbox.drop(sample("a").id, format_time(moment), "budget", MONDAY)
    assert outbox.was_dropped(sample("a").id, format_time(MONDAY))
    assert not outbox.was_dropped(sample("a").id, format_time(MONDAY - MINUTE))
    assert told(outbox) == {"flagged": 2, "dropped": {"budget": 2}}
    outbox.close()


def test_folding_keeps_the_numbers_and_the_drops_that_may_be_told_again(path: Path) -> None:
    outbox = Outbox(path)
    for word in "abc":
        outbox.drop(sample(word).id, format_time(MONDAY), "duplicate", MONDAY)
    outbox.drop(sample("d").id, format_time(MONDAY), "budget", MONDAY + 5 * MINUTE)
    for _ in range(2):
        outbox.fold(MONDAY + MINUTE, [sample("a").id])
        assert told(outbox) == {"flagged": 4, "dropped": {"duplicate": 3, "budget": 1}}
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


def test_a_clock_that_was_ahead_leaves_nothing_behind_it(path: Path) -> None:
    outbox = Outbox(path)
    years_ahead = MONDAY + timedelta(days=400)
    for word in "abc":
        outbox.add(replace(sample(word), kept_at=years_ahead))
    outbox.uploaded(sample("c").id, years_ahead)
    outbox.drop(sample("d").id, "then", "budget", years_ahead)
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
        assert told(outbox) == {}
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
    assert told(outbox) == {"flagged": 3, "kept": 3, "waiting": 3}
    outbox.close()


def test_an_index_of_a_newer_version_is_not_touched(path: Path) -> None:
    Outbox(path).close()
    database = sqlite3.connect(path)
    database.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('outbox', 'next_year')")
    database.commit()
    database.close()
    with pytest.raises(SettingsError, match="newer sampler"):
        Outbox(path)


def test_a_folder_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(SettingsError, match="let this user write"):
        Outbox(tmp_path / "state" / "outbox.db")
