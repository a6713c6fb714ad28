"""An index that is new learns what the local store holds: the old one may have been damaged or deleted.

The names and the metadata of the blobs hold the records. What was uploaded before is uploaded again, under the same
name, which changes nothing in the cloud; so nothing that was kept is lost with the index.

An index that is not new may have lost its last changes all the same, where a disk promised more than it held; so it is
compared with the local store at every start, beside the work.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord, Offline, Refused
from sampler.outbox import Outbox
from sampler.sample import Sample

log = logging.getLogger(__name__)

PAGE = 100
AGAIN_SECONDS = 60.0
ROW_SECONDS = 2.0  # a blob comes before its row: one whose image is just being kept is not forgotten


async def rebuild(outbox: Outbox, local: Blobs) -> None:
    """Return once the index knows every blob of `local`. Raises Offline, Refused."""
    if await asyncio.to_thread(outbox.is_complete):
        return
    found = await _learn(outbox, local)
    await asyncio.to_thread(outbox.completed)
    if found:
        log.warning("the index is new: it learned %d images from the local store, to be uploaded", found)


async def look_again(outbox: Outbox, local: Blobs) -> None:
    """Return once the index knows what it may have forgotten of `local`; a new one is left to `rebuild`."""
    while True:
        try:
            if not await asyncio.to_thread(outbox.is_complete):
                return
            found = await _remember(outbox, local)
        except (Offline, Refused, OSError):  # who keeps the images says so
            await asyncio.sleep(AGAIN_SECONDS)
        else:
            break
    if found:
        log.warning("the index did not know %d images of the local store; they are uploaded, too", found)


async def _remember(outbox: Outbox, local: Blobs) -> int:
    found = 0
    page: list[Sample] = []
    async for blob in local.list():
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


async def _learn(outbox: Outbox, local: Blobs) -> int:
    found, strangers = 0, 0
    page: list[Sample] = []
    async for blob in local.list():
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
