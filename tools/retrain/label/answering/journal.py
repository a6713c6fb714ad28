"""What people answered, on disk before they are told so: nothing acknowledged is lost, and nothing happens twice.

It is a file of its own, so that the cache beside it can be thrown away. An entry waits until its blob was written; what
became of it is kept for a month, for a page that asks again.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from ripeloop.errors import Offline, SettingsError
from ripeloop.prediction import format_time

ANSWER, UNDO = "answer", "undo"
WRITTEN, KEPT, TAKEN, REFUSED, UNDONE, NOTHING, UNKNOWN = (
    "written", "kept", "taken", "refused", "undone", "nothing", "unknown",
)  # fmt: skip
KEPT_DAYS = 30
VERSION = 2

Answer = TypeVar("Answer")

_SCHEMA = (
    """CREATE TABLE entries (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL, id TEXT NOT NULL, what TEXT NOT NULL,
        key TEXT NOT NULL, blob TEXT NOT NULL, body TEXT NOT NULL, at TEXT NOT NULL, outcome TEXT NOT NULL,
        told TEXT NOT NULL, UNIQUE (person, id))""",
    "CREATE INDEX entries_waiting ON entries (seq) WHERE outcome = 'kept'",
    "CREATE INDEX entries_to_tell ON entries (person, seq) WHERE told = 'later'",
    "CREATE INDEX entries_by_day ON entries (person, at)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE tags (name TEXT PRIMARY KEY, at TEXT NOT NULL) WITHOUT ROWID",
)
_SINCE_1 = (_SCHEMA[-2],)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing a person did to one sample: `body` as the page sent it, `at` in UTC when it was taken down.

    `outcome`: what became of it, KEPT while it waits. `result`: what the person is told of it.
    """

    id: str
    person: str
    what: str
    key: str
    blob: str
    body: dict[str, Any]
    at: str
    outcome: str = KEPT
    result: dict[str, Any] | None = None
    seq: int = 0


class Journal:
    """The journal in the file `path`. Every change is on disk when its call returns. Raises SettingsError, Offline."""

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open(path)
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(
                f"--state: {path} cannot be used ({error}): it holds answers that are not in the container yet, so "
                "look before you remove it"
            ) from None
        self._thread = ThreadPoolExecutor(1, "journal")

    async def add(self, entry: Entry) -> Entry:
        """The entry with its number; where the person sent that id before, what was taken down then."""
        return await self._run(_add, entry)

    async def found(self, person: str, id_: str) -> Entry | None:
        """What that person sent under that id."""
        return await self._run(_found, person, id_)

    async def ended(self, entry: Entry, outcome: str, result: dict[str, Any], *, tell_later: bool) -> Entry:
        """Write down what became of it. `tell_later`: the person was told that it is kept."""
        done = replace(entry, outcome=outcome, result=result)
        await self._run(_ended, done, tell_later)
        return done

    async def waiting(self, after: int, most: int) -> list[Entry]:
        """The oldest entries that wait, of those with a higher number than `after`."""
        return await self._run(_waiting, after, most)

    async def count_waiting(self) -> int:
        """How many wait."""
        return await self._run(_count, "SELECT count(*) FROM entries WHERE outcome = 'kept'", ())

    async def was_late(self, person: str, key: str) -> bool:
        """Whether somebody was quicker than that person, who was told what the sample is."""
        query = "SELECT count(*) FROM entries WHERE person = ? AND key = ? AND outcome = 'taken'"
        return await self._run(_count, query, (person, key)) > 0

    async def count_answers(self, person: str, since: str) -> int:
        """How many answers of that person were taken down since then, those taken back not counted."""
        query = (
            "SELECT sum(CASE what WHEN 'answer' THEN outcome NOT IN ('taken', 'refused', 'unknown') "
            "ELSE -(outcome <> 'nothing') END) FROM entries WHERE person = ? AND at >= ?"
        )
        return max(0, await self._run(_count, query, (person, since)))

    async def to_tell(self, person: str) -> list[Entry]:
        """What was kept, could not be written after all, and that person's page has not said it heard of."""
        return await self._run(_to_tell, person)

    async def heard(self, person: str, ids: Sequence[str]) -> None:
        """That person's page has shown what became of these."""
        await self._run(_heard, person, tuple(ids))

    async def add_tag(self, name: str, at: str) -> None:
        """Remember a new tag."""
        await self._run(_change, "INSERT OR IGNORE INTO tags VALUES (?, ?)", (name, at))

    async def tags(self) -> list[str]:
        """The tags added here, oldest first."""
        return await self._run(_names)

    async def fact(self, name: str) -> str:
        """What was noted under that name; empty for nothing."""
        return await self._run(_fact, name)

    async def note(self, name: str, value: str) -> None:
        """Remember it for the next start."""
        await self._run(_change, "INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    async def forget(self, now: datetime) -> None:
        """Forget what was done with a month ago; never an answer whose image was gone."""
        oldest = format_time(now - timedelta(days=KEPT_DAYS))
        await self._run(_change, "DELETE FROM entries WHERE outcome NOT IN ('kept', 'unknown') AND at < ?", (oldest,))

    def close(self) -> None:
        """End it; nothing may be called afterwards."""
        self._thread.shutdown()
        self._db.close()

    async def _run(self, work: Callable[..., Answer], *values: Any) -> Answer:
        def done() -> Answer:
            with self._db:
                return work(self._db, *values)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, done)
        except sqlite3.Error as error:
            raise Offline(f"the server's disk does not take the answer now ({error}): is it full?") from error


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        _check_version(version, path)
        if version < VERSION:
            with db:
                for statement in _SCHEMA if version == 0 else _SINCE_1:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
        path.chmod(0o600)
    except (sqlite3.Error, OSError, SettingsError):
        db.close()
        raise
    return db


def _check_version(version: int, path: Path) -> None:
    if version > VERSION:
        raise SettingsError(f"a newer ripeloop wrote {path}: run that version, or give this one a new --state")


_COLUMNS = "seq, person, id, what, key, blob, body, at, outcome"


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, person, id_, what, key, blob, body, at, outcome = row
    fields = json.loads(body)
    return Entry(id_, person, what, key, blob, fields["body"], at, outcome, fields["result"], seq)


def _text(entry: Entry) -> str:
    return json.dumps({"body": entry.body, "result": entry.result})


def _add(db: sqlite3.Connection, entry: Entry) -> Entry:
    if (before := _found(db, entry.person, entry.id)) is not None:
        return before
    values = (entry.person, entry.id, entry.what, entry.key, entry.blob, _text(entry), entry.at, entry.outcome, "")
    marks = ",".join("?" * len(values))
    query = f"INSERT INTO entries (person, id, what, key, blob, body, at, outcome, told) VALUES ({marks})"  # noqa: S608
    return replace(entry, seq=db.execute(query, values).lastrowid or 0)


def _found(db: sqlite3.Connection, person: str, id_: str) -> Entry | None:
    query = f"SELECT {_COLUMNS} FROM entries WHERE person = ? AND id = ?"  # noqa: S608
    row = db.execute(query, (person, id_)).fetchone()
    return _entry(row) if row else None


def _ended(db: sqlite3.Connection, entry: Entry, tell_later: bool) -> None:
    told = "later" if tell_later and entry.outcome in (TAKEN, REFUSED, UNKNOWN) else ""
    query = "UPDATE entries SET outcome = ?, body = ?, told = ? WHERE seq = ?"
    db.execute(query, (entry.outcome, _text(entry), told, entry.seq))


def _waiting(db: sqlite3.Connection, after: int, most: int) -> list[Entry]:
    query = f"SELECT {_COLUMNS} FROM entries WHERE outcome = 'kept' AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
    return [_entry(row) for row in db.execute(query, (after, most))]


def _to_tell(db: sqlite3.Connection, person: str) -> list[Entry]:
    query = f"SELECT {_COLUMNS} FROM entries WHERE told = 'later' AND person = ? ORDER BY seq"  # noqa: S608
    return [_entry(row) for row in db.execute(query, (person,))]


def _heard(db: sqlite3.Connection, person: str, ids: tuple[str, ...]) -> None:
    query = "UPDATE entries SET told = 'told' WHERE told = 'later' AND person = ? AND id = ?"
    db.executemany(query, [(person, id_) for id_ in ids])


def _names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM tags ORDER BY at, name")]


def _fact(db: sqlite3.Connection, name: str) -> str:
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else ""


def _count(db: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> int:
    (n,) = db.execute(query, values).fetchone()
    return int(n or 0)


def _change(db: sqlite3.Connection, query: str, values: tuple[Any, ...]) -> None:
    db.execute(query, values)
