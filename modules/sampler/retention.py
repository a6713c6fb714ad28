"""When a copy may go: the spool's once the image is safe elsewhere, the local blob's some time after the upload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, NotFound, Offline, Refused
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from sampler.outbox import Outbox
from sampler.sample import Sample
from sampler.steering import MOST_MINUTES, Steering

log = logging.getLogger(__name__)

# the blob module and Azurite write to disk some seconds after they acknowledged; what is there later is there to stay
PROVEN_AFTER = timedelta(seconds=15)
PAGE = 100


class Retention:
    """Looks after the copies. It never removes from the spool itself: it tells the outbox what is safe."""

    def __init__(
        self,
        outbox: Outbox,
        spool: Spool,
        local: Blobs,
        *,
        steering: Callable[[], Steering],
        proven_after: timedelta = PROVEN_AFTER,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._local = local
        self._steering = steering
        self._proven_after = proven_after
        self._trouble = ""

    async def run(self, seconds: float) -> None:
        """Look every `seconds`, for ever."""
        while True:
            trouble = ""
            try:
                await asyncio.to_thread(self._outbox.leave_the_future, datetime.now(UTC))
                await self.prove()
                await self.free()
            except (Offline, Refused, OSError) as error:
                trouble = str(error)
            if trouble and trouble != self._trouble:
                log.warning("local copies cannot be looked after: %s", trouble)
            self._trouble = trouble
            await asyncio.sleep(seconds)

    async def prove(self) -> None:
        """Look again for what was put some time ago; what the local store lost is put there once more."""
        before = datetime.now(UTC) - self._proven_after
        while samples := await asyncio.to_thread(self._outbox.unproven, before, PAGE):
            there = [sample.id for sample in samples if await self._is_there(sample)]
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

    async def _is_there(self, sample: Sample) -> bool:
        """True where the local store gives back the very bytes."""
        try:
            return image_id(await self._local.get(sample.blob)) == sample.id
        except NotFound:
            return False

    async def _put_again(self, sample: Sample) -> None:
        now = datetime.now(UTC)
        try:
            _, image = await asyncio.to_thread(self._spool.take, sample.id)
        except (NotFound, BadRecord) as error:
            log.error("the local store lost %s and the spool cannot replace it: %s", sample.blob, error)
            await asyncio.to_thread(self._outbox.refused, sample.id, "missing_blob", None)
            await asyncio.to_thread(self._outbox.proven, [sample.id])
            return
        await self._local.delete(sample.blob)  # where it is there but damaged
        await self._local.put(sample.blob, image, sample.metadata(), sample.content_type)
        await asyncio.to_thread(self._outbox.put_again, sample.id, now)
