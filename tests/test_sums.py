"""Every flagged image is in exactly one state with a reason, and the counters add up, in any order of events."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ripeloop.prediction import Flagged, Prediction, format_time, image_id
from sampler.index import schema
from sampler.index.outbox import Dropped, Kept, Outbox
from sampler.keeping.keep import places
from sampler.sample import Sample
from tallies import told

MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def sample(word: str, captured_at: datetime = MONDAY, reason: str = "low_confidence", tag: str = "ripe") -> Sample:
    image = word.encode()
    flagged = Flagged(image_id(image), captured_at, reason, (Prediction(tag, 0.5), Prediction("other", 0.4)), "v1")
    return Sample.of(flagged, image, device="line-1", now=captured_at)


WORDS = st.sampled_from("abcdef")
MOMENTS = st.integers(0, 2).map(lambda n: MONDAY + n * MINUTE)
IMAGES = st.builds(sample, WORDS, MOMENTS)
REASONS = st.sampled_from(["quota", "disk"])


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, twice or not at all, before a kill or after: the counters add up and nothing is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.outbox = Outbox(Path(self.folder.name) / "outbox.db")
        self.kept: dict[str, str] = {}
        self.here: set[str] = set()
        self.dropped: dict[tuple[str, str], str] = {}
        self.places: Counter[tuple[str, str]] = Counter()
        self.samples: dict[str, Sample] = {}

    @rule(batch=st.lists(IMAGES, max_size=3, unique_by=lambda one: one.id), drops=st.lists(IMAGES, max_size=2))
    def settle(self, batch: list[Sample], drops: list[Sample]) -> None:
        dropped = [Dropped(one.id, format_time(one.captured_at), "budget", one.captured_at) for one in drops]
        self.outbox.settle([Kept(one, 0.5) for one in batch], dropped)
        for one in batch:
            self.learn(one)
        for drop in dropped:
            self.dropped.setdefault((drop.id, drop.captured_at), drop.reason)

    @rule(one=IMAGES, victim=WORDS)
    def take_a_place(self, one: Sample, victim: str) -> None:
        new = one.id not in self.kept or self.is_lost(one.id)
        gone = self.outbox.settle([Kept(one, 0.9, image_id(victim.encode()), "budget")], [])
        self.learn(one)
        if not new:
            assert gone == []
            return
        other = image_id(victim.encode())
        expected = other if self.kept.get(other) == "waiting" and other != one.id else one.id
        assert gone == [expected]
        self.kept[expected] = "evicted:budget"
        self.places.subtract(self.places_of(expected))

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

    @rule()
    def revive(self) -> None:
        aside = [id_ for id_, state in self.kept.items() if state == "set_aside"]
        assert self.outbox.revive() == len(aside)
        self.kept.update(dict.fromkeys(aside, "waiting"))

    @rule(one=IMAGES, reason=REASONS)
    def evict(self, one: Sample, reason: str) -> None:
        self.outbox.evict([one.id], reason)
        if self.kept.get(one.id) in ("waiting", "set_aside"):
            self.kept[one.id] = f"evicted:{reason}"

    @rule(one=IMAGES)
    def freed(self, one: Sample) -> None:
        self.outbox.proven([one.id])
        self.outbox.freed([one.id])
        self.here.discard(one.id)

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
        states = Counter(state.partition(":")[0] for state in self.kept.values())
        evicted = Counter(state.partition(":")[2] for state in self.kept.values() if state.startswith("evicted"))
        expected: dict[str, Any] = {
            "flagged": len(self.kept) + len(self.dropped),
            "kept": len(self.kept),
            **{name: states[name] for name in ("uploaded", "waiting", "set_aside")},
            "evicted": dict(evicted),
            "dropped": dict(Counter(self.dropped.values())),
        }
        assert told(self.outbox) == {name: value for name, value in expected.items() if value}
        assert self.outbox.counters().local_bytes == sum(self.samples[id_].size for id_ in self.here)
        assert len(self.outbox.due(MONDAY + 9 * MINUTE, 99)) == states["waiting"]

    @invariant()
    def the_budgets_add_up(self) -> None:
        spent: dict[tuple[str, str], int] = {}
        for n in range(3):
            spent |= self.outbox.spent((MONDAY + n * MINUTE).astimezone())
        assert {key: n for key, n in spent.items() if n} == {key: n for key, n in self.places.items() if n}

    def teardown(self) -> None:
        self.outbox.close()
        self.folder.cleanup()

    def learn(self, one: Sample) -> None:
        if self.is_lost(one.id):  # it is kept again, and its flagging of before counts as a duplicate
            self.dropped.setdefault((one.id, format_time(self.samples[one.id].captured_at)), "duplicate")
            del self.kept[one.id]
        if one.id not in self.kept:
            self.kept[one.id] = "waiting"
            self.here.add(one.id)
            self.samples[one.id] = one
            self.places.update(self.places_of(one.id))

    def is_lost(self, id_: str) -> bool:
        return self.kept.get(id_, "").startswith("evicted") and id_ not in self.here

    def places_of(self, id_: str) -> list[tuple[str, str]]:
        return places("ripe", "low_confidence", self.samples[id_].kept_at.astimezone())


AnyOrder.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_the_counters_add_up_in_any_order = AnyOrder.TestCase


# -- an older index


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    """An index as version 1 wrote it: kept, uploaded, set aside, freed, dropped and folded."""
    path = tmp_path / "outbox.db"
    db = schema.Database(sqlite3.connect(path), execute_plugins=False)
    db.enable_wal()
    migrations = schema.Migrations("outbox")
    migrations()(schema.STEPS[0])
    migrations.apply(db)
    for n, (state, freed) in enumerate([("waiting", 0), ("waiting", 0), ("uploaded", 0), ("uploaded", 1)]):
        one = sample("sure" if n else "audit", reason="low_confidence" if n else "audit")
        probability = 0.5 + n / 10
        db.execute(
            "INSERT INTO samples (id, captured_at, reason, predictions, model, device, blob, content_type, size, "
            "kept_at, put_at, state, freed) VALUES (?, ?, ?, ?, 'v1', 'line-1', ?, 'image/png', 100, ?, ?, ?, ?)",
            [
                f"{n:064x}", format_time(MONDAY - n * MINUTE), one.reason,
                f'[["ripe", {probability}], ["unripe", {1 - probability}]]', f"line-1/2026/11/23/{n:064x}.png",
                format_time(MONDAY), format_time(MONDAY), state, freed,
            ],
        )  # fmt: skip
    db.execute("INSERT INTO drops VALUES ('x', 'then', 'duplicate', ?)", [format_time(MONDAY)])
    db.execute("INSERT INTO dropped VALUES ('budget', 7), ('duplicate', 2)")
    db.execute("PRAGMA user_version = 1")
    db.conn.commit()
    db.close()
    return path


def test_an_index_of_version_1_keeps_all_it_knew_and_counts_on(first_version: Path) -> None:
    for _ in range(2):
        outbox = Outbox(first_version)
        assert outbox.is_complete()
        assert told(outbox) == {
            "flagged": 14,
            "kept": 4,
            "uploaded": 2,
            "waiting": 2,
            "dropped": {"budget": 7, "duplicate": 3},
        }
        counters = outbox.counters()
        assert (counters.uploaded_bytes, counters.waiting_bytes, counters.local_bytes) == (200, 200, 300)
        assert [one.sample.reason for one in outbox.due(MONDAY, 9)] == ["audit", "low_confidence"]
        assert outbox.was_dropped("x", "then")
        outbox.close()
    outbox = Outbox(first_version)
    outbox.add(sample("new"))
    outbox.uploaded(f"{0:064x}", MONDAY)
    assert told(outbox)["uploaded"] == 3
    assert told(outbox)["flagged"] == 15
    outbox.close()
