"""A camera that never waits: posts one image over and over, many at once, from a process of its own.

`python -m bench.load` prints what it saw as one JSON object. It is built to leave the cores to the server it measures:
one thread, readiness from the kernel, the request's bytes made once. Its own share of a core is part of what it tells.
Each image differs from the one before in a comment within the file, as a camera's frames do.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

MARK = b"\xff\xfe\x00\x12" + b"frame 0000000000"
"""The JPEG comment whose digits change with every image; without it in the file all images are the same."""

_DIGITS = 10
_CHUNK = 262_144


@dataclass(frozen=True, slots=True)
class Order:
    """What to do: `concurrency` requests at once to `path`, with the file `image` posted where it is named.

    After `warm_up` seconds, requests are counted for `seconds`, and on until there are `least` of them, but never for
    more than `limit` seconds. With `pause` each connection waits so many seconds between two requests.
    """

    port: int
    path: str
    image: str = ""
    concurrency: int = 1
    seconds: float = 1.0
    warm_up: float = 0.3
    least: int = 1
    most: int = 0
    limit: float = 60.0
    pause: float = 0.0
    first: int = 0


@dataclass(slots=True)
class Seen:
    """Answers counted in `seconds`, the time each took in milliseconds, and the failures among all answers."""

    seconds: float = 0.0
    answers: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    milliseconds: list[float] = field(default_factory=list)
    own_cores: float = 0.0

    def failed(self, why: str) -> None:
        """Count one failure."""
        self.failures[why] = self.failures.get(why, 0) + 1


class _Connection:
    """One of the connections: sends a request, reads its answer, and starts again."""

    def __init__(self, port: int, head: bytes, body: bytes) -> None:
        self._port = port
        self.request = bytearray(head + body)
        self._digits = self.request.find(MARK) + len(MARK) - _DIGITS if MARK in body else -1
        self.socket = self._open()
        self.sent, self.answer, self.started, self.due = 0, bytearray(), 0.0, 0.0

    def begin(self, number: int, now: float) -> None:
        """The next request starts now."""
        if self._digits >= 0:
            self.request[self._digits : self._digits + _DIGITS] = b"%0*d" % (_DIGITS, number % 10**_DIGITS)
        self.sent, self.started, self.due = 0, now, 0.0
        self.answer.clear()

    def write(self) -> bool:
        """Send what the kernel takes now; whether all of it has gone."""
        with memoryview(self.request) as view:
            self.sent += self.socket.send(view[self.sent : self.sent + _CHUNK])
        return self.sent == len(self.request)

    def read(self) -> int:
        """The status of the answer once it is whole, 0 before. Raises ConnectionError."""
        got = self.socket.recv(_CHUNK)
        self.answer += got
        head, found, body = self.answer.partition(b"\r\n\r\n")
        if found:
            length = _length(head)
            if len(body) >= length:
                return int(head[9:12])
        if not got:
            raise ConnectionError("closed early")
        return 0

    @property
    def closes(self) -> bool:
        """Whether the server ends the connection with this answer."""
        head = bytes(self.answer.partition(b"\r\n\r\n")[0]).lower()
        return head.startswith(b"http/1.0") or b"connection: close" in head

    def reopen(self) -> None:
        """A new connection in the place of this one."""
        self.socket.close()
        self.socket = self._open()

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setblocking(False)
        return opened


class _Run:
    """All connections, until enough was seen."""

    def __init__(self, order: Order, clock: Callable[[], float]) -> None:
        self._order, self._clock = order, clock
        self._selector = selectors.DefaultSelector()
        self._number = order.first
        self.seen = Seen()
        body = Path(order.image).read_bytes() if order.image else b""
        verb = "POST" if order.image else "GET"
        head = f"{verb} {order.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n" if body else "\r\n"
        self._connections = [_Connection(order.port, head.encode(), body) for _ in range(order.concurrency)]

    def until_done(self) -> Seen:
        """Send and read until the order is fulfilled, then read what is still under way and close."""
        begun = self._clock()
        self._from = begun + self._order.warm_up
        self._until = self._from + self._order.seconds
        self._latest = self._from + self._order.limit
        for connection in self._connections:
            self._begin(connection)
        waiting = len(self._connections)
        cpu, last = time.process_time(), begun
        self._done_at = 0.0
        while waiting:
            for key, _ in self._selector.select(0.002 if self._order.pause else 1.0):
                waiting -= self._moved(key.data)
            now = self._clock()
            if self._order.pause:
                waiting -= self._woken(now)
            if now > self._latest + self._order.limit:
                self.seen.failed("no answer in time")
                break
            last = now
        self.seen.own_cores = (time.process_time() - cpu) / max(last - begun, 1e-9)
        self.seen.seconds = max((self._done_at or last) - self._from, 1e-9)
        for connection in self._connections:
            connection.socket.close()
        self._selector.close()
        return self.seen

    def _moved(self, connection: _Connection) -> int:
        """Go on with a connection that is ready; 1 where it was its last answer."""
        try:
            if connection.sent < len(connection.request):
                if connection.write():
                    self._selector.modify(connection.socket, selectors.EVENT_READ, connection)
                return 0
            status = connection.read()
        except BlockingIOError:
            return 0
        except OSError as error:
            self.seen.failed(type(error).__name__)
            return self._next(connection, broken=True)
        if not status:
            return 0
        self._answered(connection, status)
        return self._next(connection, broken=connection.closes)

    def _answered(self, connection: _Connection, status: int) -> None:
        now = self._clock()
        if status != 200:
            self.seen.failed(str(status))
        elif now >= self._from and not self._done_at:
            self.seen.answers += 1
            self.seen.milliseconds.append((now - connection.started) * 1000)
        if not self._done_at and self._enough(now):
            self._done_at = now

    def _enough(self, now: float) -> bool:
        if self._order.most and self.seen.answers >= self._order.most:
            return True
        return now >= self._until and (self.seen.answers >= self._order.least or now >= self._latest)

    def _next(self, connection: _Connection, *, broken: bool) -> int:
        self._selector.unregister(connection.socket)
        if self._done_at or self._clock() > self._latest:
            return 1
        try:
            if broken:
                connection.reopen()
        except OSError as error:
            self.seen.failed(type(error).__name__)
            return 1
        if self._order.pause:
            connection.due = self._clock() + self._order.pause
            return 0
        self._begin(connection)
        return 0

    def _woken(self, now: float) -> int:
        """Begin what has paused long enough; how many will not begin again."""
        ended = 0
        for connection in self._connections:
            if connection.due and self._enough(now):
                connection.due, ended = 0.0, ended + 1
            elif connection.due and now >= connection.due:
                self._begin(connection)
        return ended

    def _begin(self, connection: _Connection) -> None:
        connection.begin(self._number, self._clock())
        self._number += 1
        self._selector.register(connection.socket, selectors.EVENT_WRITE, connection)


def _length(head: bytes | bytearray) -> int:
    for line in bytes(head).lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def run(order: Order) -> Seen:
    """Do as ordered, in this process."""
    return _Run(order, time.monotonic).until_done()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(run(Order(**json.loads(sys.argv[1]))))))
