"""From the spool into the local store and the index. The one place that takes images out of the spool.

Images are taken a batch at a time: their files are made durable side by side, and their rows in one transaction.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, Denied, NotFound, Offline, Refused
from ripeloop.prediction import Flagged
from ripeloop.spool import SUFFIX, Spool
from sampler.index.outbox import Kept, Known, Outbox
from sampler.index.rebuild import rebuild
from sampler.keeping.judge import Judge
from sampler.keeping.keep import DAMAGED, REFUSED
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampler.telling.trouble import SPOOL, SPOOL_FILE, Troubles

log = logging.getLogger(__name__)

# a flagging can be told again only while its image is in the spool, which a power cut may bring back
FOLD_AFTER = timedelta(days=1)
BATCH_IMAGES = 64
BATCH_BYTES = 8 * 1024 * 1024
AT_ONCE = 8

Taken = tuple[Flagged, bytes]


class Inbox:
    """Keeps or drops every image of `spool`, and frees those that are safe elsewhere.

    The order is the promise: the blob before the row, the row before the image leaves the spool. So whatever is cut
    off half way is done again from the spool, under the same names.
    """

    def __init__(
        self,
        spool: Spool,
        outbox: Outbox,
        local: Blobs,
        *,
        device: str,
        steering: Callable[[], Steering],
        kept: Callable[[], None],
        troubles: Troubles | None = None,
    ) -> None:
        self._spool = spool
        self._outbox = outbox
        self._local = local
        self._kept = kept
        self._judge = Judge(outbox, device=device, rules=lambda: steering().rules)
        self._troubles = troubles or Troubles()
        self._wake = asyncio.Event()
        self._strangers: set[str] = set()
        self._doubtful: set[str] | None = None  # ids whose blob may be here without a row: who put it was killed

    def wake(self) -> None:
        """Look into the spool now."""
        self._wake.set()

    async def run(self, scan_seconds: float) -> None:
        """Empty the spool for ever: when woken, and every `scan_seconds` by itself, for a wake-up may be lost."""
        while True:
            self._wake.clear()
            await self.empty()
            with suppress(TimeoutError):
                async with asyncio.timeout(scan_seconds):
                    await self._wake.wait()

    async def empty(self) -> None:
        """Look at every image that waits in the spool; what cannot be kept now stays there."""
        try:
            await rebuild(
                self._outbox, self._local, self._troubles
            )  # first, or an image it knows would be kept a second time
            some = await self._empty()
        except (Offline, Refused, OSError) as error:
            self._troubles.say(SPOOL, f"images stay in the spool: {error}")
        else:
            self._troubles.say(SPOOL, "")
            self._troubles.say(SPOOL_FILE, some and f"some images stay in the spool: {some}")

    async def _empty(self) -> str:
        ids = await asyncio.to_thread(self._spool.ids)
        self._say_strangers(await asyncio.to_thread(self._spool.strangers))
        known = await asyncio.to_thread(self._outbox.known, ids)
        if self._doubtful is None:
            self._doubtful = set(ids)
        again, trouble = await asyncio.to_thread(self._free, {id_: one for id_, one in known.items() if one.safe})
        new = [id_ for id_ in ids if id_ not in known or id_ in again]
        while new:
            taken, new, odd = await asyncio.to_thread(self._take, new)
            trouble = await self._handle(taken, known) or odd or trouble
        await asyncio.to_thread(self._outbox.fold, datetime.now(UTC) - FOLD_AFTER, ids)
        return trouble

    def _free(self, safe: dict[str, Known]) -> tuple[set[str], str]:
        """Remove from the spool what is safe elsewhere; the ids that were flagged again instead, and what hinders."""
        again: set[str] = set()
        trouble = ""
        for id_, known in safe.items():
            try:
                if self._spool.record(id_).captured_at != known.captured_at:
                    again.add(id_)
                    continue
            except NotFound:
                continue
            except (BadRecord, OSError):
                again.add(id_)  # whoever reads it whole says what is wrong
                continue
            try:
                self._spool.remove(id_)
            except OSError as error:
                trouble = f"the spool file of {id_} cannot be removed: {error}"
        return again, trouble

    def _take(self, ids: list[str]) -> tuple[list[Taken], list[str], str]:
        """The first images of `ids`, the ids that are left, and what hinders just some of them."""
        taken: list[Taken] = []
        size, trouble = 0, ""
        for n, id_ in enumerate(ids):
            if len(taken) == BATCH_IMAGES or size > BATCH_BYTES:
                return taken, ids[n:], trouble
            try:
                taken.append(self._spool.take(id_))
                size += len(taken[-1][1]) + len(taken[-1][0].to_json())  # a record may be larger than its image
            except NotFound:
                continue
            except (BadRecord, PermissionError) as error:
                trouble = self._set_aside(id_, DAMAGED, error) or trouble
            except OSError as error:
                trouble = f"the spool file of {id_} cannot be read: {error}"
        return taken, [], trouble

    async def _handle(self, taken: Sequence[Taken], known: Mapping[str, Known]) -> str:
        """Keep or drop these; what hinders just some of them, if anything. Raises Offline, Denied."""
        here = {id_ for id_, one in known.items() if not one.lost}
        kept, dropped = await asyncio.to_thread(self._judge.judge, taken, here, datetime.now(UTC))
        images = {flagged.id: image for flagged, image in taken}
        await self._delete_orphans(taken, {one.id for one in dropped} - known.keys())
        await self._delete_lost([known[one.sample.id] for one in kept if one.sample.id in known])
        doubtful = self._doubtful = self._doubtful or set()
        doubtful.update(one.sample.id for one in kept)
        gate = asyncio.Semaphore(AT_ONCE)
        errors = await asyncio.gather(*(self._put(one.sample, images[one.sample.id], gate) for one in kept))
        stored = [one for one, error in zip(kept, errors, strict=True) if error is None]
        gone = {one.sample.id for one, error in zip(kept, errors, strict=True) if error}
        try:
            gone.update(await asyncio.to_thread(self._outbox.settle, stored, dropped))
        except Offline:
            gone.update(one.sample.id for one in kept)
            raise
        finally:
            self._judge.settled(stored, gone)
        doubtful.difference_update(one.sample.id for one in stored)
        await asyncio.to_thread(self._remove, images.keys() - {one.sample.id for one in kept})
        if stored:
            self._kept()
        return await asyncio.to_thread(self._explain, kept, errors)

    async def _delete_orphans(self, taken: Sequence[Taken], dropped: Collection[str]) -> None:
        """Delete the blobs of images that were put by one who was killed before their rows, and are now dropped."""
        doubtful = (self._doubtful or set()) & set(dropped)
        for flagged, image in taken:
            if flagged.id in doubtful:
                await self._local.delete(self._judge.sample(flagged, image).blob)

    async def _delete_lost(self, lost: Sequence[Known]) -> None:
        """Make sure that nothing is left of what is kept again: it may be there but damaged, and under another name."""
        for one in lost:
            await self._local.delete(one.blob)

    async def _put(self, sample: Sample, image: bytes, gate: asyncio.Semaphore) -> Offline | Refused | None:
        async with gate:
            try:
                await self._local.put(sample.blob, image, sample.metadata(), sample.content_type)
            except (Offline, Refused) as error:
                return error
            return None

    def _explain(self, kept: Sequence[Kept], errors: Sequence[Offline | Refused | None]) -> str:
        """Set aside what the store refuses; raises what it says of all."""
        trouble = ""
        for one, error in zip(kept, errors, strict=True):
            if isinstance(error, Offline | Denied):
                raise error
            if error is not None:
                trouble = self._set_aside(one.sample.id, REFUSED, error) or trouble
        return trouble

    def _remove(self, ids: Collection[str]) -> None:
        for id_ in ids:
            self._spool.remove(id_)

    def _set_aside(self, id_: str, reason: str, error: Exception) -> str:
        """Out of the way of the rest and counted; the file's own time tells one such file from a later one."""
        try:
            changed = (self._spool.folder / f"{id_}{SUFFIX}").stat().st_mtime_ns  # any number: no date is made of it
            self._outbox.drop(id_, f"{changed} ns", reason, datetime.now(UTC))
            log.warning("set aside as %s: %s", self._spool.set_aside(id_), error)
        except FileNotFoundError:
            return ""
        except OSError as trouble:
            return f"{id_} cannot be set aside ({trouble}), and it is not to be kept: {error}"
        return ""

    def _say_strangers(self, names: set[str]) -> None:
        if new := sorted(names - self._strangers):
            some = ", ".join(map(ascii, new[:3]))
            log.warning("%d names in the spool are no images of the classifier and stay there, as %s", len(new), some)
        self._strangers = names
