"""From the answer to the spool: flagged images are written, made durable and announced, and no camera waits for it.

Three steps, each with its own queue, so that neither the disk's nor the hub's pace reaches the camera: first the file
is written (from then on a killed process loses nothing), later it is made to outlive a power cut, then the sampler is
woken. Each step takes at once all that waits for it. The spool is the truth: a wake-up that fails is not repeated, the
next one or the sampler's own look finds all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from classifier.numbers.summary import Counts
from ripeloop.errors import Offline, Refused, SpoolFull, TooLarge
from ripeloop.hub import Hub
from ripeloop.prediction import Flagged
from ripeloop.spool import Spool

log = logging.getLogger(__name__)

T = TypeVar("T")

OUTPUT = "uncertain"

DUPLICATE = "duplicate"
SPOOL_FULL = "spool_full"
SPOOL_ERROR = "spool_error"
HANDOFF_FULL = "handoff_full"

WAKE_EVERY = 0.1  # seconds; the sampler takes all that waits, however often it is woken
TOGETHER = 16  # images written in one go: each go costs as much as writing a small one


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait for the disk, in images and bytes, and the time limits, in seconds.

    `wait` is what a camera's answer waits for its image to be in the spool: 0 never waits.
    """

    images: int = 256
    bytes: int = 64 * 1024 * 1024
    wait: float = 0.05
    send: float = 10.0
    drain: float = 8.0


class Handoff:
    """Takes flagged images off the camera's way. Use inside `running`."""

    def __init__(self, spool: Spool, hub: Hub, counts: Counts, bounds: Bounds = Bounds()) -> None:
        self._spool = spool
        self._hub = hub
        self._counts = counts
        self._bounds = bounds
        self._to_write: asyncio.Queue[_Job] = asyncio.Queue()
        self._to_sync: asyncio.Queue[Flagged] = asyncio.Queue()
        self._to_announce: asyncio.Queue[Flagged] = asyncio.Queue()
        self._bytes = 0
        self._slow = False  # a camera waited in vain: none waits until the disk has caught up
        self._disk = ThreadPoolExecutor(2, "handoff")  # one writes, one makes durable
        self._troubles: set[str] = set()
        self._unheard = False

    async def offer(self, flagged: Flagged, image: bytes) -> None:
        """Take one image; returns once it is in the spool or counted as dropped, after `wait` seconds at the latest."""
        self._counts.flagged[flagged.reason] += 1
        waiting = self._to_write.qsize()
        if waiting >= self._bounds.images or self._bytes + len(image) > self._bounds.bytes:
            self._drop(HANDOFF_FULL, f"the disk cannot keep up, {waiting} images wait for it")
            return
        job = _Job(flagged, image, asyncio.get_running_loop().create_future())
        self._bytes += len(image)
        self._to_write.put_nowait(job)
        if self._bounds.wait > 0 and not self._slow:
            done, _ = await asyncio.wait({job.written}, timeout=self._bounds.wait)
            self._slow = not done

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work until the block ends, then until nothing waits any more, for `drain` seconds at most."""
        try:
            async with asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(step) for step in (self._write(), self._sync(), self._announce())]
                try:
                    yield
                finally:
                    await self._drain()
                    for task in working:
                        task.cancel()
        finally:
            self._disk.shutdown(wait=False, cancel_futures=True)

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._bounds.drain):
                for queue in (self._to_write, self._to_sync, self._to_announce):
                    await queue.join()
        if self._bytes:
            log.error("stopped with images that are not in the spool yet: %d bytes", self._bytes)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = await _waiting(self._to_write, TOGETHER)
            for job, (dropped, detail) in await loop.run_in_executor(self._disk, self._put, jobs):
                self._written(job, dropped, detail)
            if self._to_write.empty():
                self._slow = False

    def _put(self, jobs: list[_Job]) -> list[tuple[_Job, tuple[str | None, str]]]:
        return [(job, self._put_one(job)) for job in jobs]

    def _put_one(self, job: _Job) -> tuple[str | None, str]:
        try:
            stored = self._spool.put(job.flagged, job.image)
        except SpoolFull as error:
            return SPOOL_FULL, str(error)
        except (OSError, MemoryError) as error:
            return SPOOL_ERROR, str(error) or type(error).__name__
        return (None, "") if stored else (DUPLICATE, "")

    def _written(self, job: _Job, dropped: str | None, detail: str) -> None:
        self._bytes -= len(job.image)
        if dropped is None:
            self._counts.stored += 1
            self._to_sync.put_nowait(job.flagged)
            self._settled()
        else:
            self._drop(dropped, detail)
        if not job.written.done():
            job.written.set_result(None)
        self._to_write.task_done()

    async def _sync(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await _waiting(self._to_sync)
            try:
                await loop.run_in_executor(self._disk, self._spool.sync, *(flagged.id for flagged in batch))
            except OSError as error:
                log.warning("the spool may lose its newest images in a power cut: %s", error)
            for flagged in batch:
                self._to_announce.put_nowait(flagged)
                self._to_sync.task_done()

    async def _announce(self) -> None:
        while True:
            batch = await _waiting(self._to_announce)
            await self._send(batch[-1])
            for _ in batch:
                self._to_announce.task_done()
            await asyncio.sleep(WAKE_EVERY)

    async def _send(self, flagged: Flagged) -> None:
        try:
            async with asyncio.timeout(self._bounds.send):
                await self._hub.send(OUTPUT, flagged.to_json(), {"reason": flagged.reason})
        except (Offline, Refused, TooLarge, TimeoutError) as error:
            if not self._unheard:
                log.warning("cannot wake the sampler, it will look by itself: %s", error or "no answer in time")
            self._unheard = True
            return
        if self._unheard:
            log.info("the sampler hears again")
        self._unheard = False

    def _drop(self, reason: str, detail: str) -> None:
        self._counts.dropped[reason] += 1
        if reason != DUPLICATE and reason not in self._troubles:
            log.warning("flagged images are dropped now (%s): %s", reason, detail)
            self._troubles.add(reason)

    def _settled(self) -> None:
        if self._troubles:
            log.info("flagged images are kept again")
            self._troubles.clear()


@dataclass(frozen=True, slots=True)
class _Job:
    flagged: Flagged
    image: bytes
    written: asyncio.Future[None]


async def _waiting(queue: asyncio.Queue[T], most: int = 0) -> list[T]:
    """All that waits in the queue, `most` at most; waits for the first."""
    taken = [await queue.get()]
    while not queue.empty() and len(taken) != most:
        taken.append(queue.get_nowait())
    return taken
