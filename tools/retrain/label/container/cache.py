"""What the page knows of the container: one SQLite file, a cache and nothing more. It alone knows sqlite-utils.

It can be thrown away while no server uses it: the labels are in the blobs. Counts are kept by triggers, so that they
cost the same for any number of samples, and every question the page asks goes down an index.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlite_utils import Database

from retrain.label.container.schema import SCHEMA, VERSION
from ripeloop.errors import Offline, SettingsError

log = logging.getLogger(__name__)

READERS = 4
WAIT_SECONDS = 10.0
CACHE_KB = 65_536
CHECKED_BYTES = 256 * 1024 * 1024  # of a larger cache the damage is found when it is met, and mended at the next start

Found = dict[str, Any]
Answer = TypeVar("Answer")
Asked = ParamSpec("Asked")


class Look:
    """What can be asked, and inside a change also changed. For one thread at a time."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[Found]:
        """All rows of a query."""
        return list(self._db.query(query, dict(values) if isinstance(values, Mapping) else list(values)))

    def row(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> Found | None:
        """The first row of a query."""
        return next(iter(self.rows(query, values)), None)

    def run(self, query: str, values: Sequence[Any] = ()) -> int:
        """Change rows; how many."""
        return int(self._db.execute(query, list(values)).rowcount)

    def run_all(self, query: str, values: Iterable[Sequence[Any]]) -> None:
        """Change rows once for each of `values`."""
        self._db.conn.executemany(query, values)


class Cache:
    """The cache in the file `path`; one that is damaged, or of another version, is begun anew. Raises SettingsError.

    Who looks waits for nobody; changes come one after the other.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open_or_begin(path)
            # all at once: a thread that opened the file later would make an empty one where somebody removed it
            self._opened = [_open_to_look(path) for _ in range(READERS)]
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(
                f"--state: {path} cannot be used ({error}): let this user write there; is the disk full?"
            ) from None
        self._changing = ThreadPoolExecutor(1, "cache-changes")
        self._own = threading.local()
        self._unused = list(self._opened)
        self._looking = ThreadPoolExecutor(READERS, "cache-looks", initializer=self._begin_looking)

    async def ask(
        self, question: Callable[Concatenate[Look, Asked], Answer], *values: Asked.args, **named: Asked.kwargs
    ) -> Answer:
        """The answer of `question`, which looks at one moment and changes nothing. Raises Offline."""

        def looked() -> Answer:
            with self._named_errors(), self._own.db.atomic() as db:
                return question(Look(db), *values, **named)

        return await asyncio.get_running_loop().run_in_executor(self._looking, looked)

    async def change(
        self, change: Callable[Concatenate[Look, Asked], Answer], *values: Asked.args, **named: Asked.kwargs
    ) -> Answer:
        """The answer of `change`, all of whose changes are made, or none. Raises Offline."""

        def changed() -> Answer:
            with self._named_errors(), self._db.atomic() as db:
                return change(Look(db), *values, **named)

        return await asyncio.get_running_loop().run_in_executor(self._changing, changed)

    def close(self) -> None:
        """End it; nothing may be called afterwards."""
        self._looking.shutdown()
        self._changing.shutdown()
        for db in (*self._opened, self._db):
            db.close()

    def _begin_looking(self) -> None:
        self._own.db = self._unused.pop()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                _damaged(self._path).touch()
                raise Offline(f"the server's cache is damaged ({error}): start it again, it is begun anew") from error
            raise Offline(f"the server's cache cannot be used now ({error}): is its disk full?") from error


def _open_to_look(path: Path) -> Database:
    db = Database(sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False), execute_plugins=False)
    db.execute("PRAGMA query_only=ON")
    db.execute(f"PRAGMA cache_size=-{CACHE_KB // READERS}")
    db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the file beside it is opened with the first look
    return db


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _damaged(path: Path) -> Path:
    """A file that says that the cache is to be begun anew."""
    return path.with_name(path.name + "-damaged")


def _open_or_begin(path: Path) -> Database:
    try:
        if not _damaged(path).exists() and (db := _open(path)) is not None:
            return db
        log.info("the cache is damaged, or of another version: it is begun anew")
    except sqlite3.DatabaseError as error:
        if not _is_damage(error):
            raise
        log.warning("the cache is damaged (%s): it is begun anew", error)
    for suffix in ("-wal", "-shm", "-damaged", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    begun = _open(path)
    assert begun is not None  # noqa: S101 - a new file has no other version
    return begun


def _corrupt(words: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _open(path: Path) -> Database | None:
    """None for a file that another version wrote."""
    connection = sqlite3.connect(path, timeout=WAIT_SECONDS, check_same_thread=False)
    try:
        db = Database(connection, execute_plugins=False)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != VERSION:
            connection.close()
            return None
        if path.stat().st_size < CHECKED_BYTES and (found := db.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
            raise _corrupt(str(found[0]))
        db.enable_wal()
        db.execute("PRAGMA synchronous=NORMAL")  # a power cut may take the last moments: the next scan brings them back
        db.execute(f"PRAGMA cache_size=-{CACHE_KB}")
        if not tables:
            with db.atomic():
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={VERSION}")
        path.chmod(0o600)
    except (sqlite3.Error, OSError):
        connection.close()
        raise
    return db
