"""The index's connection: one transaction at a time, and a damaged file replaced while the module goes on."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ripeloop.errors import Offline, SettingsError
from sampler.index.damage import set_aside
from sampler.index.schema import Database, open_or_begin
from sampler.keeping.ballast import NAME, Ballast
from sampler.telling.trouble import INDEX, INDEX_DAMAGED, Troubles

log = logging.getLogger(__name__)


class Index:
    """The SQLite file `path`, which is made or brought up to date. Safe to use from several threads.

    A damaged file is set aside and a new one begun, at the start or later. Raises SettingsError.
    """

    def __init__(self, path: Path, troubles: Troubles) -> None:
        self._path = path
        self._troubles = troubles
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db: Database | None = self._opened_with_room()
        except (OSError, sqlite3.OperationalError) as error:
            raise SettingsError(
                f"the index cannot be kept in {path.parent} ({error}): let this user write there, and is the disk full?"
            ) from None

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        with self._lock:
            if self._db is not None:
                self._db.close()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk when the block ends. Raises Offline where the disk does not take it."""
        with self._lock:
            try:
                with self._there().atomic() as db:
                    yield db.conn
            except sqlite3.OperationalError as error:
                told = f"the index cannot be used ({error}): is the disk full?"
                self._troubles.say(INDEX, told)
                raise Offline(told) from error
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # its children are other things than damage
                    raise
                self._begin_anew(error)
                raise Offline(f"the index was damaged ({error}) and a new one is begun") from error
            self._troubles.say(INDEX, "")

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """What `query` finds."""
        with self.change() as db:
            found = db.execute(query, values)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found]

    def _begin_anew(self, damage: sqlite3.DatabaseError) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None  # where no new one can be begun now, the next change does it
        try:
            kept = set_aside(self._path)
            self._say_damaged()
            log.error("the index is damaged (%s): a new one is begun, the old is kept as %s", damage, kept)
            self._db, _ = open_or_begin(self._path)
        except (OSError, sqlite3.OperationalError) as error:
            raise Offline(f"the index is damaged and no new one can be begun ({error}): is the disk full?") from error

    def _there(self) -> Database:
        if self._db is None:
            try:
                self._db = self._opened()
            except (OSError, SettingsError) as error:
                raise Offline(
                    f"the index is damaged and no new one can be begun ({error}): is the disk full?"
                ) from error
        return self._db

    def _opened(self) -> Database:
        db, damaged = open_or_begin(self._path)
        if damaged:
            self._say_damaged()
        return db

    def _opened_with_room(self) -> Database:
        """The index; opening needs some room, and on a full disk the ballast has it."""
        try:
            return self._opened()
        except (OSError, sqlite3.OperationalError):
            Ballast(self._path.with_name(NAME)).release()
            return self._opened()

    def _say_damaged(self) -> None:
        self._troubles.say(
            INDEX_DAMAGED,
            f"a damaged index was set aside as {self._path.name}.damaged-* and a new one begun, which counts from "
            "nothing; said until the next start: is the disk sound?",
        )
