"""A machine between a program and an HTTP service, that spoils what it is told to. Loopback only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

PIECE = 64 * 1024


class Between:
    """Passes requests on to `upstream`; `seen` are those it got, as method, path and Range.

    Before each answer goes back, `spoil` sees the request and the body: what it returns is sent, and where that is
    shorter the line breaks there. None: the line breaks before anything is sent.
    """

    def __init__(self, upstream: str, session: aiohttp.ClientSession) -> None:
        self._upstream, self._session = upstream, session
        self.url = ""
        self.seen: list[tuple[str, str, str]] = []
        self.spoil: Callable[[web.Request, bytes], bytes | None] = lambda _, body: body

    @classmethod
    @asynccontextmanager
    async def running(cls, upstream: str) -> AsyncIterator[Between]:
        """One until the block ends."""
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            between = cls(upstream, session)
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", between._pass)
            runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                between.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield between
            finally:
                await runner.cleanup()

    def times(self, method: str, end: str) -> int:
        """How many requests of that method had a path with that end."""
        return sum(one == method and path.endswith(end) for one, path, _ in self.seen)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path, request.headers.get("Range", "")))
        async with self._session.request(
            request.method, self._upstream + str(request.rel_url), data=await request.read(), headers=request.headers
        ) as answer:
            body = await answer.read()
            headers = {name: answer.headers[name] for name in ("ETag", "Content-Type", "Content-Range")
                       if name in answer.headers}  # fmt: skip
        sent = self.spoil(request, body)
        assert request.transport is not None
        if sent is None:
            request.transport.abort()
            return web.Response()
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        for start in range(0, len(sent), PIECE):
            await response.write(sent[start : start + PIECE])
        if len(sent) < len(body):
            request.transport.close()
        else:
            await response.write_eof()
        return response
