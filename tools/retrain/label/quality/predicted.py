"""What models said of images, kept in a file: asking a model again costs minutes, and the answer is the same.

The key is the model's SHA-256 and the image's id. The file may be thrown away; it is made again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ripeloop.errors import Offline, SettingsError
from ripeloop.prediction import Prediction

_WAIT = 10  # seconds for another server's write
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image the model could not answer, and why; it is not asked again."""

    why: str


Said = tuple[Prediction, ...] | Unreadable


class Predicted:
    """The answers of models to images, in a SQLite file. Safe for several threads, and several servers on one computer.

    Raises SettingsError where the file is no database or cannot be written, and later Offline.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=_WAIT, check_same_thread=False, isolation_level=None)
            self._begin()
        except sqlite3.Error as error:
            raise SettingsError(f"{path} cannot keep what the model says ({error}); delete it, or make room") from error

    def _begin(self) -> None:
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS predicted (model TEXT, image TEXT, said TEXT NOT NULL, "
                             "PRIMARY KEY (model, image)) WITHOUT ROWID")  # fmt: skip
        except sqlite3.Error:
            self._db.close()
            raise

    def __enter__(self) -> Predicted:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is asked of it any more."""
        with self._lock:
            self._db.close()

    def add(self, model: str, image: str, said: Said) -> None:
        """Keep one answer; the same again changes nothing."""
        with self._cursor() as db:
            db.execute("INSERT OR REPLACE INTO predicted VALUES (?, ?, ?)", (model, image, _to_json(said)))

    def of(self, model: str, images: Iterable[str]) -> dict[str, Said]:
        """What `model` said of those of `images` that it was asked about."""
        found: dict[str, Said] = {}
        for some in _parts(list(images)):
            marks = ",".join("?" * len(some))
            query = f"SELECT image, said FROM predicted WHERE model = ? AND image IN ({marks})"  # noqa: S608
            with self._cursor() as db:
                found.update((image, _from_json(said)) for image, said in db.execute(query, (model, *some)))
        return found

    @contextmanager
    def _cursor(self) -> Iterator[sqlite3.Cursor]:
        with self._lock:
            cursor = self._db.cursor()
            try:
                yield cursor
            except sqlite3.Error as error:
                raise Offline(f"what the newer model says cannot be kept now ({error}): is the disk full?") from error
            finally:
                cursor.close()


def _parts(images: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(images), _AT_ONCE):
        yield images[start : start + _AT_ONCE]


def _to_json(said: Said) -> str:
    if isinstance(said, Unreadable):
        return json.dumps({"why": said.why})
    return json.dumps([[one.tag, round(one.probability, 6)] for one in said], separators=(",", ":"))


def _from_json(text: str) -> Said:
    fields = json.loads(text)
    if isinstance(fields, dict):
        return Unreadable(str(fields["why"]))
    return tuple(Prediction(tag, probability) for tag, probability in fields)
