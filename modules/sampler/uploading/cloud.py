"""The store that uploads go to. A credential may replace it while uploads run; those that began end on the old one."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

from ripeloop.blobs import Blobs
from ripeloop.errors import Denied, Refused
from sampler.sample import Sample

Opening = Callable[[], AbstractAsyncContextManager[Blobs]]


class Cloud:
    """At most one open store. `async with cloud.store() as blobs` holds it open for as long as it is used."""

    def __init__(self, fixed: Blobs | None = None) -> None:
        self._now = _Open(fixed) if fixed is not None else None

    @property
    def is_set(self) -> bool:
        """There is a store to upload to."""
        return self._now is not None

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Blobs]:
        """The store of now, open until the block ends. Only where `is_set`."""
        now = self._now
        assert now is not None  # noqa: S101 - the caller asked `is_set` in the same step of the loop
        now.users += 1
        try:
            yield now.blobs
        finally:
            now.users -= 1
            await now.close_if_left()

    async def become(self, opening: Opening) -> None:
        """Use the store that `opening` opens from now on, and close the one before after its last user."""
        stack = AsyncExitStack()
        blobs = await stack.enter_async_context(opening())
        before, self._now = self._now, _Open(blobs, stack)
        if before is not None:
            before.left = True
            await before.close_if_left()

    async def close(self) -> None:
        """Close the store."""
        now, self._now = self._now, None
        if now is not None:
            now.left = True
            await now.close_if_left()


class _Open:
    def __init__(self, blobs: Blobs, stack: AsyncExitStack | None = None) -> None:
        self.blobs = blobs
        self.users = 0
        self.left = False
        self._stack = stack

    async def close_if_left(self) -> None:
        if self.left and self.users == 0 and self._stack is not None:
            stack, self._stack = self._stack, None
            await stack.aclose()


async def check_ours(cloud: Blobs, sample: Sample, image: bytes) -> None:
    """The name was there before: is it this image? Raises Refused where it is another, Offline.

    A credential that may not list cannot tell, and the name is the digest of the image: then it is taken to be ours.
    """
    try:
        found = [blob async for blob in cloud.list(sample.blob) if blob.name == sample.blob]
    except Denied:
        return
    if not found:
        raise Refused("the cloud says that it has the image, and does not list it", kind="not_listed")
    digest = hashlib.md5(image, usedforsecurity=False).digest()
    if found[0].size != len(image) or found[0].md5 not in (b"", digest):
        raise Refused("the cloud holds other bytes under this image's name: delete them there", kind="other_bytes")
