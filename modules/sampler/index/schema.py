"""The index's file: opened, checked, and brought up to date step by step.

The counters are kept by triggers, in the transaction of whatever they count: no change can forget them, and reading
them costs the same however many rows there are.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from pathlib import Path

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from ripeloop.errors import SettingsError
from ripeloop.prediction import Prediction
from sampler.index.damage import set_aside
from sampler.keeping.keep import top_tag, usefulness

__all__ = ["STEPS", "Database", "open_or_begin"]

log = logging.getLogger(__name__)


def open_or_begin(path: Path) -> tuple[Database, bool]:
    """The index in `path`, and whether it is a new one because the old was damaged and is set aside.

    Raises SettingsError, OSError, and OperationalError where nothing is wrong with the file itself.
    """
    try:
        return _open(path), False
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        log.error("the index is damaged (%s): a new one is begun, the old is kept as %s", error, set_aside(path))
        return _open(path), True


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
    unknown = {done.name for done in _migrations.applied(db)} - {step.__name__ for step in STEPS}
    if unknown:
        raise SettingsError(f"a newer sampler wrote {path}: run that version, or give this one a new state folder")
    db.conn.execute("BEGIN IMMEDIATE")  # two samplers may start at once while one is replaced
    _migrations.apply(db)
    db.commit()


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
        defaults={"state": "waiting", "tries": 0, "next_try": "", "why": "", "uploaded_at": "", "safe": 0, "freed": 0},
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


def _usefulness_and_counters(db: Database) -> None:
    for column, definition in (
        ("dhash", "TEXT NOT NULL DEFAULT ''"),
        ("camera", "TEXT NOT NULL DEFAULT ''"),
        ("tag", "TEXT NOT NULL DEFAULT ''"),
        ("place", "REAL NOT NULL DEFAULT 0"),  # in the line for the cloud: the lower, the sooner; minus usefulness
    ):
        db.execute(f"ALTER TABLE samples ADD COLUMN {column} {definition}")
    _tell_what_rows_are_worth(db)
    for gone in ("samples_by_state", "samples_kept", "samples_waiting", "samples_unproven"):
        db.execute(f"DROP INDEX {gone}")
    for index in (
        "samples_due ON samples (place, captured_at, id) WHERE state = 'waiting'",
        "samples_places ON samples (kept_at, place, tag, reason, id) WHERE state = 'waiting' AND reason <> 'audit'",
        "samples_oldest ON samples (captured_at) WHERE state = 'waiting'",
        "samples_looks ON samples (captured_at) WHERE dhash <> ''",
        "samples_unproven ON samples (put_at) WHERE safe = 0 AND state <> 'uploaded' AND state <> 'evicted'",
        "samples_to_evict ON samples (place DESC) WHERE freed = 0 AND state <> 'uploaded' AND state <> 'evicted'",
        "samples_evicted ON samples (id) WHERE state = 'evicted' AND freed = 0",
    ):
        db.execute(f"CREATE INDEX {index}")
    db.execute("CREATE TABLE spent (start TEXT, key TEXT, n INTEGER NOT NULL, PRIMARY KEY (start, key))")
    db.execute(
        "CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0)"
    )
    db.execute(
        """
        INSERT INTO counters
        SELECT 'flagged', (SELECT count(*) FROM samples) + (SELECT count(*) FROM drops)
            + (SELECT ifnull(sum(n), 0) FROM dropped), 0
        UNION ALL SELECT 'kept', count(*), ifnull(sum(size), 0) FROM samples
        UNION ALL SELECT 'here', count(*), ifnull(sum(size), 0) FROM samples WHERE freed = 0
        UNION ALL SELECT 'state:' || state, count(*), sum(size) FROM samples GROUP BY state
        UNION ALL SELECT 'dropped:' || reason, sum(n), 0 FROM (
            SELECT reason, n FROM dropped UNION ALL SELECT reason, count(*) FROM drops GROUP BY reason
        ) GROUP BY reason
        """
    )
    db.execute("DROP TABLE dropped")
    for trigger in _TRIGGERS:
        db.execute(trigger)


def _tell_what_rows_are_worth(db: Database) -> None:
    worth = []
    for row in db.query("SELECT id, reason, predictions FROM samples"):
        predictions = [Prediction(tag, probability) for tag, probability in json.loads(row["predictions"])]
        worth.append((top_tag(predictions), -usefulness(predictions, row["reason"]), row["id"]))
    db.conn.executemany("UPDATE samples SET tag = ?, place = ? WHERE id = ?", worth)


def _count(name: str, n: str, size: str = "0") -> str:
    # two statements: the conflict clause of an upsert would lose against the one of the statement that fired this
    return (
        f"INSERT OR IGNORE INTO counters (name) VALUES ({name}); "  # noqa: S608
        f"UPDATE counters SET n = n + ({n}), bytes = bytes + ({size}) WHERE name = {name}; "
    )


def _state(row: str) -> str:
    return f"'state:' || {row}.state || CASE {row}.state WHEN 'evicted' THEN ':' || {row}.why ELSE '' END"


_TRIGGERS = (
    "CREATE TRIGGER count_sample AFTER INSERT ON samples BEGIN "
    + _count("'flagged'", "1")
    + _count("'kept'", "1", "NEW.size")
    + _count(_state("NEW"), "1", "NEW.size")
    + _count("'here'", "1 - NEW.freed", "(1 - NEW.freed) * NEW.size")
    + "END",
    "CREATE TRIGGER count_state AFTER UPDATE OF state, why ON samples WHEN OLD.state <> NEW.state BEGIN "
    + _count(_state("OLD"), "-1", "-OLD.size")
    + _count(_state("NEW"), "1", "NEW.size")
    + "END",
    "CREATE TRIGGER count_freed AFTER UPDATE OF freed ON samples WHEN OLD.freed <> NEW.freed BEGIN "
    + _count("'here'", "OLD.freed - NEW.freed", "(OLD.freed - NEW.freed) * NEW.size")
    + "END",
    "CREATE TRIGGER count_drop AFTER INSERT ON drops BEGIN "
    + _count("'flagged'", "1")
    + _count("'dropped:' || NEW.reason", "1")
    + "END",
)

# a schema is changed by a new step at the end; a step that ran anywhere is never edited
STEPS = (_first_schema, _usefulness_and_counters)
_migrations = Migrations("outbox")
for _step in STEPS:
    _migrations()(_step)
