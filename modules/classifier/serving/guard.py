"""What slow, silent or countless clients may take of this process: bodies bounded in number, bytes and time."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from classifier.serving.classify import Busy
from ripeloop.errors import BadImage

FORM_BYTES = 64 * 1024  # what a form may have around its image
OUT_OF_SOCKETS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
SAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """At most `count` bodies with an image of `largest` bytes each, `together` bytes in all, are held at once.

    A body has to arrive within `seconds`, and from `grace` seconds on at `rate` bytes a second on average.
    """

    largest: int
    count: int = 256
    together: int = 256 * 1024 * 1024
    seconds: float = 60.0
    grace: float = 10.0
    rate: int = 1024


class Bodies:
    """The requests' bodies, from their first byte until they are answered."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held: dict[object, int] = {}  # bytes

    @asynccontextmanager
    async def of(self, request: web.Request) -> AsyncIterator[bytes]:
        """The whole body, counted as held until the block ends.

        Raises Busy, BadImage for a body its headers do not describe, TimeoutError, HTTPRequestEntityTooLarge.
        """
        if len(self._held) >= self._limits.count:
            raise Busy(f"{len(self._held)} images are on their way in: post this one again in a moment")
        this = object()
        self._held[this] = 0
        try:
            yield await self._read(request, this)
        finally:
            del self._held[this]

    async def _read(self, request: web.Request, this: object) -> bytes:
        limits, started = self._limits, asyncio.get_running_loop().time()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(limits.grace) as time_left:
                while not request.content.at_eof():
                    chunk = await request.content.readany()
                    chunks.append(chunk)
                    size += len(chunk)
                    self._held[this] = size
                    if size > limits.largest + FORM_BYTES:
                        raise web.HTTPRequestEntityTooLarge(limits.largest)
                    if len(self._held) > 1 and sum(self._held.values()) > limits.together:
                        raise Busy("too many bytes of images are on their way in: post this one again in a moment")
                    until = started + min(limits.seconds, limits.grace + size / limits.rate)
                    if until != time_left.when() and not request.content.at_eof():
                        time_left.reschedule(until)
        except (web.RequestPayloadError, ConnectionError) as error:
            raise BadImage("the body did not arrive as its headers describe it: post it again") from error
        return b"".join(chunks)


class OncePerMinute(logging.Filter):
    """A filter for asyncio's log, which says hundreds of times a second that no further connection can be taken.

    Python 3.11 plans as many retries, all of which fail, and are logged, where the server stops meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record."""
        error = record.exc_info[1] if record.exc_info else None
        out_of_sockets = isinstance(error, OSError) and error.errno in OUT_OF_SOCKETS
        if not out_of_sockets and "_start_serving" not in record.getMessage():
            return True
        if record.created < self._said + SAY_SECONDS:
            return False
        self._said = record.created
        return True
