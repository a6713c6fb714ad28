"""From the local store to the cloud, while there is a way."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import stamina

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, Denied, NotFound, Offline, Refused
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from sampler.outbox import LONGEST_WAIT, Outbox, Waiting
from sampler.sample import Sample
from sampler.steering import Steering

log = logging.getLogger(__name__)

PAGE = 100
MOST_LAST = 100


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds between tries: doubling from `first` to `longest`, plus up to `jitter`; `tries` for one refused item.

    Without work the index is looked at every `idle` seconds.
    """

    first: float = 1.0
    longest: float = LONGEST_WAIT.total_seconds()
    jitter: float = 1.0
    tries: int = 5
    idle: float = 5.0

    def next_try(self, tries: int, now: datetime) -> datetime | None:
        """When an item that was refused `tries` times is tried again; None: never."""
        if tries >= self.tries:
            return None
        return now + timedelta(seconds=min(self.longest, self.first * 10 * 2**tries))


class Uploader:
    """Brings waiting samples to `cloud`, several at a time, and remembers in the outbox what arrived.

    A store that is away or turns us away stops the drain, and later it goes on; a single refused item has its tries
    and is set aside. Without a cloud everything waits.
    """

    def __init__(
        self,
        outbox: Outbox,
        spool: Spool,
        local: Blobs,
        cloud: Blobs | None,
        *,
        steering: Callable[[], Steering],
        patience: Patience = Patience(),
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._local = local
        self._cloud = cloud
        self._steering = steering
        self._patience = patience
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._draining = asyncio.Lock()
        self._last: list[str] = []
        self._trouble = ""
        self.online = False

    def wake(self) -> None:
        """There is work; a pause after a failure is kept."""
        self._wake.set()

    def flush(self) -> None:
        """Upload now, whatever the pause."""
        self._wake.set()
        if not self._draining.locked():
            self._hurry.set()

    async def run(self) -> None:
        """Upload for ever."""
        while self._cloud is not None:
            self._wake.clear()
            if self._steering().upload_on:
                await self._until_drained()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.idle):
                    await self._wake.wait()

    async def drain(self) -> None:
        """Upload everything that is due, oldest first; raises Offline, Denied when the store stops it."""
        async with self._draining:
            if self._cloud is None:
                return
            line = _Line(self._outbox, self._last)
            stop: list[Offline | Denied] = []
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._steering().concurrency):
                    tasks.create_task(self._work(self._cloud, line, stop))
            if stop:
                self._say(stop[0])
                raise stop[0]

    async def _work(self, cloud: Blobs, line: _Line, stop: list[Offline | Denied]) -> None:
        """Upload until nothing is due, or until this or another worker stands before a closed door."""
        waiting: Waiting | None = None
        try:
            while not stop and self._steering().upload_on and (waiting := await line.next()):
                await self._upload(cloud, waiting)
        except (Offline, Denied) as error:
            stop.append(error)
            if waiting is not None:  # last in line the next time: if it is this one image, it holds up no other
                self._last = [*self._last[-MOST_LAST:], waiting.sample.id]

    async def _upload(self, cloud: Blobs, waiting: Waiting) -> None:
        sample = waiting.sample
        try:
            image = await self._image(sample)
            await cloud.put(sample.blob, image, sample.metadata(), sample.content_type)
        except Denied:
            raise
        except (Refused, NotFound) as error:
            next_try = self._patience.next_try(waiting.tries + 1, datetime.now(UTC))
            if next_try is None:
                log.error("set aside after %d tries: %s: %s", waiting.tries + 1, sample.blob, error)
            await asyncio.to_thread(self._outbox.refused, sample.id, str(error), next_try)
            return
        self._say(None)
        await asyncio.to_thread(self._outbox.uploaded, sample.id, datetime.now(UTC))
        if sample.id in self._last:
            self._last.remove(sample.id)

    async def _image(self, sample: Sample) -> bytes:
        """The bytes the camera posted, from the local store or else the spool. Raises NotFound, Offline."""
        try:
            image = await self._local.get(sample.blob)
            if image_id(image) == sample.id:
                return image
            trouble: Exception = NotFound("missing_blob: the local blob is damaged and the spool has no copy")
        except NotFound:
            trouble = NotFound("missing_blob: neither the local store nor the spool holds the image")
        except (Offline, Denied) as error:
            trouble = Offline(f"the local store cannot be read: {error}")
        try:
            _, image = await asyncio.to_thread(self._spool.take, sample.id)
        except (NotFound, BadRecord, OSError):
            raise trouble from None
        return image

    async def _until_drained(self) -> None:
        """Drain, pause after each failure, and begin at once when flushed."""
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(self._drain_with_patience())
            hurried = tasks.create_task(self._hurry.wait())
            await asyncio.wait({draining, hurried}, return_when=asyncio.FIRST_COMPLETED)
            draining.cancel()
            hurried.cancel()
        self._hurry.clear()

    async def _drain_with_patience(self) -> None:
        async for attempt in stamina.retry_context(
            on=(Offline, Denied),
            attempts=None,
            timeout=None,
            wait_initial=self._patience.first,
            wait_max=self._patience.longest,
            wait_jitter=self._patience.jitter,
        ):
            with attempt:
                await self.drain()

    def _say(self, error: Offline | Denied | None) -> None:
        """The cloud's state, told once for each change."""
        trouble = "" if error is None else str(error)
        if self.online == (error is None) and trouble == self._trouble:
            return
        self.online, self._trouble = error is None, trouble
        if error is None:
            log.info("online, uploading")
        elif isinstance(error, Denied):
            log.error("not uploading, keeping samples here: %s", error)
        else:
            log.warning("offline, keeping samples here: %s", error)


class _Line:
    """What is due, handed out one by one to several workers; what `last` names stands at the end."""

    def __init__(self, outbox: Outbox, last: Collection[str]) -> None:
        self._outbox = outbox
        self._last = set(last)
        self._waiting: deque[Waiting] = deque()
        self._behind: list[Waiting] = []
        self._after: Sample | None = None
        self._reading = asyncio.Lock()

    async def next(self) -> Waiting | None:
        """The next one; each comes once, and None at the end."""
        async with self._reading:
            while not self._waiting and (page := await asyncio.to_thread(self._read)):
                self._after = page[-1].sample
                self._waiting.extend(waiting for waiting in page if waiting.sample.id not in self._last)
                self._behind.extend(waiting for waiting in page if waiting.sample.id in self._last)
            if not self._waiting:
                self._waiting.extend(self._behind)
                self._behind.clear()
            return self._waiting.popleft() if self._waiting else None

    def _read(self) -> list[Waiting]:
        return self._outbox.due(datetime.now(UTC), PAGE, self._after)
