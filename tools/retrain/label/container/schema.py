"""The tables of the cache. Counts are kept by triggers: they cost the same for any number of samples."""

from __future__ import annotations

import zlib


# an upsert's conflict clause would win against one of its triggers': so none of INSERT OR IGNORE
def _count(row: str, n: int) -> str:
    names = ("state", "device", "reason", "tag", "said")
    cell, equal = ", ".join(f"{row}.{name}" for name in names), " AND ".join(f"{name} = {row}.{name}" for name in names)
    add = (
        f"INSERT INTO counts ({', '.join(names)}) SELECT {cell} "  # noqa: S608
        f"WHERE NOT EXISTS (SELECT 1 FROM counts WHERE {equal}); "
    )
    return f"{add if n > 0 else ''}UPDATE counts SET n = n + ({n}) WHERE {equal}; "  # noqa: S608


SCHEMA = (
    """CREATE TABLE samples (
        seq INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, id TEXT NOT NULL, blob TEXT NOT NULL UNIQUE,
        device TEXT NOT NULL, camera TEXT NOT NULL, reason TEXT NOT NULL, tag TEXT NOT NULL, model TEXT NOT NULL,
        captured_at TEXT NOT NULL, day TEXT NOT NULL, size INTEGER NOT NULL, dhash TEXT NOT NULL,
        predictions TEXT NOT NULL, top REAL NOT NULL, place REAL NOT NULL, etag TEXT NOT NULL, state TEXT NOT NULL,
        said TEXT NOT NULL, by TEXT NOT NULL, labelled_at TEXT NOT NULL, standing INTEGER NOT NULL,
        settled INTEGER NOT NULL, asks TEXT NOT NULL, use TEXT NOT NULL, shuffle INTEGER NOT NULL,
        broken INTEGER NOT NULL DEFAULT 0)""",
    "CREATE INDEX samples_useful ON samples (state, place, seq)",
    "CREATE INDEX samples_in_cells ON samples (state, device, reason, tag, place, seq)",
    "CREATE INDEX samples_by_time ON samples (state, captured_at, seq)",
    "CREATE INDEX samples_second ON samples (asks, place, seq) WHERE asks <> ''",
    "CREATE INDEX samples_settled ON samples (shuffle) WHERE settled = 1",
    "CREATE INDEX samples_said ON samples (said, place, seq) WHERE said <> ''",
    "CREATE INDEX samples_by ON samples (by, place, seq) WHERE by <> ''",
    "CREATE INDEX samples_use ON samples (use, said) WHERE use <> ''",
    """CREATE TABLE answers (
        seq INTEGER NOT NULL, nth INTEGER NOT NULL, kind TEXT NOT NULL, tags TEXT NOT NULL, by TEXT NOT NULL,
        at TEXT NOT NULL, how TEXT NOT NULL, stands INTEGER NOT NULL, PRIMARY KEY (seq, nth)) WITHOUT ROWID""",
    "CREATE INDEX answers_by ON answers (by, at)",
    "CREATE INDEX answers_how ON answers (how, by)",
    """CREATE TABLE counts (
        state TEXT NOT NULL, device TEXT NOT NULL, reason TEXT NOT NULL, tag TEXT NOT NULL, said TEXT NOT NULL,
        n INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (state, device, reason, tag, said)) WITHOUT ROWID""",
    "CREATE TABLE leases (key TEXT PRIMARY KEY, person TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX leases_ended ON leases (until)",
    """CREATE TABLE skips (
        person TEXT NOT NULL, key TEXT NOT NULL, until REAL NOT NULL, PRIMARY KEY (person, key)) WITHOUT ROWID""",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    f"CREATE TRIGGER count_new AFTER INSERT ON samples BEGIN {_count('NEW', 1)} END",
    f"CREATE TRIGGER count_gone AFTER DELETE ON samples BEGIN {_count('OLD', -1)} END",
    f"""CREATE TRIGGER count_changed AFTER UPDATE OF state, device, reason, tag, said ON samples
        WHEN OLD.state <> NEW.state OR OLD.said <> NEW.said OR OLD.tag <> NEW.tag OR OLD.reason <> NEW.reason
        BEGIN {_count("OLD", -1)} {_count("NEW", 1)} END""",
)
VERSION = zlib.crc32("\n".join(SCHEMA).encode()) & 0x7FFFFFFF
"""Another schema is another version: a cache needs no migrations."""
