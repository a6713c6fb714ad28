"""`/metrics`, `/healthz` and `/readyz`, on a port of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from ripeloop.errors import SettingsError
from sampler.telling.metrics import Metrics
from sampler.telling.trouble import DISK_FULL, INDEX, LOCAL_STORE, SPOOL

IN_THE_WAY = (SPOOL, LOCAL_STORE, INDEX, DISK_FULL)


@asynccontextmanager
async def served(
    host: str, port: int, metrics: Metrics, trouble: Callable[[], Mapping[str, str]]
) -> AsyncIterator[None]:
    """Answer until the block ends; port 0: not at all. Raises SettingsError where the port is taken."""
    if not port:
        yield
        return
    runner = web.AppRunner(application(metrics, trouble), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise SettingsError(f"--http-port {port} on {host} cannot be used: {error.strerror or error}") from None
        yield
    finally:
        await runner.cleanup()


def application(metrics: Metrics, trouble: Callable[[], Mapping[str, str]]) -> web.Application:
    """The pages. Ready: one more flagged image would be kept now; the cloud has no say in that."""

    async def page(request: web.Request) -> web.Response:
        body, content_type = await metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def health(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def ready(_: web.Request) -> web.Response:
        wrong = {kind: words for kind, words in trouble().items() if kind in IN_THE_WAY}
        if wrong:
            return web.json_response({"status": "in trouble", "trouble": wrong}, status=503)
        return web.json_response({"status": "ready"})

    app = web.Application()
    app.router.add_get("/metrics", page)
    app.router.add_get("/healthz", health)
    app.router.add_get("/readyz", ready)
    return app
