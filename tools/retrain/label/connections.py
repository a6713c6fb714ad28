"""What silent or countless clients may take of the page: connections bounded in number, and in time until they ask."""

from __future__ import annotations

import asyncio

from aiohttp import web

HEAD_SECONDS = 20.0
MOST_HEAD = 64 * 1024  # bytes; what is longer the server refuses itself
MOST, MOST_OF_ONE = 500, 100
"""Connections at once: of all, and of one address. A browser opens six, a proxy those of all its people."""

_END = b"\r\n\r\n"


class Doors:
    """Makes the protocol of each new connection: it is the server's from the moment its first head has arrived.

    `one_address`: a proxy stands before the page, so that all come from one; then only those of all are counted.
    """

    def __init__(self, server: web.Server, *, one_address: bool = False, head_seconds: float = HEAD_SECONDS) -> None:
        self.server, self.head_seconds = server, head_seconds
        self.waiting = dict[asyncio.Protocol, asyncio.Transport]()
        self._most_of_one = MOST if one_address else MOST_OF_ONE

    def __call__(self) -> asyncio.Protocol:
        """Of one more connection."""
        return _Door(self)

    def is_full(self, address: str) -> bool:
        """Whether one more of that address is too many."""
        of_handlers = (connection.transport for connection in self.server.connections)
        addresses = [address_of(one) for one in (*self.waiting.values(), *of_handlers) if one is not None]
        return len(addresses) >= MOST or addresses.count(address) >= self._most_of_one

    def close(self) -> None:
        """Nobody waits any more."""
        for transport in list(self.waiting.values()):
            transport.abort()


class _Door(asyncio.Protocol):
    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("a stream connection was expected")
        if self._doors.is_full(address_of(transport)):
            transport.abort()
            return
        self._transport = self._doors.waiting[self] = transport
        self._late = asyncio.get_running_loop().call_later(self._doors.head_seconds, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            return
        begin = max(0, len(self._head) - len(_END))
        self._head += data
        if self._head.find(_END, begin) < 0 and len(self._head) < MOST_HEAD:
            return
        transport, self._transport = self._transport, None
        self._leave()
        protocol = self._doors.server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(bytes(self._head))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        self._transport = None
        self._leave()

    def _leave(self) -> None:
        self._doors.waiting.pop(self, None)
        if self._late is not None:
            self._late.cancel()


def address_of(transport: asyncio.BaseTransport) -> str:
    """Whose connection it is."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""
