"""The trainer's memory: one SQLite file. The one place of the trainer that knows sqlite-utils.

Every change is one transaction that is on disk when its block ends. All of it blocks: call it in a thread.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

from ripeloop.errors import SettingsError
from trainer.errors import Problem

Row = dict[str, Any]


class Transaction:
    """What can be asked and changed while a change is being made."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        return list(self._db.query(query, list(values)))

    def row(self, query: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query."""
        return next(iter(self.rows(query, values)), None)

    def run(self, query: str, values: Sequence[Any] = ()) -> int:
        """Change rows; how many."""
        return int(self._db.execute(query, list(values)).rowcount)

    def run_all(self, query: str, values: Iterable[Sequence[Any]]) -> int:
        """Change rows once for each of `values`; how many."""
        return int(self._db.conn.executemany(query, values).rowcount)

    def add(self, table: str, row: Row) -> None:
        """Add a row."""
        self._db.table(table).insert(row)


class Store:
    """The memory in the file `path`, which is made or brought up to date. Safe to use from several threads.

    Who looks does not wait for who changes: a long change, such as the beginning of a large training, stops no answer.

    Raises SettingsError. A disk that takes no change raises Problem with ErrorUnknown.
    """

    def __init__(self, path: Path) -> None:
        self._lock, self._looking = threading.Lock(), threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = _open(path)
            self._seen = Database(sqlite3.connect(path, check_same_thread=False), execute_plugins=False)
            self._seen.execute("PRAGMA query_only=ON")
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(
                f"--data: {path} cannot be used ({error}): let this user write there; is the disk full, or the file "
                "damaged? A damaged one can be put back from a backup"
            ) from None

    def close(self) -> None:
        """Close the file; nothing may be called afterwards."""
        with self._looking, self._lock:
            self._seen.close()
            self._db.close()

    @contextmanager
    def change(self) -> Iterator[Transaction]:
        """All of the block's changes or none."""
        try:
            with self._lock, self._db.atomic() as db:
                yield Transaction(db)
        except sqlite3.IntegrityError as error:
            raise Problem("NotFound", "what this belongs to was deleted meanwhile: list what there is") from error
        except sqlite3.DatabaseError as error:
            raise Problem("ErrorUnknown", f"the trainer's disk does not take it ({error}): is it full?") from error

    @contextmanager
    def look(self) -> Iterator[Transaction]:
        """All that the block reads is of one moment; it changes nothing."""
        try:
            with self._looking, self._seen.atomic() as db:
                yield Transaction(db)
        except sqlite3.DatabaseError as error:
            raise Problem("ErrorUnknown", f"the trainer's disk cannot be read ({error}): is it well?") from error

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """All rows of a query."""
        with self.look() as now:
            return now.rows(query, values)

    def row(self, query: str, values: Sequence[Any] = ()) -> Row | None:
        """The first row of a query."""
        with self.look() as now:
            return now.row(query, values)

    def secret(self) -> bytes:
        """What links are signed with; the same for as long as the file lives."""
        row = self.row("SELECT value FROM secrets WHERE name = 'links'")
        assert row is not None  # noqa: S101 - the first step of the schema put it there
        return bytes.fromhex(row["value"])


def marks(values: Sequence[Any]) -> str:
    """As many question marks for a query as there are values."""
    return ",".join("?" * len(values))


def _open(path: Path) -> Database:
    connection = sqlite3.connect(path, check_same_thread=False)
    try:
        db = Database(connection, execute_plugins=False)
        db.enable_wal()
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
        _migrate(db, path)
        path.chmod(0o600)  # it holds the secret of the links
    except (sqlite3.Error, OSError, SettingsError):
        connection.close()
        raise
    return db


def _migrate(db: Database, path: Path) -> None:
    unknown = {done.name for done in _migrations.applied(db)} - {step.__name__ for step in _STEPS}
    if unknown:
        raise SettingsError(f"a newer trainer wrote {path}: run that version, or give this one a new --data folder")
    _migrations.apply(db)
    db.commit()


_SCHEMA = (
    "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    """CREATE TABLE projects (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, description TEXT, domain TEXT NOT NULL, kind TEXT NOT NULL,
        platforms TEXT NOT NULL, created TEXT NOT NULL, modified TEXT NOT NULL, status TEXT NOT NULL,
        iterations INTEGER NOT NULL DEFAULT 0) STRICT""",
    "CREATE UNIQUE INDEX projects_names ON projects (name)",
    """CREATE TABLE tags (
        id TEXT PRIMARY KEY, project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE, name TEXT NOT NULL,
        description TEXT, type TEXT NOT NULL, created TEXT NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX tags_names ON tags (project, name)",
    """CREATE TABLE images (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE, sha256 TEXT NOT NULL, created TEXT NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, deleted INTEGER NOT NULL DEFAULT 0) STRICT""",
    "CREATE UNIQUE INDEX images_once ON images (project, sha256) WHERE deleted = 0",
    "CREATE INDEX images_in_order ON images (project, deleted, seq)",
    """CREATE TABLE image_tags (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
        tag TEXT NOT NULL REFERENCES tags (id) ON DELETE CASCADE, created TEXT NOT NULL,
        PRIMARY KEY (image, tag)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX image_tags_by_tag ON image_tags (tag, image)",
    """CREATE TABLE image_metadata (
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (image, key)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX image_metadata_by_value ON image_metadata (key, value, image)",
    """CREATE TABLE iterations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE, name TEXT NOT NULL, status TEXT NOT NULL,
        created TEXT NOT NULL, modified TEXT NOT NULL, trained TEXT, domain TEXT NOT NULL, kind TEXT NOT NULL,
        training TEXT NOT NULL, hours INTEGER NOT NULL, seconds REAL NOT NULL DEFAULT 0, published TEXT,
        resource TEXT, why TEXT, fingerprint TEXT NOT NULL) STRICT""",
    "CREATE UNIQUE INDEX iterations_names ON iterations (project, name)",
    "CREATE UNIQUE INDEX iterations_published ON iterations (project, published) WHERE published IS NOT NULL",
    """CREATE TABLE iteration_tags (
        iteration TEXT NOT NULL REFERENCES iterations (id) ON DELETE CASCADE, tag TEXT NOT NULL, name TEXT NOT NULL,
        description TEXT, type TEXT NOT NULL, place INTEGER NOT NULL,
        PRIMARY KEY (iteration, tag)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE iteration_images (
        iteration TEXT NOT NULL REFERENCES iterations (id) ON DELETE CASCADE,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, seq INTEGER NOT NULL, place INTEGER NOT NULL,
        PRIMARY KEY (iteration, image)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX iteration_images_by_image ON iteration_images (image)",
    """CREATE TABLE iteration_image_tags (
        iteration TEXT NOT NULL, image TEXT NOT NULL, tag TEXT NOT NULL, created TEXT NOT NULL,
        PRIMARY KEY (iteration, image, tag),
        FOREIGN KEY (iteration, image) REFERENCES iteration_images (iteration, image) ON DELETE CASCADE
        ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX iteration_image_tags_by_tag ON iteration_image_tags (iteration, tag, image)",
    """CREATE TABLE exports (
        iteration TEXT NOT NULL REFERENCES iterations (id) ON DELETE CASCADE, flavor TEXT NOT NULL,
        created TEXT NOT NULL, PRIMARY KEY (iteration, flavor)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE predictions (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
        project TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE, iteration TEXT NOT NULL, domain TEXT NOT NULL,
        application TEXT NOT NULL, created TEXT NOT NULL, answer TEXT NOT NULL, uncertainty REAL NOT NULL) STRICT""",
    "CREATE INDEX predictions_in_order ON predictions (project, seq)",
    "CREATE INDEX predictions_by_age ON predictions (created)",
    """CREATE TABLE prediction_tags (
        prediction TEXT NOT NULL REFERENCES predictions (id) ON DELETE CASCADE, tag TEXT NOT NULL,
        probability REAL NOT NULL, PRIMARY KEY (prediction, tag)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE suggestions (
        iteration TEXT NOT NULL REFERENCES iterations (id) ON DELETE CASCADE,
        image TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE, id TEXT NOT NULL, created TEXT NOT NULL,
        answer TEXT NOT NULL, uncertainty REAL NOT NULL,
        PRIMARY KEY (iteration, image)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE suggestion_tags (
        iteration TEXT NOT NULL, image TEXT NOT NULL, tag TEXT NOT NULL, probability REAL NOT NULL,
        PRIMARY KEY (iteration, image, tag),
        FOREIGN KEY (iteration, image) REFERENCES suggestions (iteration, image) ON DELETE CASCADE
        ) STRICT, WITHOUT ROWID""",
)


def _first_schema(db: Database) -> None:
    for statement in _SCHEMA:
        db.execute(statement)
    db.execute("INSERT INTO secrets VALUES ('links', ?)", [secrets.token_hex(32)])


def _exports_that_take_time(db: Database) -> None:
    db.execute("ALTER TABLE exports ADD COLUMN status TEXT NOT NULL DEFAULT 'Done'")
    db.execute("ALTER TABLE exports ADD COLUMN why TEXT")


def _settings_that_are_kept(db: Database) -> None:
    db.execute("ALTER TABLE projects ADD COLUMN augmentation TEXT")


# a schema is changed by a new step at the end; a step that ran anywhere is never edited
_STEPS = (_first_schema, _exports_that_take_time, _settings_that_are_kept)
_migrations = Migrations("trainer")
for _step in _STEPS:
    _migrations()(_step)
