"""The index of all samples: what was kept, dropped, uploaded and set aside. The one place that knows sqlite-utils.

A row is a promise: it is written after the local blob, and from then on the image will reach the cloud or be counted
with a reason. Every method is one transaction that is on disk when it returns, may be called again after a crash, and
blocks: call it in a thread. It raises Offline when the disk does not take the change.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from ripeloop.errors import Offline, SettingsError
from ripeloop.prediction import Prediction, format_time, parse_time
from sampler.damage import set_aside
from sampler.sample import Sample

log = logging.getLogger(__name__)

WAITING = "waiting"
UPLOADED = "uploaded"
SET_ASIDE = "set_aside"

LONGEST_WAIT = timedelta(minutes=10)
QUERY_IDS = 500


@dataclass(frozen=True, slots=True)
class Known:
    """A sample as the spool's reader needs it; `safe`: the spool's copy is no longer needed."""

    captured_at: datetime
    safe: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sample still to upload; `tries` were refused before."""

    sample: Sample
    tries: int = 0


@dataclass(frozen=True, slots=True)
class Counters:
    """All that ever happened here: handled = kept + dropped, kept = uploaded + waiting + set aside."""

    kept: int = 0
    uploaded: int = 0
    waiting: int = 0
    set_aside: int = 0
    uploaded_bytes: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)


class Outbox:
    """The index in the file `path`, which is made or brought up to date. Safe to use from several threads.

    A damaged file is set aside and a new one begun; until `completed`, a new one does not know of all samples.
    Raises SettingsError.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open_or_begin(path)
        except (OSError, sqlite3.OperationalError) as error:
            raise SettingsError(
                f"the index cannot be kept in {path.parent} ({error}): let this user write there, and is the disk full?"
            ) from None

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        with self._lock:
            self._db.close()

    def add(self, sample: Sample) -> bool:
        """Keep `sample`, to be uploaded; False where the image is a sample already."""
        with self._change() as db:
            before = db.conn.total_changes
            db.table("samples").insert(_to_row(sample), ignore=True)
            return db.conn.total_changes > before

    def add_all(self, samples: Sequence[Sample]) -> int:
        """Keep all of `samples`, to be uploaded; how many were none before."""
        with self._change() as db:
            before = db.conn.total_changes
            db.table("samples").insert_all(map(_to_row, samples), ignore=True)
            return db.conn.total_changes - before

    def is_complete(self) -> bool:
        """False for a new index, which may have to learn first what its predecessor knew."""
        (row,) = self._rows("PRAGMA user_version", [])
        return bool(row["user_version"])

    def completed(self) -> None:
        """The index knows all that the local store holds, and from now on it always will."""
        with self._change() as db:
            db.execute("PRAGMA user_version = 1")

    def drop(self, id_: str, captured_at: str, reason: str, now: datetime) -> None:
        """Count one flagging, named by image and time, as dropped; once, however often it is told."""
        row = {"id": id_, "captured_at": captured_at, "reason": reason, "dropped_at": format_time(now)}
        with self._change() as db:
            db.table("drops").insert(row, ignore=True)

    def was_dropped(self, id_: str, captured_at: str) -> bool:
        """True where this very flagging was dropped before."""
        return bool(self._rows("SELECT 1 FROM drops WHERE id = ? AND captured_at = ?", [id_, captured_at]))

    def known(self, ids: Collection[str]) -> dict[str, Known]:
        """Those of `ids` that are samples."""
        found: dict[str, Known] = {}
        rest = iter(ids)
        while some := list(islice(rest, QUERY_IDS)):
            marks = ",".join("?" * len(some))
            query = f"SELECT id, captured_at, state, safe FROM samples WHERE id IN ({marks})"  # noqa: S608
            for row in self._rows(query, some):
                found[row["id"]] = Known(parse_time(row["captured_at"]), bool(row["safe"]) or row["state"] == UPLOADED)
        return found

    def kept_between(self, after: datetime, until: datetime) -> int:
        """How many samples were kept in that time."""
        query = "SELECT count(*) AS n FROM samples WHERE kept_at > ? AND kept_at <= ?"
        (row,) = self._rows(query, [format_time(after), format_time(until)])
        return int(row["n"])

    def due(self, now: datetime, limit: int, after: Sample | None = None) -> list[Waiting]:
        """Samples to upload now, the oldest first; only those that come after `after`."""
        # a next try further away than any wait was set before the clock was put back
        query = """
            SELECT * FROM samples
            WHERE state = 'waiting' AND (captured_at, id) > (?, ?) AND (next_try <= ? OR next_try > ?)
            ORDER BY captured_at, id LIMIT ?
        """
        place = (format_time(after.captured_at), after.id) if after else ("", "")
        rows = self._rows(query, [*place, format_time(now), format_time(now + LONGEST_WAIT), limit])
        return [Waiting(_to_sample(row), row["tries"]) for row in rows]

    def uploaded(self, id_: str, now: datetime) -> None:
        """The cloud has it."""
        with self._change() as db:
            db.execute(
                "UPDATE samples SET state = 'uploaded', uploaded_at = ? WHERE id = ? AND state <> 'uploaded'",
                [format_time(now), id_],
            )

    def refused(self, id_: str, why: str, next_try: datetime | None) -> None:
        """The cloud did not take it: try again at `next_try`; None sets it aside."""
        state = SET_ASIDE if next_try is None else WAITING
        with self._change() as db:
            db.execute(
                """
                UPDATE samples SET state = ?, tries = tries + 1, next_try = ?, why = ?
                WHERE id = ? AND state = 'waiting'
                """,
                [state, format_time(next_try) if next_try else "", why, id_],
            )

    def unproven(self, put_before: datetime, limit: int) -> list[Sample]:
        """Samples that went into the local store before then and were not looked at since; not those in the cloud."""
        query = """
            SELECT * FROM samples WHERE safe = 0 AND state <> 'uploaded' AND put_at <= ? ORDER BY put_at LIMIT ?
        """
        return [_to_sample(row) for row in self._rows(query, [format_time(put_before), limit])]

    def proven(self, ids: Collection[str]) -> None:
        """The local store was looked at again and has them."""
        with self._change() as db:
            db.conn.executemany("UPDATE samples SET safe = 1 WHERE id = ?", [(id_,) for id_ in ids])

    def put_again(self, id_: str, now: datetime) -> None:
        """The local store had lost it and was given it once more."""
        with self._change() as db:
            db.execute("UPDATE samples SET put_at = ? WHERE id = ?", [format_time(now), id_])

    def expired(self, uploaded_before: datetime, limit: int) -> list[Sample]:
        """Uploaded samples whose local blob has stayed long enough."""
        query = """
            SELECT * FROM samples WHERE state = 'uploaded' AND freed = 0 AND uploaded_at <= ?
            ORDER BY uploaded_at LIMIT ?
        """
        return [_to_sample(row) for row in self._rows(query, [format_time(uploaded_before), limit])]

    def freed(self, ids: Collection[str]) -> None:
        """Their local blobs are gone."""
        with self._change() as db:
            db.conn.executemany("UPDATE samples SET freed = 1 WHERE id = ?", [(id_,) for id_ in ids])

    def leave_the_future(self, now: datetime) -> None:
        """What the index says of later than `now` was now: the clock was ahead, and nothing shall wait for that day."""
        moment = [format_time(now)] * 2
        with self._change() as db:
            db.execute("UPDATE samples SET put_at = ? WHERE safe = 0 AND state <> 'uploaded' AND put_at > ?", moment)
            db.execute(
                "UPDATE samples SET uploaded_at = ? WHERE state = 'uploaded' AND freed = 0 AND uploaded_at > ?", moment
            )
            db.execute("UPDATE drops SET dropped_at = ? WHERE dropped_at > ?", moment)

    def fold(self, dropped_before: datetime, still_here: Collection[str]) -> None:
        """Turn old drops into numbers: those that cannot be told again, for their images left the spool long ago."""
        old = "dropped_at <= ? AND id NOT IN (SELECT value FROM json_each(?))"
        values = [format_time(dropped_before), json.dumps(list(still_here))]
        if not self._rows("SELECT 1 FROM drops WHERE dropped_at <= ? LIMIT 1", values[:1]):
            return
        with self._change() as db:
            db.execute(
                f"INSERT INTO dropped SELECT reason, count(*) FROM drops WHERE {old} GROUP BY reason "  # noqa: S608
                "ON CONFLICT (reason) DO UPDATE SET n = n + excluded.n",
                values,
            )
            db.execute(f"DELETE FROM drops WHERE {old}", values)  # noqa: S608

    def counters(self) -> Counters:
        """The counters, all of one moment."""
        with self._change() as db:
            states = {row["state"]: row for row in db.query(_STATES)}
            dropped = {row["reason"]: row["n"] for row in db.query(_DROPPED)}
        n = {state: row["n"] for state, row in states.items()}
        return Counters(
            kept=sum(n.values()),
            uploaded=n.get(UPLOADED, 0),
            waiting=n.get(WAITING, 0),
            set_aside=n.get(SET_ASIDE, 0),
            uploaded_bytes=states[UPLOADED]["bytes"] if UPLOADED in states else 0,
            dropped=dropped,
        )

    @contextmanager
    def _change(self) -> Iterator[Database]:
        try:
            with self._lock, self._db.atomic() as db:
                yield db
        except sqlite3.OperationalError as error:
            raise Offline(f"the index cannot be used ({error}): is the disk full?") from error

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with self._change() as db:
            return list(db.query(query, values))


def _open_or_begin(path: Path) -> Database:
    """Raises SettingsError, OSError, and OperationalError where nothing is wrong with the file itself."""
    try:
        return _open(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        log.error("the index is damaged (%s): a new one is begun, the old is kept as %s", error, set_aside(path))
        return _open(path)


def _open(path: Path) -> Database:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        db = Database(connection, execute_plugins=False)
        db.enable_wal()
        db.execute("PRAGMA synchronous=FULL")
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        _migrate(db, path)
    except (sqlite3.Error, SettingsError):
        connection.close()
        raise
    return db


def _migrate(db: Database, path: Path) -> None:
    unknown = {done.name for done in _migrations.applied(db)} - {step.__name__ for step in _STEPS}
    if unknown:
        raise SettingsError(f"a newer sampler wrote {path}: run that version, or give this one a new state folder")
    db.conn.execute("BEGIN IMMEDIATE")  # two samplers may start at once while one is replaced
    _migrations.apply(db)
    db.commit()


_STATES = "SELECT state, count(*) AS n, sum(size) AS bytes FROM samples GROUP BY state"
_DROPPED = """
    SELECT reason, sum(n) AS n FROM (
        SELECT reason, n FROM dropped UNION ALL SELECT reason, count(*) FROM drops GROUP BY reason
    ) GROUP BY reason
"""


def _first_schema(db: Database) -> None:
    db.table("samples").create(
        {
            "id": str,
            "captured_at": str,
            "reason": str,
            "predictions": str,
            "model": str,
            "device": str,
            "blob": str,
            "content_type": str,
            "size": int,
            "kept_at": str,
            "put_at": str,
            "state": str,
            "tries": int,
            "next_try": str,
            "why": str,
            "uploaded_at": str,
            "safe": int,
            "freed": int,
        },
        pk="id",
        not_null={"captured_at", "blob", "size", "kept_at", "put_at", "state"},
        defaults={"state": WAITING, "tries": 0, "next_try": "", "why": "", "uploaded_at": "", "safe": 0, "freed": 0},
    )
    db.execute("CREATE INDEX samples_by_state ON samples (state, size)")
    db.execute("CREATE INDEX samples_kept ON samples (kept_at)")
    db.execute("CREATE INDEX samples_waiting ON samples (captured_at, id) WHERE state = 'waiting'")
    db.execute("CREATE INDEX samples_unproven ON samples (put_at) WHERE safe = 0 AND state <> 'uploaded'")
    db.execute("CREATE INDEX samples_to_free ON samples (uploaded_at) WHERE state = 'uploaded' AND freed = 0")
    db.table("drops").create(
        {"id": str, "captured_at": str, "reason": str, "dropped_at": str}, pk=("id", "captured_at")
    )
    db.execute("CREATE INDEX drops_by_age ON drops (dropped_at)")
    db.table("dropped").create({"reason": str, "n": int}, pk="reason")


# a schema is changed by a new step at the end; a step that ran anywhere is never edited
_STEPS = (_first_schema,)
_migrations = Migrations("outbox")
for _step in _STEPS:
    _migrations()(_step)


def _to_row(sample: Sample) -> dict[str, Any]:
    return {
        "id": sample.id,
        "captured_at": format_time(sample.captured_at),
        "reason": sample.reason,
        "predictions": json.dumps([[p.tag, p.probability] for p in sample.predictions]),
        "model": sample.model,
        "device": sample.device,
        "blob": sample.blob,
        "content_type": sample.content_type,
        "size": sample.size,
        "kept_at": format_time(sample.kept_at),
        "put_at": format_time(sample.kept_at),
    }


def _to_sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        id=row["id"],
        captured_at=parse_time(row["captured_at"]),
        reason=row["reason"],
        predictions=tuple(Prediction(tag, probability) for tag, probability in json.loads(row["predictions"])),
        model=row["model"],
        device=row["device"],
        blob=row["blob"],
        content_type=row["content_type"],
        size=row["size"],
        kept_at=parse_time(row["kept_at"]),
    )
