"""The index of all samples: what was kept, dropped, uploaded, evicted and set aside.

A row is a promise: it is written after the local blob, and from then on the image will reach the cloud or be counted
with a reason. Every method is one transaction that is on disk when it returns, may be called again after a crash, and
blocks: call it in a thread. It raises Offline when the disk does not take the change.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from ripeloop.prediction import format_time, parse_time
from sampler.index.index import Index
from sampler.index.rows import INSERT, LOST, REVIVE, Counters, Dropped, Kept, Known, Look, Waiting, to_row, to_sample
from sampler.keeping.keep import DUPLICATE, Rival, places, top_tag, usefulness
from sampler.sample import Sample
from sampler.telling.trouble import Troubles
from sampler.uploading.gate import LATEST

__all__ = ["Counters", "Dropped", "Kept", "Known", "Look", "Outbox", "Waiting"]

WAITING = "waiting"
UPLOADED = "uploaded"
EVICTED = "evicted"
SET_ASIDE = "set_aside"
UPLINK = "uplink"  # the bytes of a day, among its budgets

LONGEST_WAIT = timedelta(minutes=10)
QUERY_IDS = 500
DAYS_OF_BUDGETS = timedelta(days=2)
DAYS_AHEAD = timedelta(days=LATEST + 4)


class Outbox:
    """The index in the file `path`, which is made or brought up to date. Safe to use from several threads.

    A damaged file is set aside and a new one begun; until `completed`, a new one does not know of all samples.
    Raises SettingsError.
    """

    def __init__(self, path: Path, troubles: Troubles | None = None) -> None:
        self.index = Index(path, troubles or Troubles())

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        self.index.close()

    # -- what comes in

    def settle(self, kept: Sequence[Kept], dropped: Sequence[Dropped]) -> list[str]:
        """Keep and drop all of these at once; the ids of the samples that gave their place for others.

        What is kept already, or dropped already, changes nothing. Where the one that should give its place is in the
        cloud by now, it is the new one that is evicted.
        """
        spent: Counter[tuple[str, str]] = Counter()
        gone: list[str] = []
        with self.index.change() as db:
            for one in kept:
                if not db.execute(INSERT, to_row(one)).rowcount and not _revived(db, one):
                    continue
                spent.update(_places(one.sample))
                if one.instead_of:
                    gone.append(_give_place(db, one, spent))
            db.executemany(
                "INSERT OR IGNORE INTO drops VALUES (?, ?, ?, ?)",
                [(one.id, one.captured_at, one.reason, format_time(one.at)) for one in dropped],
            )
            _spend(db, spent)
        return gone

    def add(self, sample: Sample) -> bool:
        """Keep `sample`, to be uploaded; False where the image is a sample already."""
        return bool(self.add_all([sample]))

    def add_all(self, samples: Sequence[Sample]) -> int:
        """Keep all of `samples`, to be uploaded; how many were none before."""
        before = self.counters().kept
        self.settle([Kept(one, usefulness(one.predictions, one.reason)) for one in samples], [])
        return self.counters().kept - before

    def drop(self, id_: str, captured_at: str, reason: str, now: datetime) -> None:
        """Count one flagging, named by image and time, as dropped; once, however often it is told."""
        self.settle([], [Dropped(id_, captured_at, reason, now)])

    def was_dropped(self, id_: str, captured_at: str) -> bool:
        """True where this very flagging was dropped before."""
        return bool(self.index.rows("SELECT 1 FROM drops WHERE id = ? AND captured_at = ?", [id_, captured_at]))

    def known(self, ids: Iterable[str]) -> dict[str, Known]:
        """Those of `ids` that are samples. What is evicted, but not gone yet, leaves the spool only afterwards."""
        found: dict[str, Known] = {}
        rest = iter(ids)
        while some := list(islice(rest, QUERY_IDS)):
            marks = ",".join("?" * len(some))
            query = (
                f"SELECT id, captured_at, blob, state, safe, freed, {LOST} AS lost FROM samples WHERE id IN ({marks})"  # noqa: S608
            )
            for row in self.index.rows(query, some):
                safe = bool(row["freed"] if row["state"] == EVICTED else row["safe"] or row["state"] == UPLOADED)
                lost = bool(row["lost"])
                found[row["id"]] = Known(parse_time(row["captured_at"]), safe or lost, lost, row["blob"])
        return found

    def is_complete(self) -> bool:
        """False for a new index, which may have to learn first what its predecessor knew."""
        (row,) = self.index.rows("PRAGMA user_version")
        return bool(row["user_version"])

    def completed(self) -> None:
        """The index knows all that the local store holds, and from now on it always will."""
        with self.index.change() as db:
            db.execute("PRAGMA user_version = 1")

    # -- what deciding needs

    def spent(self, at: datetime) -> dict[tuple[str, str], int]:
        """The places taken in the minute, the hour and the day of `at`, a local time with its zone."""
        times = sorted({start for start, _ in places("", "", at)})
        query = "SELECT start, key, n FROM spent WHERE start IN (?, ?, ?)"
        return {(row["start"], row["key"]): row["n"] for row in self.index.rows(query, times)}

    def least_useful(self, since: datetime, tag: str | None, reason: str | None, limit: int) -> list[Rival]:
        """The least useful waiting samples kept since then, of that tag and reason where given; no audit samples."""
        query = """
            SELECT id, place, kept_at, tag, reason FROM samples INDEXED BY samples_places
            WHERE state = 'waiting' AND reason <> 'audit' AND kept_at >= ?
                AND tag = ifnull(?, tag) AND reason = ifnull(?, reason)
            ORDER BY place DESC LIMIT ?
        """
        rows = self.index.rows(query, [format_time(since), tag, reason, limit])
        return [Rival(row["id"], -row["place"], parse_time(row["kept_at"]), row["tag"], row["reason"]) for row in rows]

    def is_waiting(self, id_: str) -> bool:
        """True where this sample is still to be uploaded."""
        return bool(self.index.rows("SELECT 1 FROM samples WHERE id = ? AND state = 'waiting'", [id_]))

    def looks(self, limit: int) -> list[Look]:
        """What the newest samples look like, the oldest of them first."""
        query = """
            SELECT id, dhash, camera, tag, captured_at FROM samples WHERE dhash <> '' AND state <> 'evicted'
            ORDER BY captured_at DESC LIMIT ?
        """
        rows = self.index.rows(query, [limit])
        return [Look(**row | {"captured_at": parse_time(row["captured_at"])}) for row in reversed(rows)]

    # -- what goes out

    def due(
        self, now: datetime, limit: int, after: Waiting | None = None, kept_before: datetime | None = None
    ) -> list[Waiting]:
        """Samples to upload now, the most useful first, then the oldest; only those that come after `after`.

        What was kept later than `kept_before` is held back, but for audit samples.
        """
        # a next try, or a time it was kept, further away than any wait was set before the clock was put back
        query = """
            SELECT * FROM samples
            WHERE state = 'waiting' AND (place, captured_at, id) > (?, ?, ?) AND (next_try <= ? OR next_try > ?)
                AND (kept_at <= ? OR kept_at > ? OR reason = 'audit')
            ORDER BY place, captured_at, id LIMIT ?
        """
        line = (after.place, format_time(after.sample.captured_at), after.sample.id) if after else (-9.0, "", "")
        told, latest = format_time(now), format_time(now + LONGEST_WAIT)
        values = [*line, told, latest, format_time(kept_before or now), told, limit]
        return [Waiting(to_sample(row), row["tries"], row["place"]) for row in self.index.rows(query, values)]

    def uploaded(self, id_: str, now: datetime) -> None:
        """The cloud has it."""
        self.uploaded_all([(id_, now)])

    def uploaded_all(self, done: Sequence[tuple[str, datetime]]) -> None:
        """The cloud has them, each since its time; one that was evicted meanwhile arrived nevertheless."""
        with self.index.change() as db:
            db.executemany(
                "UPDATE samples SET state = 'uploaded', uploaded_at = ? WHERE id = ? AND state <> 'uploaded'",
                [(format_time(now), id_) for id_, now in done],
            )

    def refused(self, id_: str, why: str, next_try: datetime | None) -> None:
        """The cloud did not take it: try again at `next_try`; None sets it aside."""
        state = SET_ASIDE if next_try is None else WAITING
        with self.index.change() as db:
            db.execute(
                """
                UPDATE samples SET state = ?, tries = tries + 1, next_try = ?, why = ?
                WHERE id = ? AND state = 'waiting'
                """,
                [state, format_time(next_try) if next_try else "", why, id_],
            )

    def revive(self) -> int:
        """Try what was set aside again, as if it had never been refused; how many those are."""
        with self.index.change() as db:
            return db.execute(
                "UPDATE samples SET state = 'waiting', tries = 0, next_try = '', why = '' WHERE state = 'set_aside'"
            ).rowcount

    def uplink_spent(self, day: datetime) -> int:
        """The bytes to the cloud that count for the day that began then."""
        query = "SELECT n FROM spent WHERE start = ? AND key = ?"
        return sum(row["n"] for row in self.index.rows(query, [format_time(day), UPLINK]))

    def spend_uplink(self, sizes: Mapping[datetime, int]) -> None:
        """So many bytes to the cloud count for the days that began then."""
        with self.index.change() as db:
            _spend(db, {(format_time(day), UPLINK): size for day, size in sizes.items()})

    def states(self, after: str, limit: int) -> list[tuple[str, str, str]]:
        """Id, state and its reason of all samples, in the order of their ids; those that come after `after`."""
        query = "SELECT id, state, why FROM samples WHERE id > ? ORDER BY id LIMIT ?"
        return [(row["id"], row["state"], row["why"]) for row in self.index.rows(query, [after, limit])]

    def states_of(self, ids: Collection[str]) -> list[tuple[str, str, str]]:
        """The same of those `ids` that are samples."""
        query = "SELECT id, state, why FROM samples WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id"
        return [(row["id"], row["state"], row["why"]) for row in self.index.rows(query, [json.dumps(list(ids))])]

    # -- copies that may go

    def unproven(self, put_before: datetime, limit: int) -> list[Sample]:
        """Samples that went into the local store before then and were not looked at since; not those in the cloud."""
        query = """
            SELECT * FROM samples WHERE safe = 0 AND state <> 'uploaded' AND state <> 'evicted' AND put_at <= ?
            ORDER BY put_at LIMIT ?
        """
        return self._samples(query, format_time(put_before), limit)

    def proven(self, ids: Collection[str]) -> None:
        """The local store was looked at again and has them."""
        self._mark("safe = 1", ids)

    def put_again(self, id_: str, now: datetime) -> None:
        """The local store had lost it and was given it once more."""
        with self.index.change() as db:
            db.execute("UPDATE samples SET put_at = ? WHERE id = ?", [format_time(now), id_])

    def expired(self, uploaded_before: datetime, limit: int) -> list[Sample]:
        """Uploaded samples whose local blob has stayed long enough, the longest there first."""
        query = """
            SELECT * FROM samples WHERE state = 'uploaded' AND freed = 0 AND uploaded_at <= ?
            ORDER BY uploaded_at LIMIT ?
        """
        return self._samples(query, format_time(uploaded_before), limit)

    def evictable(self, limit: int) -> list[Sample]:
        """Samples that only this device has, the least useful first; audit samples come last."""
        query = """
            SELECT * FROM samples WHERE freed = 0 AND state <> 'uploaded' AND state <> 'evicted'
            ORDER BY place DESC LIMIT ?
        """
        return self._samples(query, limit)

    def bytes_here(self, ids: Collection[str]) -> int:
        """The bytes of those `ids` whose blobs are here."""
        query = (
            "SELECT ifnull(sum(size), 0) AS n FROM samples WHERE freed = 0 AND id IN (SELECT value FROM json_each(?))"
        )
        return sum(row["n"] for row in self.index.rows(query, [json.dumps(list(ids))]))

    def evict(self, ids: Collection[str], reason: str) -> None:
        """These are given up, for there is no room; those that are in the cloud by now are not."""
        with self.index.change() as db:
            db.executemany(
                "UPDATE samples SET state = 'evicted', why = ? WHERE id = ? AND state IN ('waiting', 'set_aside')",
                [(reason, id_) for id_ in ids],
            )

    def evicted_here(self, limit: int) -> list[Sample]:
        """Evicted samples whose local blob is still there."""
        return self._samples("SELECT * FROM samples WHERE state = 'evicted' AND freed = 0 LIMIT ?", limit)

    def freed(self, ids: Collection[str]) -> None:
        """Their local blobs are gone."""
        self._mark("freed = 1", ids)

    def leave_the_future(self, now: datetime) -> None:
        """What the index says of later than `now` was now: the clock was ahead, and nothing shall wait for that day."""
        moment = [format_time(now)] * 2
        with self.index.change() as db:
            db.execute(
                "UPDATE samples SET put_at = ? "
                "WHERE safe = 0 AND state <> 'uploaded' AND state <> 'evicted' AND put_at > ?",
                moment,
            )
            db.execute(
                "UPDATE samples SET uploaded_at = ? WHERE state = 'uploaded' AND freed = 0 AND uploaded_at > ?", moment
            )
            db.execute("UPDATE drops SET dropped_at = ? WHERE dropped_at > ?", moment)

    def fold(self, dropped_before: datetime, still_here: Collection[str]) -> None:
        """Forget old drops, which stay counted: their images left the spool, so they cannot be told again.

        The budgets of days long past, or far ahead where the clock was wrong, are forgotten, too.
        """
        past, ahead = ((dropped_before + days).strftime("%Y-%m-%d") for days in (-DAYS_OF_BUDGETS, DAYS_AHEAD))
        old = [format_time(dropped_before)]
        if not self.index.rows(
            "SELECT 1 FROM (SELECT 1 FROM drops WHERE dropped_at <= ? LIMIT 1) "
            "UNION ALL SELECT 1 FROM spent WHERE start < ? OR start > ? LIMIT 1",
            [*old, past, ahead],
        ):
            return
        with self.index.change() as db:
            db.execute(
                "DELETE FROM drops WHERE dropped_at <= ? AND id NOT IN (SELECT value FROM json_each(?))",
                [*old, json.dumps(list(still_here))],
            )
            db.execute("DELETE FROM spent WHERE start < ? OR start > ?", [past, ahead])

    def counters(self) -> Counters:
        """The counters, all of one moment."""
        query = """
            SELECT name, n, bytes FROM counters
            UNION ALL
            SELECT 'oldest', min(captured_at), 0 FROM samples INDEXED BY samples_oldest WHERE state = 'waiting'
        """
        rows = {row["name"]: row for row in self.index.rows(query)}
        n, size = Counter({k: r["n"] for k, r in rows.items()}), Counter({k: r["bytes"] for k, r in rows.items()})
        return Counters(
            flagged=n["flagged"],
            kept=n["kept"],
            uploaded=n["state:uploaded"],
            waiting=n["state:waiting"],
            set_aside=n["state:set_aside"],
            uploaded_bytes=size["state:uploaded"],
            waiting_bytes=size["state:waiting"],
            local_bytes=size["here"],
            oldest_waiting=rows["oldest"]["n"] or "",
            evicted=_by_reason(n, "state:evicted:"),
            dropped=_by_reason(n, "dropped:"),
        )

    def _samples(self, query: str, *values: Any) -> list[Sample]:
        return [to_sample(row) for row in self.index.rows(query, values)]

    def _mark(self, change: str, ids: Collection[str]) -> None:
        with self.index.change() as db:
            db.executemany(f"UPDATE samples SET {change} WHERE id = ?", [(id_,) for id_ in ids])  # noqa: S608


def _by_reason(n: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in n.items() if name.startswith(prefix) and count}


def _places(sample: Sample) -> Iterator[tuple[str, str]]:
    yield from places(top_tag(sample.predictions), sample.reason, sample.kept_at.astimezone())


def _revived(db: sqlite3.Connection, one: Kept) -> bool:
    """Keep a lost sample again, as it was flagged now; its flagging of before counts as a duplicate."""
    earlier = db.execute("SELECT captured_at FROM samples WHERE id = ?", [one.sample.id]).fetchone()
    id_, *rest = to_row(one)
    if not db.execute(REVIVE, [*rest, id_]).rowcount:
        return False
    now = format_time(one.sample.kept_at)
    db.execute("INSERT OR IGNORE INTO drops VALUES (?, ?, ?, ?)", [one.sample.id, earlier[0], DUPLICATE, now])
    return True


def _spend(db: sqlite3.Connection, spent: Mapping[tuple[str, str], int]) -> None:
    db.executemany(
        "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (start, key) DO UPDATE SET n = n + excluded.n",
        [(start, key, n) for (start, key), n in spent.items() if n],
    )


def _give_place(db: sqlite3.Connection, one: Kept, spent: Counter[tuple[str, str]]) -> str:
    """Evict the one that `one` is kept instead of, or where that is no longer waiting, `one` itself."""
    for id_ in (one.instead_of, one.sample.id):
        row = db.execute(
            "UPDATE samples SET state = 'evicted', why = ? WHERE id = ? AND state = 'waiting' "
            "RETURNING tag, reason, kept_at",
            [one.word, id_],
        ).fetchone()
        if row is not None:
            spent.subtract(places(row[0], row[1], parse_time(row[2]).astimezone()))
            return id_
    return one.sample.id
