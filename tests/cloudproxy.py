"""A machine between a device and its cloud, which breaks the line in every way a line breaks. Loopback only.

It knows enough of HTTP/1.1 to break in the middle of a request's body, or after the server has taken all of it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PASS = "pass"
REFUSED = "refused"  # nobody listens
SILENT = "silent"  # takes everything and answers nothing
RESET_BEFORE = "reset before"  # breaks off in the middle of the body: the server gets none of it
RESET_AFTER = "reset after"  # the server has it, and its answer never arrives
SLOW = "slow"
BUSY = "busy"  # 503 to everything
WRONG = "wrong answer"  # a sign-in page with status 200, and every second time a bare 201
FAULTS = (REFUSED, SILENT, RESET_BEFORE, RESET_AFTER, SLOW, BUSY, WRONG)

SLOW_BYTES_PER_SECOND = 40_000
PIECE = 4096
_BUSY = b"HTTP/1.1 503 Server Busy\r\nx-ms-error-code: ServerBusy\r\nContent-Length: 0\r\n\r\n"
_PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<p>Sign in</p>"
_BARE = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class CloudProxy:
    """Passes requests on to `upstream` (a port of 127.0.0.1) until it is told to `become` something worse."""

    def __init__(self, upstream: int) -> None:
        self.port = 0
        self.mode = PASS
        self.requests: Counter[str] = Counter()
        """Requests seen, by the mode they were seen in."""
        self.busiest = 0
        """Requests that were on their way at once, at most."""
        self._busy = 0
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._changed = asyncio.Event()
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def running(cls, upstream: int) -> AsyncIterator[CloudProxy]:
        """A proxy until the block ends."""
        proxy = cls(upstream)
        await proxy._listen()
        try:
            yield proxy
        finally:
            await proxy.become(REFUSED)
            if proxy._serving:
                await asyncio.wait(proxy._serving, timeout=10)

    async def become(self, mode: str) -> None:
        """Behave like this from now on; connections of before are reset, as when a line is cut or comes back."""
        self.mode = mode
        self._changed.set()
        self._changed = asyncio.Event()
        for client in list(self._clients):
            _reset(client)
        if mode == REFUSED:
            await self._stop()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        self._clients.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._clients.discard(writer)
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, each as the mode of its moment wants it."""
        up = _Upstream(self._upstream)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self._busy += 1
                self.busiest = max(self.busiest, self._busy)
                try:
                    answer = await self._answered(reader, head, up)
                    writer.write(answer)
                    await writer.drain()
                finally:
                    self._busy -= 1
                if not answer:
                    return
        finally:
            up.close()

    async def _answered(self, reader: asyncio.StreamReader, head: bytes, up: _Upstream) -> bytes:
        """What the client gets for this request; nothing: the connection breaks off."""
        mode = self.mode
        self.requests[mode] += 1
        size = _length(head)
        if mode == RESET_BEFORE:
            await reader.readexactly(size // 2)
            return b""
        body = await self._body(reader, size, slow=mode == SLOW)
        if mode == SILENT:
            await self._changed.wait()
            return b""
        if mode in (BUSY, WRONG):
            return _BUSY if mode == BUSY else (_PAGE, _BARE)[self.requests[WRONG] % 2]
        answer = await up.ask(head, body)
        return b"" if mode == RESET_AFTER else answer

    async def _body(self, reader: asyncio.StreamReader, size: int, *, slow: bool) -> bytes:
        if not slow:
            return await reader.readexactly(size)
        body = b""
        while len(body) < size:
            body += await reader.readexactly(min(PIECE, size - len(body)))
            await asyncio.sleep(PIECE / SLOW_BYTES_PER_SECOND)
        return body


class _Upstream:
    """The connection to the server, opened with the first request that gets so far."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, head: bytes, body: bytes) -> bytes:
        """The server's whole answer."""
        self._open = self._open or await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)
        reader, writer = self._open
        writer.write(head + body)
        return await _answer(reader, head)

    def close(self) -> None:
        if self._open is not None:
            _reset(self._open[1])


async def _answer(reader: asyncio.StreamReader, request: bytes) -> bytes:
    """One whole answer, head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    if request.startswith(b"HEAD ") or head[9:12] in (b"204", b"304"):
        return head
    if b"transfer-encoding: chunked" not in head.lower():
        return head + await reader.readexactly(_length(head))
    body = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        chunk = int(line.split(b";")[0], 16)
        body += line + await reader.readexactly(chunk + 2)
        if not chunk:
            return head + body


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":")[1])
    return 0


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets a RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
