"""When a copy may go: the spool's once the image is safe elsewhere, the local blob's some time after the upload.

Or at once, where the disk would fill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, NotFound, Offline, Refused
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from sampler.index.outbox import SET_ASIDE, Outbox
from sampler.keeping.ballast import NAME, Ballast
from sampler.keeping.evict import Evictor
from sampler.keeping.stuck import Stuck, ask
from sampler.sample import Sample
from sampler.telling.steering import MOST_MINUTES, Steering
from sampler.telling.trouble import LOCAL_STORE, MISSING_BLOB, Troubles
from sampler.uploading.unreadable import Unreadable

# the blob module and Azurite write to disk some seconds after they acknowledged; what is there later is there to stay
PROVEN_AFTER = timedelta(seconds=15)
PAGE = 100
AT_ONCE = 4
MOST_MISSING = 1000


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
        unreadable: Unreadable | None = None,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._local = local
        self._steering = steering
        self._proven_after = proven_after
        self._troubles = troubles or Troubles()
        self._unreadable = unreadable or Unreadable(outbox, self._troubles)
        self._missing: dict[str, str] = {}
        self._stuck = Stuck(local, self._troubles)
        self._evictor = Evictor(
            outbox,
            spool,
            steering=steering,
            troubles=self._troubles,
            stuck=self._stuck,
            ballast=Ballast(state / NAME) if state else None,
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
                await self._unreadable.look()
                await self._look_for_the_missing()
            except (Offline, Refused, OSError) as error:
                trouble = f"local copies cannot be looked after: {error}"
            self._troubles.say(LOCAL_STORE, trouble)
            await asyncio.sleep(seconds)

    async def make_room(self) -> None:
        """Evict what the quota and the free-space floor ask for. Raises Offline, Refused, OSError."""
        await self._evictor.make_room()

    async def prove(self) -> None:
        """Look again for what was put some time ago; what the local store lost is put there once more.

        What it cannot read is looked at later and holds up no other. Raises Offline, Refused: the store is at fault.
        """
        before = datetime.now(UTC) - self._proven_after
        while samples := await asyncio.to_thread(self._outbox.unproven, before, PAGE):
            for first in range(0, len(samples), AT_ONCE):
                await self._prove(samples[first : first + AT_ONCE])

    async def free(self) -> None:
        """Delete the local blobs of samples that were uploaded long enough ago.

        What cannot be deleted is tried again the next time. Raises Offline, Refused: the store is at fault.
        """
        tried: set[str] = set()
        before = datetime.now(UTC) - timedelta(minutes=min(self._steering().uploaded_minutes, MOST_MINUTES))
        while samples := await asyncio.to_thread(self._expired, before, tried):
            gone = await self._stuck.delete(samples)
            await asyncio.to_thread(self._outbox.freed, [sample.id for sample in gone])
            tried |= {sample.id for sample in samples}

    def _expired(self, before: datetime, tried: Collection[str]) -> list[Sample]:
        """A page of those that were not tried yet; those that were and are still here are the stuck ones."""
        found = self._outbox.expired(before, PAGE + len(self._stuck.ids))
        return [sample for sample in found if sample.id not in tried][:PAGE]

    async def _prove(self, samples: list[Sample]) -> None:
        """Raises Offline, Refused where the local store is at fault and not some of its blobs."""
        found = await asyncio.gather(*(self._is_there(sample) for sample in samples))
        there = {sample.id for sample, is_there in zip(samples, found, strict=True) if is_there is True}
        await asyncio.to_thread(self._outbox.proven, there)
        for id_ in there:
            self._unreadable.was_read(id_)
        errors = [error for error in found if not isinstance(error, bool)]
        if errors and len(errors) == len(samples):
            await ask(self._local)
        for sample, is_there in zip(samples, found, strict=True):
            if is_there is True:
                continue
            try:
                if is_there is not False:
                    raise is_there
                await self._put_again(sample)
            except (Offline, Refused, OSError) as error:
                self._unreadable.failed(sample.id, str(error))
                await asyncio.to_thread(self._outbox.put_again, sample.id, datetime.now(UTC))  # last in line

    async def _is_there(self, sample: Sample) -> bool | Offline | Refused:
        """Does the local store give it back byte for byte? Or why that cannot be told."""
        try:
            return image_id(await self._local.get(sample.blob)) == sample.id
        except NotFound:
            return False
        except (Offline, Refused) as error:
            return error

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
        await asyncio.to_thread(self._outbox.refused, sample.id, "missing_blob", None)
        await asyncio.to_thread(self._outbox.proven, [sample.id])
        self._troubles.count(MISSING_BLOB, bool(self._missing))  # the first is counted as the trouble's beginning
        if len(self._missing) < MOST_MISSING:
            self._missing[sample.id] = f"{sample.blob} ({error})"
        self._say_missing()

    async def _look_for_the_missing(self) -> None:
        """What was lost is a trouble for as long as it is set aside: not where it was given up, or is tried again."""
        if self._missing:
            found = await asyncio.to_thread(self._outbox.states_of, list(self._missing))
            aside = {id_ for id_, state, _ in found if state == SET_ASIDE}
            self._missing = {id_: words for id_, words in self._missing.items() if id_ in aside}
            self._say_missing()

    def _say_missing(self) -> None:
        words = next(iter(self._missing.values()), "")
        self._troubles.say(
            MISSING_BLOB,
            words
            and f"the local store lost {len(self._missing)} images that the spool cannot replace, as {words}; "
            "they are set aside",
        )
