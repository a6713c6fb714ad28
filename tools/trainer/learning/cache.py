"""Features of images looked at before, on disk: a training with a few new images looks only at those.

One SQLite file. It is a cache: whatever is wrong with it, it begins again empty.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from ripeloop.errors import SettingsError

log = logging.getLogger(__name__)

FILE = "features.db"

Row = npt.NDArray[np.float16]

_TABLE = """
CREATE TABLE IF NOT EXISTS features(image TEXT NOT NULL, backbone TEXT NOT NULL, view TEXT NOT NULL, row BLOB NOT NULL,
    UNIQUE(image, backbone, view))
"""
_PAGE = 16384  # holds two rows
_EVERY = 200  # rows a transaction: what a kill may cost


class NoCache:
    """Remembers nothing."""

    def get(self, _backbone: str, _image: str, _views: Sequence[str]) -> dict[str, Row]:
        """Nothing."""
        return {}

    def put(self, _backbone: str, _image: str, _rows: Mapping[str, Row]) -> None:
        """Let go of the rows."""

    def commit(self) -> None:
        """Nothing was kept."""


class FeatureCache:
    """The rows of features in `folder`; close it, or use it as a context. Raises SettingsError."""

    def __init__(self, folder: Path) -> None:
        self._path, self._waiting = folder / FILE, 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _open(self._path)
            except sqlite3.DatabaseError as error:
                log.warning("the features in %s are lost, they are made again: %s", folder, error)
                _remove(self._path)
                self._db = _open(self._path)
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(f"{folder} cannot hold features: {error}; check its permissions and space") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, backbone: str, image: str, views: Sequence[str]) -> dict[str, Row]:
        """Those of the `views` of one image that are known."""
        sql = "SELECT view, row FROM features WHERE image = ? AND backbone = ?"
        try:
            rows = self._db.execute(sql, (image, backbone)).fetchall()
        except sqlite3.Error as error:  # a damaged page: what stood there is made again
            log.warning("features cannot be read: %s", error)
            return {}
        return {name: np.frombuffer(row, np.float16) for name, row in rows if name in views}

    def put(self, backbone: str, image: str, rows: Mapping[str, Row]) -> None:
        """Keep these views of one image; on disk at the next commit, at the latest after some hundred."""
        values = [(image, backbone, name, row.tobytes()) for name, row in rows.items()]
        try:
            self._db.executemany("INSERT OR REPLACE INTO features VALUES(?, ?, ?, ?)", values)
        except sqlite3.Error as error:  # a full disk slows the next training down, and does not stop this one
            log.warning("features are not kept: %s", error)
            return
        self._waiting += len(values)
        if self._waiting >= _EVERY:
            self.commit()

    def keep_only(self, images: Iterable[str]) -> None:
        """Drop what is known of all others."""
        try:
            self._db.execute("CREATE TEMP TABLE wanted(image TEXT PRIMARY KEY)")
            self._db.executemany("INSERT OR IGNORE INTO wanted VALUES(?)", ((image,) for image in images))
            self._db.execute("DELETE FROM features WHERE image NOT IN (SELECT image FROM wanted)")
            self._db.execute("DROP TABLE wanted")
        except sqlite3.Error as error:
            log.warning("features of images that are gone are still there: %s", error)
        self.commit()

    def commit(self) -> None:
        """Make what was put durable."""
        self._waiting = 0
        try:
            self._db.commit()
        except sqlite3.Error as error:
            log.warning("features are not kept: %s", error)

    def close(self) -> None:
        """Commit, and let go of the file."""
        self.commit()
        self._db.close()


def forget_others(folder: Path, images: Iterable[str]) -> None:
    """Drop the features of all but these images; nothing happens where there is no cache. Raises SettingsError.

    Not while another process writes: it would wait for that one's next commit.
    """
    if (folder / FILE).exists():
        with FeatureCache(folder) as cache:
            cache.keep_only(images)


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    try:
        db.execute(f"PRAGMA page_size={_PAGE}")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.execute(_TABLE)
        db.execute("SELECT image, backbone, view, row FROM features LIMIT 1").fetchall()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
