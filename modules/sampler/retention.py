"""When a copy may go: the spool's once the image is safe elsewhere, the local blob's some time after the upload.

Or at once, where the disk would fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, NotFound, Offline, Refused
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from sampler.evict import Ballast, Evictor
from sampler.outbox import Outbox
from sampler.sample import Sample
from sampler.steering import MOST_MINUTES, Steering
from sampler.trouble import LOCAL_STORE, MISSING_BLOB, Troubles

# the blob module and Azurite write to disk some seconds after they acknowledged; what is there later is there to stay
PROVEN_AFTER = timedelta(seconds=15)
PAGE = 100
AT_ONCE = 4


class Retention:
    """Looks after the copies. From the spool it removes what is evicted; of the rest it tells the outbox what is safe.

    In the folder `state` it holds a little room of its own, for the day the disk is full.
    """

    def __init__(
        self,
        outbox: Outbox,
        spool: Spool,
        local: Blobs,
        *,
        steering: Callable[[], Steering],
        proven_after: timedelta = PROVEN_AFTER,
        state: Path | None = None,
        troubles: Troubles | None = None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._local = local
        self._steering = steering
        self._proven_after = proven_after
        self._troubles = troubles or Troubles()
        self._missing = 0
        self._evictor = Evictor(
            outbox,
            spool,
            local,
            steering=steering,
            troubles=self._troubles,
            ballast=Ballast(state / "ballast") if state else None,
            free=free,
        )

    async def run(self, seconds: float) -> None:
        """Look every `seconds`, for ever."""
        while True:
            trouble = ""
            try:
                await self._evictor.make_room()  # first: on a full disk nothing else can be written down
                await asyncio.to_thread(self._outbox.leave_the_future, datetime.now(UTC))
                await self.prove()
                await self.free()
            except (Offline, Refused, OSError) as error:
                trouble = f"local copies cannot be looked after: {error}"
            self._troubles.say(LOCAL_STORE, trouble)
            await asyncio.sleep(seconds)

    async def make_room(self) -> None:
        """Evict what the quota and the free-space floor ask for. Raises Offline, Refused, OSError."""
        await self._evictor.make_room()

    async def prove(self) -> None:
        """Look again for what was put some time ago; what the local store lost is put there once more."""
        before = datetime.now(UTC) - self._proven_after
        while samples := await asyncio.to_thread(self._outbox.unproven, before, PAGE):
            there = await self._there(samples)
            await asyncio.to_thread(self._outbox.proven, there)
            for sample in samples:
                if sample.id not in there:
                    await self._put_again(sample)

    async def free(self) -> None:
        """Delete the local blobs of samples that were uploaded long enough ago."""
        before = datetime.now(UTC) - timedelta(minutes=min(self._steering().uploaded_minutes, MOST_MINUTES))
        while samples := await asyncio.to_thread(self._outbox.expired, before, PAGE):
            for sample in samples:
                await self._local.delete(sample.blob)
            await asyncio.to_thread(self._outbox.freed, [sample.id for sample in samples])

    async def _there(self, samples: list[Sample]) -> set[str]:
        """The ids of those that the local store gives back byte for byte."""
        there: set[str] = set()
        for first in range(0, len(samples), AT_ONCE):
            some = samples[first : first + AT_ONCE]
            found = await asyncio.gather(*(self._is_there(sample) for sample in some))
            there.update(sample.id for sample, is_there in zip(some, found, strict=True) if is_there)
        return there

    async def _is_there(self, sample: Sample) -> bool:
        try:
            return image_id(await self._local.get(sample.blob)) == sample.id
        except NotFound:
            return False

    async def _put_again(self, sample: Sample) -> None:
        now = datetime.now(UTC)
        try:
            _, image = await asyncio.to_thread(self._spool.take, sample.id)
        except (NotFound, BadRecord) as error:
            await self._miss(sample, error)
            return
        await self._local.delete(sample.blob)  # where it is there but damaged
        await self._local.put(sample.blob, image, sample.metadata(), sample.content_type)
        await asyncio.to_thread(self._outbox.put_again, sample.id, now)

    async def _miss(self, sample: Sample, error: Exception) -> None:
        self._missing += 1
        self._troubles.count(MISSING_BLOB, self._missing > 1)  # the first is counted as the trouble's beginning
        self._troubles.say(
            MISSING_BLOB,
            f"the local store lost {self._missing} images that the spool cannot replace, as {sample.blob} ({error}); "
            "they are set aside",
        )
        await asyncio.to_thread(self._outbox.refused, sample.id, "missing_blob", None)
        await asyncio.to_thread(self._outbox.proven, [sample.id])
