"""An index that is new learns what the local store holds: the old one may have been damaged or deleted.

The names and the metadata of the blobs hold the records. What was uploaded before is uploaded again, under the same
name, which changes nothing in the cloud; so nothing that was kept is lost with the index.

What the local store cannot tell of holds up nothing else: it is said, and looked at again later.

An index that is not new may have lost its last changes all the same, where a disk promised more than it held; so it is
compared with the local store at every start, beside the work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress

from ripeloop.blobfolder import SOME_BLOBS
from ripeloop.blobs import Blob, Blobs
from ripeloop.errors import BadRecord, Offline, Refused
from sampler.index.outbox import Outbox
from sampler.sample import Sample
from sampler.telling.trouble import LOCAL_LIST, Troubles

log = logging.getLogger(__name__)

PAGE = 100
AGAIN_SECONDS = 60.0
LONGEST_AGAIN = 3600.0
ROW_SECONDS = 2.0  # a blob comes before its row: one whose image is just being kept is not forgotten


async def rebuild(outbox: Outbox, local: Blobs, troubles: Troubles | None = None) -> None:
    """Return once the index knows every blob that `local` can tell of. Raises Offline, Refused."""
    if await asyncio.to_thread(outbox.is_complete):
        return
    listing = _Listing(local)
    found = await _learn(outbox, listing)
    if listing.trouble is not None:
        if not listing.blobs:
            raise listing.trouble
        _say(troubles, listing)
    await asyncio.to_thread(outbox.completed)
    if found:
        log.warning("the index is new: it learned %d images from the local store, to be uploaded", found)


async def look_again(
    outbox: Outbox, local: Blobs, troubles: Troubles | None = None, *, seconds: float = AGAIN_SECONDS
) -> None:
    """Return once the index knows what it may have forgotten of `local`; a new one is left to `rebuild` first.

    The first pause is of so many `seconds`, each later one twice as long, an hour at most.
    """
    while True:
        listing = _Listing(local)
        try:
            if await asyncio.to_thread(outbox.is_complete):
                if found := await _remember(outbox, listing):
                    log.warning("the index did not know %d images of the local store; they are uploaded, too", found)
                _say(troubles, listing)
                if listing.trouble is None:
                    return
        except (Offline, Refused, OSError):  # who keeps the images says so
            pass
        await asyncio.sleep(seconds)
        seconds = min(2 * seconds, LONGEST_AGAIN)


class _Listing:
    """What `local` can tell of; `trouble`: it cannot tell of all. Raises Offline, Refused where it does not list."""

    def __init__(self, local: Blobs) -> None:
        self._local = local
        self.blobs = 0
        self.trouble: Refused | None = None

    async def __aiter__(self) -> AsyncIterator[Blob]:
        try:
            async for blob in self._local.list():
                self.blobs += 1
                yield blob
        except Refused as error:
            if error.kind != SOME_BLOBS:
                raise
            self.trouble = error


def _say(troubles: Troubles | None, listing: _Listing) -> None:
    if troubles is not None:
        why = listing.trouble
        troubles.say(LOCAL_LIST, f"of the local store {why} It is looked at again later" if why else "")


async def _remember(outbox: Outbox, listing: _Listing) -> int:
    found = 0
    page: list[Sample] = []
    async for blob in listing:
        with suppress(BadRecord):
            page.append(Sample.of_blob(blob))
        if len(page) == PAGE:
            found += await _add_unknown(outbox, page)
            page = []
    return found + await _add_unknown(outbox, page)


async def _add_unknown(outbox: Outbox, page: list[Sample]) -> int:
    unknown = await asyncio.to_thread(_unknown, outbox, page)
    if not unknown:
        return 0
    await asyncio.sleep(ROW_SECONDS)
    unknown = await asyncio.to_thread(_unknown, outbox, unknown)
    return await asyncio.to_thread(outbox.add_all, unknown) if unknown else 0


def _unknown(outbox: Outbox, page: list[Sample]) -> list[Sample]:
    known = outbox.known([sample.id for sample in page])
    return [sample for sample in page if sample.id not in known]


async def _learn(outbox: Outbox, listing: _Listing) -> int:
    found, strangers = 0, 0
    page: list[Sample] = []
    async for blob in listing:
        try:
            page.append(Sample.of_blob(blob))
        except BadRecord:
            strangers += 1
        if len(page) == PAGE:
            found += await asyncio.to_thread(outbox.add_all, page)
            page = []
    found += await asyncio.to_thread(outbox.add_all, page)
    if strangers:
        log.warning("%d blobs of the local store are not samples and stay where they are", strangers)
    return found
