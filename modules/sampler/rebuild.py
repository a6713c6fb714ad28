"""An index that is new learns what the local store holds: the old one may have been damaged or deleted.

The names and the metadata of the blobs hold the records. What was uploaded before is uploaded again, under the same
name, which changes nothing in the cloud; so nothing that was kept is lost with the index.
"""

from __future__ import annotations

import asyncio
import logging

from ripeloop.blobs import Blobs
from ripeloop.errors import BadRecord
from sampler.outbox import Outbox
from sampler.sample import Sample

log = logging.getLogger(__name__)

PAGE = 100


async def rebuild(outbox: Outbox, local: Blobs) -> None:
    """Return once the index knows every blob of `local`. Raises Offline, Refused."""
    if await asyncio.to_thread(outbox.is_complete):
        return
    found = await _learn(outbox, local)
    await asyncio.to_thread(outbox.completed)
    if found:
        log.warning("the index is new: it learned %d images from the local store, to be uploaded", found)


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
