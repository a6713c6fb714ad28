"""One SQLite file that survives kill -9: what is written in one turn of the loop is committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ripeloop.errors import SettingsError

TABLES = """
CREATE TABLE IF NOT EXISTS message(
    id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, priority INTEGER NOT NULL,
    head TEXT NOT NULL, body BLOB NOT NULL, expires REAL);
CREATE INDEX IF NOT EXISTS message_in_order ON message(endpoint, priority, id);
CREATE TABLE IF NOT EXISTS arrived(id INTEGER PRIMARY KEY AUTOINCREMENT, head TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS session(module TEXT PRIMARY KEY, filters TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS twin(name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS deployed(name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS configuration(id TEXT PRIMARY KEY, document TEXT NOT NULL);
"""

Row = tuple[Any, ...]


class Database:
    """Reads at once; writes that are on disk when their future is done."""

    def __init__(self, path: Path) -> None:
        try:
            _for_its_owner_only(path)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(TABLES)
        except (sqlite3.Error, OSError) as error:
            raise SettingsError(f"{path} cannot be used: {error}; name another folder with --state") from error
        self._waiting: list[asyncio.Future[None]] = []
        self._commit: asyncio.Handle | None = None

    def read(self, sql: str, values: Row = ()) -> list[Row]:
        """The rows of a query; it sees what is written but not yet on disk."""
        return self._db.execute(sql, values).fetchall()

    def write(self, sql: str, rows: Iterable[Row]) -> asyncio.Future[None]:
        """Run `sql` once a row. The future is done when the change is on disk, or has the sqlite3.Error."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(_seen)
        try:
            if self._commit is None:
                self._db.execute("BEGIN")
                self._commit = loop.call_soon(self._flush)
            self._db.executemany(sql, rows)
        except sqlite3.Error as error:
            done.set_exception(error)
            return done
        self._waiting.append(done)
        return done

    def close(self) -> None:
        """Commit what is written and let go of the file."""
        if self._commit is not None:
            self._commit.cancel()
            self._flush()
        self._db.close()

    def _flush(self) -> None:
        waiting, self._waiting, self._commit = self._waiting, [], None
        failure: sqlite3.Error | None = None
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            failure = error
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        for done in waiting:
            if done.done():
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)


def _for_its_owner_only(path: Path) -> None:
    """Twins hold secrets. SQLite gives the files it makes beside this one the mode of this one."""
    path.touch(mode=0o600)
    for name in ("", "-wal", "-shm"):
        beside = path.with_name(path.name + name)
        if beside.exists():  # it may be of an earlier version, that let others read
            beside.chmod(0o600)


def _seen(done: asyncio.Future[None]) -> None:
    """Not every writer waits: an error nobody looks at is no error of the loop's."""
    if not done.cancelled():
        done.exception()
