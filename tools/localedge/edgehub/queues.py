"""Store and forward: messages wait on disk for the endpoint a route names."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from localedge.database import Database
from localedge.protocol.message import Message
from manifests.routes import FOREVER, UPSTREAM

MOST_ARRIVED = 100_000


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message for one endpoint."""

    endpoint: str
    message: Message
    priority: int
    time_to_live: float = FOREVER


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a queue."""

    id: int
    message: Message


class Queues:
    """A queue for each endpoint, in the order of priority and arrival."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, messages: Iterable[Waiting]) -> asyncio.Future[None]:
        """Add to the queues; done when the messages are on disk."""
        now = time.time()
        rows = [
            (
                waiting.endpoint,
                waiting.priority,
                waiting.message.head(),
                waiting.message.body,
                now + waiting.time_to_live if waiting.time_to_live else None,
            )
            for waiting in messages
        ]
        return self._db.write(
            "INSERT INTO message(endpoint, priority, head, body, expires) VALUES (?, ?, ?, ?, ?)", rows
        )

    def next(self, endpoint: str, limit: int, leave_out: Collection[int] = ()) -> list[Stored]:
        """The first `limit` messages for `endpoint` that are not among `leave_out`; expired ones are gone."""
        rows = self._db.read(
            "SELECT id, head, body FROM message WHERE endpoint = ? AND (expires IS NULL OR expires > ?)"
            " ORDER BY priority, id LIMIT ?",
            (endpoint, time.time(), limit + len(leave_out)),
        )
        fresh = [Stored(row[0], Message.from_head(row[1], row[2])) for row in rows if row[0] not in leave_out]
        return fresh[:limit]

    def done(self, id_: int) -> asyncio.Future[None]:
        """The endpoint has the message."""
        return self._db.write("DELETE FROM message WHERE id = ?", [(id_,)])

    def expire(self) -> int:
        """Drop what has waited too long; returns how many messages that were."""
        now = time.time()
        expired = self._db.read("SELECT count(*) FROM message WHERE expires <= ?", (now,))[0][0]
        if expired:
            self._db.write("DELETE FROM message WHERE expires <= ?", [(now,)])
        return int(expired)

    def endpoints(self) -> list[str]:
        """The endpoints something waits for."""
        return [row[0] for row in self._db.read("SELECT DISTINCT endpoint FROM message")]

    def depths(self) -> dict[str, int]:
        """How many messages wait, by endpoint."""
        return dict(
            self._db.read(
                "SELECT endpoint, count(*) FROM message WHERE expires IS NULL OR expires > ? GROUP BY endpoint",
                (time.time(),),
            )
        )

    def forget(self, module: str) -> None:
        """Drop what waits for inputs of a module that is no more."""
        self._db.write("DELETE FROM message WHERE substr(endpoint, 1, ?) = ?", [(len(module) + 1, f"{module}/")])


class Upstream:
    """What reached IoT Hub, which here is a table."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def take(self) -> None:
        """Move all that waits for upstream there, each message exactly once."""
        waiting = "FROM message WHERE endpoint = ? AND (expires IS NULL OR expires > ?)"
        values = [(UPSTREAM, time.time())]
        moved = self._db.write(
            f"INSERT INTO arrived(head, body) SELECT head, body {waiting} ORDER BY priority, id", values
        )
        if not moved.done():  # else it has failed, on a full disk for one, and they must stay
            self._db.write(f"DELETE {waiting}", values)

    def trim(self) -> None:
        """Keep the newest `MOST_ARRIVED` messages."""
        newest = self._db.read("SELECT max(id) FROM arrived")[0][0] or 0
        oldest = self._db.read("SELECT min(id) FROM arrived")[0][0] or 0
        if newest - oldest >= MOST_ARRIVED:
            self._db.write("DELETE FROM arrived WHERE id <= ?", [(newest - MOST_ARRIVED,)])

    def after(self, id_: int, limit: int = 10_000) -> list[Stored]:
        """What arrived after message `id_`, in order."""
        rows = self._db.read("SELECT id, head, body FROM arrived WHERE id > ? ORDER BY id LIMIT ?", (id_, limit))
        return [Stored(row[0], Message.from_head(row[1], row[2])) for row in rows]
