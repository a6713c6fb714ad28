"""From the spool into the local store and the index. The one place that takes images out of the spool."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, Denied, NotFound, Offline, Refused
from ripeloop.prediction import Flagged, format_time
from ripeloop.spool import SUFFIX, Spool
from sampler.keep import DAMAGED, REFUSED, reason_to_drop
from sampler.outbox import Known, Outbox
from sampler.sample import Sample
from sampler.steering import Steering

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
# a flagging can be told again only while its image is in the spool, which a power cut may bring back
FOLD_AFTER = timedelta(days=1)


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
    ) -> None:
        self._spool = spool
        self._outbox = outbox
        self._local = local
        self._device = device
        self._steering = steering
        self._kept = kept
        self._wake = asyncio.Event()
        self._trouble = ""
        self._strangers: set[str] = set()

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
        trouble = ""
        try:
            ids = await asyncio.to_thread(self._spool.ids)
            self._say_strangers(await asyncio.to_thread(self._spool.strangers))
            known = await asyncio.to_thread(self._outbox.known, ids)
            for id_ in ids:
                if id_ not in known or known[id_].safe:
                    trouble = await self._handle(id_, known.get(id_)) or trouble
            await asyncio.to_thread(self._outbox.fold, datetime.now(UTC) - FOLD_AFTER, ids)
        except (Offline, Denied, OSError) as error:
            trouble = str(error)
        self._say(trouble)

    async def _handle(self, id_: str, known: Known | None) -> str | None:
        """Keep, drop or free one image; what hinders just this one, if anything. Raises Offline, Denied."""
        try:
            flagged, image = await asyncio.to_thread(self._spool.take, id_)
        except NotFound:
            return None
        except (BadRecord, PermissionError) as error:
            return await asyncio.to_thread(self._set_aside, id_, DAMAGED, error)
        except OSError as error:
            return f"the spool file of {id_} cannot be read: {error}"
        if known is not None and known.captured_at == flagged.captured_at:
            await asyncio.to_thread(self._spool.remove, id_)
        elif not await asyncio.to_thread(self._dropped, flagged, known is not None):
            return await self._keep(flagged, image)
        return None

    def _dropped(self, flagged: Flagged, known: bool) -> bool:
        """True where this image is not kept: it is counted, and has left the spool."""
        now, captured_at = datetime.now(UTC), format_time(flagged.captured_at)
        if not self._outbox.was_dropped(flagged.id, captured_at):
            reason = reason_to_drop(
                known=known,
                kept_last_hour=self._outbox.kept_between(now - HOUR, now),
                max_per_hour=self._steering().max_per_hour,
            )
            if reason is None:
                return False
            self._outbox.drop(flagged.id, captured_at, reason, now)
        self._spool.remove(flagged.id)
        return True

    async def _keep(self, flagged: Flagged, image: bytes) -> str | None:
        sample = Sample.of(flagged, image, device=self._device, now=datetime.now(UTC))
        try:
            await self._local.put(sample.blob, image, sample.metadata(), sample.content_type)
        except Denied:
            raise
        except Refused as error:
            return await asyncio.to_thread(self._set_aside, flagged.id, REFUSED, error)
        await asyncio.to_thread(self._outbox.add, sample)
        self._kept()
        return None

    def _set_aside(self, id_: str, reason: str, error: Exception) -> str | None:
        """Out of the way of the rest and counted; the file's own time tells one such file from a later one."""
        try:
            changed = (self._spool.folder / f"{id_}{SUFFIX}").stat().st_mtime_ns  # any number: no date is made of it
            self._outbox.drop(id_, f"{changed} ns", reason, datetime.now(UTC))
            log.warning("set aside as %s: %s", self._spool.set_aside(id_), error)
        except FileNotFoundError:
            return None
        except OSError as trouble:
            return f"{id_} cannot be set aside ({trouble}), and it is not to be kept: {error}"
        return None

    def _say_strangers(self, names: set[str]) -> None:
        if new := sorted(names - self._strangers):
            some = ", ".join(map(ascii, new[:3]))
            log.warning("%d names in the spool are no images of the classifier and stay there, as %s", len(new), some)
        self._strangers = names

    def _say(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log.warning("images stay in the spool: %s", trouble)
        else:
            log.info("images leave the spool again")
