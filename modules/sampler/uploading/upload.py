"""From the local store to the cloud, while there is a way."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, Denied, NotFound, Offline, Refused
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox, Waiting
from sampler.keeping.keep import held_from
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampler.telling.trouble import Troubles
from sampler.uploading.cloud import Cloud, check_ours
from sampler.uploading.gate import Closed, budget_is_spent, is_too_large, reason_to_wait
from sampler.uploading.ledger import Ledger
from sampler.uploading.line import Line
from sampler.uploading.pace import Pace
from sampler.uploading.patience import Patience
from sampler.uploading.pause import Pause
from sampler.uploading.unreadable import Unreadable

log = logging.getLogger(__name__)

MOST_DOUBTED = 100
MOST_SUSPECTS = 100  # images of a drain that the local store may fail on before the drain ends
MOST_SKIPPED = 100  # so many did not fit into what is left of the day: then it counts as spent
LONGEST_NAP = 1.0  # seconds of a paced wait between two looks at whether uploads may still go out
# with these no byte of an image went out, and no image is to blame
BEFORE_THE_BODY = {"dns", "tls", "refused", "unreachable"}


class LocalTrouble(Offline):
    """The device's own store or index is at fault, and not the cloud."""


class Outcome(Enum):
    """What became of one try that does not stop the others."""

    ARRIVED = auto()
    REFUSED = auto()
    STAYED = auto()
    """It did not go, and nobody is to blame."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How uploading stands: `closed` says why nothing may go out, `trouble` why what goes out does not arrive."""

    online: bool
    kind: str
    trouble: str
    since: datetime | None
    closed: Closed | None
    spent: int


class Uploader:
    """Brings waiting samples to `cloud`, several at a time, and remembers in the outbox what arrived.

    A store that is away or turns us away stops the drain, and later it goes on; a single refused item has its tries
    and is set aside. An item that the line breaks on, or that the local store cannot read, goes last, and has its tries
    only while others get through.
    """

    def __init__(
        self,
        outbox: Outbox,
        spool: Spool,
        local: Blobs,
        cloud: Cloud,
        *,
        steering: Callable[[], Steering],
        pause: Pause | None = None,
        ledger: Ledger | None = None,
        patience: Patience = Patience(),
        unreadable: Unreadable | None = None,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._local = local
        self._cloud = cloud
        self._steering = steering
        self._pause = pause
        self._ledger = ledger or Ledger(outbox)
        self._patience = patience
        self._unreadable = unreadable or Unreadable(outbox, Troubles())
        self._pace = Pace()
        self._wake = asyncio.Event()
        self._hurry = asyncio.Event()
        self._draining = asyncio.Lock()
        self._doubted: dict[str, None] = {}
        self._flushing = False
        self._skipped = 0
        self._oversized: Waiting | None = None
        self._suspects: list[tuple[Waiting, Offline]] = []
        self._error: Offline | Denied | None = None
        self._since: datetime | None = None
        self.online = False
        self.arrived = 0
        self.failures: Counter[str] = Counter()
        """Uploads that failed since the start, by kind."""
        self.observe: Callable[[float], None] = lambda _: None
        """Told the seconds of each upload that arrived."""

    def wake(self) -> None:
        """There is work; a pause after a failure is kept."""
        self._wake.set()

    def hurry(self) -> None:
        """Things changed: try now, whatever the pause after failures."""
        self._hurry.set()
        self._wake.set()

    def flush(self) -> Closed | None:
        """Upload now all that waits, whatever the window and the pause after failures; what still forbids it."""
        self._flushing = True
        closed = self.closed()
        if closed is not None:
            self._flushing = False
        self.hurry()
        return closed

    def closed(self) -> Closed | None:
        """Why no upload may begin now."""
        return self._closed(1)

    def _closed(self, most_skipped: int) -> Closed | None:
        """The same; the day counts as spent once so many did not fit into what is left of it."""
        local, steering = self._ledger.local(), self._steering()
        closed = reason_to_wait(
            steering,
            cloud=self._cloud.is_set,
            paused=self._pause.reason if self._pause else None,
            flushing=self._flushing,
            local=local,
            spent=self._ledger.spent,
        )
        return budget_is_spent(steering, local) if closed is None and self._skipped >= most_skipped else closed

    def standing(self) -> Standing:
        """How uploading stands now."""
        error, closed = self._error, self.closed()
        if closed is None and self._oversized is not None and self._ledger.spent:
            closed = is_too_large(self._steering(), self._ledger.local())
        return Standing(
            online=self.online,
            kind="" if error is None else error.kind or "unknown",
            trouble="" if error is None else str(error),
            since=self._since,
            closed=closed,
            spent=self._ledger.spent,
        )

    @property
    def sent_bytes(self) -> int:
        """Bytes that went out since the start, tries that failed included."""
        return self._ledger.sent_bytes

    async def run(self) -> None:
        """Upload for ever."""
        while True:
            self._wake.clear()
            await self._until_drained()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.idle):
                    await self._wake.wait()

    async def drain(self) -> None:
        """Upload everything that is due; raises Offline, Denied when the store stops it."""
        async with self._draining:
            await self._ledger.write()
            await self._ledger.look()
            self._skipped = 0
            if self.closed() is not None:
                return
            flushing, before = self._flushing, self.arrived
            self._suspects = []
            line = Line(self._outbox, self._doubted, self._kept_before(), await self._first_of_the_day())
            stop: list[Offline | Denied] = []
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(stop))
                workers = [tasks.create_task(self._work(line, stop)) for _ in range(self._steering().concurrency)]
                await asyncio.wait(workers)
                writer.cancel()
            await self._ledger.write()
            stop += await self._judged(self.arrived > before)
            if stop:
                raise stop[0]
            if flushing and self.closed() is None:
                self._flushing = False

    async def _first_of_the_day(self) -> Waiting | None:
        """What is over a whole day's bytes and did not fit before; now it does, if the day is new. Raises Offline."""
        if self._oversized is None or self._ledger.spent:
            return None
        first, self._oversized = self._oversized, None
        return first if await asyncio.to_thread(self._outbox.is_waiting, first.sample.id) else None

    def _kept_before(self) -> datetime | None:
        """What was kept later waits a while, for a better one may take its place; None: nothing does."""
        steering = self._steering()
        if self._flushing:
            return None
        return held_from(steering.rules, short=bool(steering.bytes_per_day), now=datetime.now(UTC))

    async def _until_drained(self) -> None:
        """Drain, with a pause after each failure; one after which something arrived counts as the first."""
        failures = 0
        while True:
            before = self.arrived
            try:
                await self.drain()
            except (Offline, Denied):
                failures = 1 if self.arrived > before else failures + 1
                await self._rest(self._patience.pause(failures, random.random()))  # noqa: S311 - no secret
            else:
                return

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        self._hurry.clear()

    async def _write(self, stop: list[Offline | Denied]) -> None:
        try:
            await self._ledger.keep_writing()
        except Offline as error:
            stop.append(LocalTrouble(str(error)))

    async def _work(self, line: Line, stop: list[Offline | Denied]) -> None:
        """Upload until nothing is due, or until this or another worker stands before a closed door."""
        try:
            while not stop and self._goes_on() and (waiting := await line.next()):
                found = await self._try(waiting)
                if not isinstance(found, Outcome) and not await self._is_to_blame(waiting, found, line):
                    self._say(found)
                    stop.append(found)
        except Offline as error:  # the index
            stop.append(LocalTrouble(str(error)))

    def _goes_on(self) -> bool:
        return self._closed(MOST_SKIPPED) is None

    async def _is_to_blame(self, waiting: Waiting, error: Offline | Denied, line: Line) -> bool:
        """Is it this image and not the way to the cloud, or all of the local store? Another one tells: it gets through.

        Only where this image failed before, for on the first failure the way is the likelier cause. Raises Offline.
        """
        if isinstance(error, Denied) or error.kind in BEFORE_THE_BODY:
            return False
        before = waiting.sample.id in self._doubted
        self._doubt(waiting)
        if isinstance(error, LocalTrouble) and before and len(self._suspects) < MOST_SUSPECTS:
            self._suspects.append((waiting, error))
            return True
        if not before or not await self._another_gets_through(line):
            return False
        await self._refused(waiting, str(error))
        return True

    async def _judged(self, arrived: bool) -> list[Offline | Denied]:
        """What the local store could not give in this drain: each its own fault where another image arrived.

        That one will do: a local store does not come and go as a line does. Else it is the store. Raises Offline.
        """
        if not arrived:
            return [error for _, error in self._suspects[:1]]
        for waiting, error in self._suspects:
            await self._refused(waiting, str(error))
        return []

    async def _another_gets_through(self, line: Line) -> bool:
        while self._goes_on() and (witness := await line.next()):
            found = await self._try(witness)
            if not isinstance(found, Outcome):
                self._doubt(witness)
                return False
            if found is Outcome.ARRIVED:
                return True
        return False

    def _doubt(self, waiting: Waiting) -> None:
        """Last in line the next time: if it is this one image, it holds up no other."""
        self._doubted[waiting.sample.id] = None
        while len(self._doubted) > MOST_DOUBTED:
            del self._doubted[next(iter(self._doubted))]

    async def _try(self, waiting: Waiting) -> Outcome | Offline | Denied:
        """Upload one; an error may stop all others. Raises Offline where the index fails."""
        sample = waiting.sample
        if not await self._may_go(waiting):
            return Outcome.STAYED
        try:
            image = await self._image(sample)
        except (Refused, NotFound, Offline) as error:
            self._ledger.sent(sample.size, on_the_line=False)
            if isinstance(error, Offline):
                return error
            await self._refused(waiting, str(error))
            return Outcome.REFUSED
        try:
            await self._put(sample, image)
        except (Offline, Denied) as error:
            self.failures[error.kind or "unknown"] += 1
            return error
        except (Refused, NotFound) as error:
            self.failures[error.kind or "refused_blob"] += 1
            await self._refused(waiting, str(error))
            return Outcome.REFUSED
        self._say(None)
        self.arrived += 1
        self._ledger.arrived(sample.id)
        self._doubted.pop(sample.id, None)
        return Outcome.ARRIVED

    async def _may_go(self, waiting: Waiting) -> bool:
        """Wait until the pace lets it go; False where uploads stop meanwhile, or the day has no bytes left for it."""
        size = waiting.sample.size
        while nap := self._pace.wait(self._steering().bytes_per_second, time.monotonic()):
            await asyncio.sleep(min(nap, LONGEST_NAP))
            if not self._goes_on():
                return False
        await self._ledger.look()
        bytes_per_day = self._steering().bytes_per_day
        if not self._ledger.reserve(size, bytes_per_day):
            if size <= bytes_per_day:
                self._skipped += 1
            elif self._oversized is None:
                self._oversized = waiting
            return False
        self._pace.take(size)
        return True

    async def _put(self, sample: Sample, image: bytes) -> None:
        """Raises Offline, Refused."""
        on_the_line = True
        began = time.perf_counter()
        try:
            async with self._cloud.store() as cloud:
                if not await cloud.put(sample.blob, image, sample.metadata(), sample.content_type):
                    await check_ours(cloud, sample, image)
        except Offline as error:
            on_the_line = error.kind not in BEFORE_THE_BODY
            raise
        finally:
            self._ledger.sent(sample.size, on_the_line=on_the_line)
        self.observe(time.perf_counter() - began)

    async def _refused(self, waiting: Waiting, why: str) -> None:
        next_try = self._patience.next_try(waiting.tries + 1, datetime.now(UTC))
        if next_try is None:
            log.error("set aside after %d tries: %s: %s", waiting.tries + 1, waiting.sample.blob, why)
        await asyncio.to_thread(self._outbox.refused, waiting.sample.id, why, next_try)

    async def _image(self, sample: Sample) -> bytes:
        """The bytes the camera posted, from the local store or else the spool. Raises NotFound, LocalTrouble."""
        try:
            image = await self._local.get(sample.blob)
            self._unreadable.was_read(sample.id)
            if image_id(image) == sample.id:
                return image
            trouble: Exception = NotFound("missing_blob: the local blob is damaged and the spool has no copy")
        except NotFound:
            trouble = NotFound("missing_blob: neither the local store nor the spool holds the image")
        except (Offline, Denied) as error:
            trouble = LocalTrouble(f"the local store cannot be read: {error}", kind="local_store")
            self._unreadable.failed(sample.id, str(error))
        try:
            _, image = await asyncio.to_thread(self._spool.take, sample.id)
        except (NotFound, BadRecord, OSError):
            raise trouble from None
        return image

    def _say(self, error: Offline | Denied | None) -> None:
        """The cloud's state, told once for each change."""
        if isinstance(error, LocalTrouble):
            return
        same = str(error) == str(self._error) and self.online == (error is None)
        self.online, self._error = error is None, error
        if same:
            return
        self._since = datetime.now(UTC)
        if error is None:
            log.info("online, uploading")
        elif isinstance(error, Denied):
            log.error("not uploading, keeping samples here: %s", error)
        else:
            log.warning("offline, keeping samples here: %s", error)
