"""Messages to the hub that must not be lost, on disk until the hub has acknowledged them.

Bounded: when it is full the oldest make room and are counted, for a summary of today is worth more than one of last
week. A message keeps its id over all deliveries, so that the receiver can tell a repetition.

A disk that takes no more never ends the program: what cannot be noted there is remembered until it can, and a mailbox
that cannot be opened is kept in memory.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ripeloop.errors import Offline, SpoolFull

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS letters (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    size INTEGER NOT NULL, -- before the body: to sum it up must not read the bodies
    refused INTEGER NOT NULL DEFAULT 0,
    id TEXT NOT NULL,
    output TEXT NOT NULL,
    properties TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, n INTEGER NOT NULL);
"""

OLDEST = """
SELECT number, id, output, body, properties FROM letters
WHERE number NOT IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class MailboxLimits:
    """What may wait at most, and how often the hub may refuse one letter before it is dropped."""

    letters: int = 10_000
    bytes: int = 64 * 1024 * 1024
    refusals: int = 5


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that waits; `number` is its place in the mailbox, `id` its name for the receiver."""

    number: int
    id: str
    output: str
    body: bytes
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """How many letters wait, with how many bytes, and how many were ever dropped: for room, or as poison."""

    waiting: int
    bytes: int
    dropped: int
    refused: int


class Mailbox:
    """The mailbox in the SQLite file `path`, which is made if missing. One process; its threads may share it."""

    def __init__(self, path: Path, limits: MailboxLimits = MailboxLimits()) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._gone: set[int] = set()  # done with, and the disk did not take it yet
        self._refusals: Counter[int] = Counter()  # those the disk did not take
        self._path = path
        self._in_trouble = False
        self._db = _open_somehow(path)

    def close(self) -> None:
        """Close the file; again changes nothing."""
        with self._lock:
            self._db.close()

    def add(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> str:
        """Put a letter in; it is on disk when this returns its id. Raises SpoolFull when the disk takes no more."""
        id_ = str(uuid.uuid4())
        text = json.dumps(dict(properties or {}))
        size = len(body) + len(text)
        try:
            with self._changing() as transaction:
                transaction.execute(
                    "INSERT INTO letters (id, output, body, properties, size) VALUES (?, ?, ?, ?, ?)",
                    (id_, output, body, text, size),
                )
                self._make_room()
        except Offline as error:
            raise SpoolFull(str(error)) from error
        return id_

    def next(self, behind: Collection[int] = ()) -> Letter | None:
        """The oldest letter, those numbered in `behind` only when no other waits; None when the mailbox is empty.

        Raises Offline when the disk cannot be read now.
        """
        self._catch_up()
        with self._using() as db:
            row = db.execute(OLDEST, (json.dumps([*behind, *self._gone]),)).fetchone()
            if row is None and behind:
                row = db.execute(OLDEST, (json.dumps([*self._gone]),)).fetchone()
        if row is None:
            return None
        number, id_, output, body, properties = row
        return Letter(number, id_, output, body, json.loads(properties))

    def remove(self, number: int) -> None:
        """The hub has it; again changes nothing."""
        self._gone.add(number)
        self._catch_up()

    def refuse(self, number: int) -> bool:
        """Note one refusal by the hub; True when it was the last one allowed and the letter is dropped."""
        try:
            with self._changing() as transaction:
                transaction.execute("UPDATE letters SET refused = refused + 1 WHERE number = ?", (number,))
                dropped = transaction.execute(
                    "DELETE FROM letters WHERE number = ? AND refused >= ?", (number, self.limits.refusals)
                ).rowcount
                self._count("refused", dropped)
        except Offline:
            self._refusals[number] += 1
            if self._refusals[number] < self.limits.refusals:
                return False
            self._gone.add(number)
            return True
        return dropped > 0

    def counts(self) -> Counts:
        """What waits now and what was dropped so far, restarts included. Raises Offline."""
        with self._using() as db:
            waiting, size = db.execute("SELECT count(*), coalesce(sum(size), 0) FROM letters").fetchone()
            ever = dict(db.execute("SELECT name, n FROM counts").fetchall())
        return Counts(waiting, size, ever.get("dropped", 0), ever.get("refused", 0))

    def _catch_up(self) -> None:
        """Remove what is done with, if the disk takes it now."""
        if not (done := [(number,) for number in self._gone]):
            return
        with suppress(Offline):
            with self._changing() as transaction:
                transaction.executemany("DELETE FROM letters WHERE number = ?", done)
            self._gone.difference_update(number for (number,) in done)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk for sure after the block. Raises Offline, and then nothing has changed."""
        with self._using() as db, db:
            db.execute("BEGIN IMMEDIATE")
            yield db
        if self._in_trouble:
            self._in_trouble = False
            log.info("the mailbox can be written again")

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    if not self._in_trouble:
                        log.warning("the mailbox cannot be used now: %s", error)
                    self._in_trouble = True
                elif type(error) is sqlite3.DatabaseError:  # the others are our own mistakes
                    self._db.close()
                    self._db = _begin_anew(self._path, error)
                    self._gone.clear()  # their numbers are given away again
                    self._refusals.clear()
                else:
                    raise
                raise Offline(f"the mailbox cannot be used now ({error}); is the disk full?") from error

    def _make_room(self) -> None:
        """Drop the oldest letters until the rest is within the limits; the newest always stays."""
        waiting, size = self._db.execute("SELECT count(*), sum(size) FROM letters").fetchone()
        dropped = 0
        while waiting > 1 and (waiting > self.limits.letters or size > self.limits.bytes):
            number, freed = self._db.execute("SELECT number, size FROM letters ORDER BY number LIMIT 1").fetchone()
            self._db.execute("DELETE FROM letters WHERE number = ?", (number,))
            waiting, size, dropped = waiting - 1, size - freed, dropped + 1
        self._count("dropped", dropped)

    def _count(self, name: str, n: int) -> None:
        if n:
            self._db.execute(
                "INSERT INTO counts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n", (name, n)
            )


def _open_somehow(path: Path) -> sqlite3.Connection:
    """The file `path`; where it is damaged a new one, and where there can be none one in memory."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _open(path)
    except (OSError, sqlite3.OperationalError) as error:
        return _in_memory(path, error)
    except sqlite3.DatabaseError as error:
        return _begin_anew(path, error)


def _begin_anew(path: Path, error: sqlite3.Error) -> sqlite3.Connection:
    damaged = path.with_name(f"{path.name}.damaged")
    log.error("the mailbox is damaged and starts empty; the old file is kept as %s: %s", damaged, error)
    try:
        _set_aside(path, damaged)
        return _open(path)
    except (OSError, sqlite3.Error) as another:
        return _in_memory(path, another)


def _in_memory(path: Path, error: Exception) -> sqlite3.Connection:
    log.error(
        "the mailbox %s cannot be opened (%s): until the next start messages wait in memory alone; is the disk full, "
        "may this user write there?",
        path,
        error,
    )
    return _open(":memory:")


def _open(path: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")  # WAL alone may forget the last commits in a power cut
        db.executescript(SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _set_aside(path: Path, damaged: Path) -> None:
    path.replace(damaged)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
