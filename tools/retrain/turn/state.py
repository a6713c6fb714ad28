"""Where the turns are: one SQLite file that outlives a kill and a power cut. A step is done when it says so here."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ripeloop.errors import Offline, SettingsError

FORM = 1
_SCHEMA = """
CREATE TABLE turns (number INTEGER PRIMARY KEY, began TEXT NOT NULL, ended TEXT, outcome TEXT, why TEXT);
CREATE TABLE steps (
    turn INTEGER NOT NULL REFERENCES turns (number) ON DELETE CASCADE,
    name TEXT NOT NULL, began TEXT NOT NULL, done TEXT, notes TEXT NOT NULL DEFAULT '{}', result TEXT,
    PRIMARY KEY (turn, name)
);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a turn: what it noted on its way, and its result once it is done. Times are ISO, in UTC."""

    name: str
    began: str
    done: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: `outcome` and `why` are empty while it is open; `steps` are those begun, by name."""

    number: int
    began: str
    ended: str = ""
    outcome: str = ""
    why: str = ""
    steps: Mapping[str, Step] = field(default_factory=dict)

    def result(self, step: str) -> Mapping[str, Any] | None:
        """What a step came to; None where it is not done."""
        found = self.steps.get(step)
        return found.result if found is not None and found.done else None

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        times = {"turn": self.number, "began": self.began, "ended": self.ended, "outcome": self.outcome}
        steps = {name: dict(step.result) for name, step in self.steps.items() if step.done}
        return times | {"why": self.why, "steps": steps}


class State:
    """The turns of one work folder. Use `State.open`; one process at a time. Raises Offline where the disk fails."""

    def __init__(self, db: sqlite3.Connection, path: Path, now: Callable[[], str]) -> None:
        self._db, self._path, self._now = db, path, now

    @classmethod
    @contextmanager
    def open(cls, path: Path, now: Callable[[], str]) -> Iterator[State]:
        """The state in that file, made where it is missing; `now` tells the time. Raises SettingsError, Offline."""
        state = cls(_opened(path), path, now)
        try:
            yield state
        finally:
            state._db.close()

    @property
    def path(self) -> Path:
        """Its file."""
        return self._path

    def identity(self) -> str:
        """A name of this work folder that no other has: a UUID."""
        self._change("INSERT OR IGNORE INTO facts VALUES ('identity', ?)", str(uuid.uuid4()))
        ((found,),) = self._ask("SELECT value FROM facts WHERE name = 'identity'")
        return str(found)

    def open_turn(self) -> Turn | None:
        """The turn that has not ended; None where all have."""
        found = self._ask("SELECT number FROM turns WHERE ended IS NULL ORDER BY number DESC LIMIT 1")
        return self.turn(found[0][0]) if found else None

    def turn(self, number: int) -> Turn:
        """One turn with its steps."""
        ((began, ended, outcome, why),) = self._ask("SELECT began, ended, outcome, why FROM turns WHERE number = ?",
                                                    number)  # fmt: skip
        rows = self._ask("SELECT name, began, done, notes, result FROM steps WHERE turn = ? ORDER BY rowid", number)
        steps = {row[0]: Step(row[0], row[1], row[2] or "", self._document(row[3]), self._document(row[4] or "{}"))
                 for row in rows}  # fmt: skip
        return Turn(number, began, ended or "", outcome or "", why or "", steps)

    def turns(self) -> list[Turn]:
        """All turns, the newest first."""
        return [self.turn(number) for (number,) in self._ask("SELECT number FROM turns ORDER BY number DESC")]

    def begin(self, after: int = 0) -> Turn:
        """A new turn, of a number above all others and `after`."""
        self._change(
            "INSERT INTO turns (number, began) SELECT max(coalesce(max(number), 0), ?) + 1, ? FROM turns",
            after, self._now(),
        )  # fmt: skip
        ((number,),) = self._ask("SELECT max(number) FROM turns")
        return self.turn(number)

    def start(self, turn: int, step: str) -> Step:
        """The step has begun, now or before."""
        self._change("INSERT OR IGNORE INTO steps (turn, name, began) VALUES (?, ?, ?)", turn, step, self._now())
        return self.turn(turn).steps[step]

    def note(self, turn: int, step: str, **notes: Any) -> None:
        """What the step must still know when it is done again after a kill; None takes a note away."""
        said = {**self.turn(turn).steps[step].notes, **notes}
        kept = json.dumps({name: value for name, value in said.items() if value is not None})
        self._change("UPDATE steps SET notes = ? WHERE turn = ? AND name = ?", kept, turn, step)

    def done(self, turn: int, step: str, result: Mapping[str, Any], outcome: str = "", why: str = "") -> Turn:
        """The step is done for good; with an `outcome` the turn has ended with it. Both, or neither."""
        with _named(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE steps SET done = ?, result = ? WHERE turn = ? AND name = ?",
                (self._now(), json.dumps(dict(result)), turn, step),
            )
            if outcome:
                self._db.execute(
                    "UPDATE turns SET ended = ?, outcome = ?, why = ? WHERE number = ?",
                    (self._now(), outcome, why, turn),
                )
        return self.turn(turn)

    def end(self, turn: int, outcome: str, why: str) -> Turn:
        """The turn has ended so, whatever was left to do."""
        self._change(
            "UPDATE turns SET ended = ?, outcome = ?, why = ? WHERE number = ?", self._now(), outcome, why, turn
        )
        return self.turn(turn)

    def reopen(self, turn: int, step: str) -> Turn:
        """Go on with a turn that had ended, from that step on: it and all after it are done again."""
        with _named(self._path), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            first = "SELECT rowid FROM steps WHERE turn = ?1 AND name = ?2"
            self._db.execute(f"DELETE FROM steps WHERE turn = ?1 AND rowid >= ({first})", (turn, step))  # noqa: S608
            self._db.execute("UPDATE turns SET ended = NULL, outcome = NULL, why = NULL WHERE number = ?", (turn,))
        return self.turn(turn)

    def forget(self, turn: int) -> None:
        """Take a turn away: nothing came of it."""
        self._change("DELETE FROM turns WHERE number = ?", turn)

    def _document(self, text: str) -> dict[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise _damaged(self._path, error) from error
        if not isinstance(found, dict):
            raise _damaged(self._path, "a note of a step is no JSON object")
        return found

    def _ask(self, query: str, *values: Any) -> list[Any]:
        with _named(self._path):
            return self._db.execute(query, values).fetchall()

    def _change(self, statement: str, *values: Any) -> None:
        """On disk for sure when it returns."""
        with _named(self._path):
            self._db.execute(statement, values)


def _opened(path: Path) -> sqlite3.Connection:
    with _named(path):
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
            ((form,),) = db.execute("PRAGMA user_version").fetchall()
            if form == 0:  # new: all of it or nothing
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {FORM}; COMMIT;")
        except sqlite3.Error:
            db.close()
            raise
    if form not in (0, FORM):
        db.close()
        raise SettingsError(f"{path} is of another version of this program: use that, or another --work folder")
    return db


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR:  # its tables are not ours
            raise _damaged(path, error) from error
        raise Offline(f"{path} cannot be used now ({error}): is the disk full, may this user write there?") from error
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: object) -> SettingsError:
    return SettingsError(
        f"{path} is damaged ({why}): move it away; the next run begins a new turn and finds what is done already"
    )
