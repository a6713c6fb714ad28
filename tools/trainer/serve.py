"""`python -m trainer`: the service, wired together."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from classifier.serving.app import is_our_fault
from classifier.serving.guard import OncePerMinute
from classifier.serving.url import fetching
from ripeloop.errors import SettingsError
from trainer.api.gate import Gate
from trainer.api.parts import Parts
from trainer.api.service import application
from trainer.errors import Problem
from trainer.settings import ServeSettings
from trainer.state import sweep
from trainer.state.store import Store
from trainer.state.uploads import MAX_BYTES

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
EXPIRE_SECONDS = 3600.0


async def serve(settings: ServeSettings) -> None:
    """Serve until cancelled. Raises SettingsError."""
    logging.getLogger("aiohttp.server").addFilter(is_our_fault)
    logging.getLogger("asyncio").addFilter(OncePerMinute())
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone_in(settings.data))
        store = Store(settings.data / "trainer.db")
        stack.callback(store.close)
        fetch = None
        if settings.url_hosts is not None:
            fetch = await stack.enter_async_context(fetching(settings.url_hosts, max_bytes=MAX_BYTES))
        parts = Parts.on(settings.data, store, url=settings.url, fetch=fetch)
        await parts.trainings.recover()
        swept = await asyncio.to_thread(sweep.sweep, store, parts.files)
        if swept:
            log.info("%d files that nothing speaks of are removed", swept)
        gate = Gate(settings.training_key, settings.prediction_key, settings.calls_per_second)
        await stack.enter_async_context(_listening(application(parts, gate), settings))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(parts.trainings.run())
            tasks.create_task(_expire(parts))


async def _expire(parts: Parts) -> None:
    """Forget stored predictions in time."""
    while True:
        try:
            gone = await asyncio.to_thread(parts.predictions.expire)
        except (Problem, OSError) as error:
            log.error("old predictions cannot be forgotten now: %s", error)
        else:
            if gone:
                log.info("%d stored predictions are old enough to be forgotten", gone)
        await asyncio.sleep(EXPIRE_SECONDS)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Two trainers on one folder would fail each other's trainings. Raises SettingsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise SettingsError(f"--data {folder} cannot be used ({error.strerror}): let this user write there") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another trainer works in {folder}: end it, or give this one a new --data") from None
        yield


@asynccontextmanager
async def _listening(app: web.Application, settings: ServeSettings) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except OSError as error:
            raise SettingsError(
                f"cannot listen on {settings.host}:{settings.port} ({error.strerror or error}): is another program "
                "there? Give another --port"
            ) from error
        for address in runner.addresses:
            log.info("listening on http://%s:%d", *address[:2])
        yield
    finally:
        await runner.cleanup()
