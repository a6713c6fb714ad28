"""A labelling server from its start to its end: the parts made, the container scanned, answers written."""

from __future__ import annotations

import asyncio
import fcntl
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from retrain.label.answering.answers import Answers
from retrain.label.answering.journal import Journal
from retrain.label.answering.writing import Shares
from retrain.label.app import application, templates
from retrain.label.asking.alike import LookAlikes
from retrain.label.asking.queue import Pace, Queue
from retrain.label.asking.tags import Tags
from retrain.label.connections import Doors
from retrain.label.container.cache import Cache
from retrain.label.container.scan import Scan
from retrain.label.pages.images import Images
from retrain.label.pages.retraining import Retraining
from retrain.label.parts import Parts
from retrain.label.people import People, secret_in
from retrain.label.quality.asker import Asker
from retrain.label.quality.predicted import Predicted
from retrain.label.routes import TASKS
from retrain.label.settings import Settings
from ripeloop.blobs import AzureBlobs, Blobs, FolderBlobs
from ripeloop.errors import BadModel, Offline, SettingsError

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
IDLE_SECONDS = 120.0
MEGABYTE = 1024 * 1024
JOURNAL = "answers.db"
STORE, TRACE = "store", "trace"  # of the last start, in answers.db


async def serve(settings: Settings, blobs: Blobs) -> None:
    """Serve until cancelled. Raises SettingsError."""
    async with running(settings, blobs):
        await asyncio.Event().wait()


@asynccontextmanager
async def running(settings: Settings, blobs: Blobs) -> AsyncIterator[tuple[Parts, str]]:
    """The parts of a server that listens, and its address. Raises SettingsError."""
    async with AsyncExitStack() as stack:
        stack.enter_context(alone_in(settings.state))
        parts = await stack.enter_async_context(opened(settings, blobs))
        url = await stack.enter_async_context(_listening(application(parts), settings))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        started = [tasks.create_task(task(parts)) for task in (_scan, _write, *TASKS)]
        try:
            yield parts, url
        finally:
            for one in started:
                one.cancel()


@asynccontextmanager
async def opened(settings: Settings, blobs: Blobs) -> AsyncIterator[Parts]:
    """The parts, closed at the end."""
    secret = secret_in(settings.state)
    async with AsyncExitStack() as stack:
        cache = Cache(settings.state / "cache.db")
        stack.callback(cache.close)
        journal = Journal(settings.state / JOURNAL)
        stack.callback(journal.close)
        await _check_store(journal, blobs)
        stack.push_async_callback(_note_at_end, journal, blobs)
        asker = _asker(settings, stack)
        scan = Scan(blobs, cache, settings.overlap, settings.scan_seconds)
        pace = Pace(settings.overlap, settings.known, settings.lease_seconds, settings.skip_seconds)
        parts = Parts(
            settings=settings,
            blobs=blobs,
            cache=cache,
            journal=journal,
            queue=Queue(cache, pace),
            answers=Answers(blobs, cache, journal, scan, Shares(settings.overlap, settings.blind)),
            people=People(settings, secret),
            images=Images(blobs, cache, settings.state / "images", settings.image_cache_mb * MEGABYTE),
            scan=scan,
            tags=Tags(cache, journal, settings.tags, settings.negative_tag),
            alike=LookAlikes(cache),
            retraining=Retraining(settings.retrain, settings.state / "retrain.log"),
            templates=templates(),
            asker=asker,
        )
        await parts.queue.begin()
        stack.push_async_callback(parts.images.close)
        stack.push_async_callback(parts.answers.stop)
        stack.push_async_callback(parts.retraining.close)
        yield parts


async def _check_store(journal: Journal, blobs: Blobs) -> None:
    """Raises SettingsError where answers wait for another store than this one, or there is none."""
    here, before = _address(blobs), await journal.fact(STORE)
    if here and before and before != here and (waiting := await journal.count_waiting()):
        raise SettingsError(
            f"--state holds {waiting} answers that wait for {before}, and this is {here}: start once on that one until "
            "they are written, or give this one a --state of its own"
        )
    if isinstance(blobs, FolderBlobs):
        if before == here:
            blobs.expect(await journal.fact(TRACE))
        if not blobs.trace and not blobs.folder.parent.is_dir():
            raise SettingsError(
                f"--cloud-blobs: there is no folder {blobs.folder.parent}: name the one that holds the container "
                f"{blobs.folder.name}, a connection string, or a container's SAS URL"
            )
    await _note_store(journal, blobs)


async def _note_store(journal: Journal, blobs: Blobs) -> None:
    """So that the next start knows another store, or one that is away."""
    if here := _address(blobs):
        await journal.note(STORE, here)
        await journal.note(TRACE, blobs.trace if isinstance(blobs, FolderBlobs) else "")


async def _note_at_end(journal: Journal, blobs: Blobs) -> None:
    try:
        await _note_store(journal, blobs)
    except Offline as error:
        log.warning("the next start will not know whether its store is away: %s", error)


def _address(blobs: Blobs) -> str:
    """Which store it is; without a credential."""
    if isinstance(blobs, FolderBlobs):
        return str(blobs.folder.resolve())
    return blobs.url if isinstance(blobs, AzureBlobs) else ""


async def _scan(parts: Parts) -> None:
    await parts.scan.run()


async def _write(parts: Parts) -> None:
    await parts.answers.run()


def _asker(settings: Settings, stack: AsyncExitStack) -> Asker | None:
    """Raises SettingsError."""
    if settings.model is None:
        return None
    predicted = stack.enter_context(Predicted(settings.state / "predicted.db"))
    try:
        return Asker(settings.model, predicted)
    except BadModel as error:
        raise SettingsError(f"--model: {error}") from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Two servers on one folder would lose each other's leases. Raises SettingsError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise SettingsError(f"--state {folder} cannot be used ({error.strerror}): let this user write there") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(
                f"another labelling server works in {folder}: end it, or give this one a --state of its own"
            ) from None
        yield


@asynccontextmanager
async def _listening(app: web.Application, settings: Settings) -> AsyncIterator[str]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS, keepalive_timeout=IDLE_SECONDS)
    async with AsyncExitStack() as stack:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if runner.server is None:
            raise RuntimeError("the HTTP server was not set up")
        doors = Doors(runner.server, one_address=bool(settings.proxies))
        stack.callback(doors.close)
        try:
            listening = await asyncio.get_running_loop().create_server(doors, settings.host, settings.port)
            stack.callback(listening.close)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "no address and no name"
            raise SettingsError(
                f"cannot listen on {settings.host}:{settings.port} ({why}): is another program there? Give another "
                "--port"
            ) from error
        host, port = listening.sockets[0].getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("listening on %s", url)
        yield url
