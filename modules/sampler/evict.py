"""The disk never fills: what is least useful goes first, and is counted.

In this order: what the cloud has already, then the sure before the unsure and the alike before the unlike, audit
samples last. A row is marked before its copies go, so a kill in between leaves garbage that is found again, never a
promise without an image.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ripeloop import disk
from ripeloop.blobs import Blobs
from ripeloop.errors import Offline
from ripeloop.spool import Spool
from sampler.outbox import Outbox
from sampler.sample import Sample
from sampler.steering import Steering
from sampler.trouble import DISK_FULL, Troubles

QUOTA = "quota"
DISK = "disk"

PAGE = 100
SLACK = 0.02  # of the quota: once full, not every image shall begin an eviction
BLOCK = 4096
BALLAST_BYTES = 4 * 1024 * 1024  # what marking a page of rows may take at most, many times over

FOREVER = datetime(9000, 1, 1, tzinfo=UTC)


def bytes_to_free(*, used: int, free: int, max_bytes: int, free_bytes: int) -> tuple[int, str]:
    """How many bytes have to go, and for which reason; `max_bytes` 0 is no quota. 0 bytes where there is room."""
    if free < free_bytes:
        return free_bytes - free, DISK
    if max_bytes and used > max_bytes:
        return used - int(max_bytes * (1 - SLACK)), QUOTA
    return 0, ""


class Ballast:
    """Some room of our own, for a full disk: given back, the index can be told what is evicted."""

    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size = size

    def fill(self) -> None:
        """Take the room, where the disk has it."""
        try:
            if not self._path.exists():
                disk.write_whole(self._path, os.urandom(self._size))  # zeros may take no room
        except OSError:
            self.release()

    def release(self) -> None:
        """Give the room back."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # a read-only disk: nothing can be given back


class Evictor:
    """Makes room in `spool` and `local` as the steering asks for. `free` tells the bytes free on their disk."""

    def __init__(
        self,
        outbox: Outbox,
        spool: Spool,
        local: Blobs,
        *,
        steering: Callable[[], Steering],
        troubles: Troubles,
        ballast: Ballast | None = None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._local = local
        self._steering = steering
        self._troubles = troubles
        self._ballast = ballast
        self._free = free or (lambda: free_bytes(spool.folder))

    async def make_room(self) -> None:
        """Evict until there is room, or nothing is left to evict. Raises Offline, Refused, OSError."""
        await self._sweep()
        while (wanted := await asyncio.to_thread(self._wanted))[0]:
            if not await self._give_up(*wanted):
                self._troubles.say(DISK_FULL, f"{wanted[0]} bytes too few are free, and nothing is left to evict")
                return
        self._troubles.say(DISK_FULL, "")
        if self._ballast is not None:
            await asyncio.to_thread(self._ballast.fill)

    def _wanted(self) -> tuple[int, str]:
        steering = self._steering()
        used = self._outbox.counters().local_bytes + self._spool.usage()[0]
        return bytes_to_free(used=used, free=self._free(), max_bytes=steering.max_bytes, free_bytes=steering.free_bytes)

    async def _give_up(self, size: int, reason: str) -> int:
        """Let go of about `size` bytes at most a page at once; how many samples went."""
        if uploaded := _enough(
            await asyncio.to_thread(self._outbox.expired, FOREVER, PAGE), size, blocks=reason == DISK
        ):
            await self._delete(uploaded)  # the cloud has them: no row has to change first
            return len(uploaded)
        evicted = _enough(await asyncio.to_thread(self._outbox.evictable, PAGE), size, blocks=reason == DISK)
        if evicted:
            await self._mark([sample.id for sample in evicted], reason)
            await self._delete(evicted)
        return len(evicted)

    async def _mark(self, ids: Sequence[str], reason: str) -> None:
        try:
            await asyncio.to_thread(self._outbox.evict, ids, reason)
        except Offline:
            if self._ballast is None:
                raise
            await asyncio.to_thread(self._ballast.release)
            await asyncio.to_thread(self._outbox.evict, ids, reason)

    async def _sweep(self) -> None:
        """Delete what was evicted before, by a process that was killed or for a better one."""
        while left := await asyncio.to_thread(self._outbox.evicted_here, PAGE):
            await self._delete(left)

    async def _delete(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            await self._local.delete(sample.blob)
            await asyncio.to_thread(self._spool.remove, sample.id)
        await asyncio.to_thread(self._outbox.freed, [sample.id for sample in samples])


def free_bytes(folder: Path) -> int:
    """The bytes this user may still write to the disk of `folder`."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _enough(samples: Sequence[Sample], size: int, *, blocks: bool) -> list[Sample]:
    """The first of these that make up `size` bytes; of whole `blocks` of a disk, on which the record has one, too."""
    chosen: list[Sample] = []
    for sample in samples:
        if size <= 0:
            break
        chosen.append(sample)
        size -= (sample.size // BLOCK + 2) * BLOCK if blocks else sample.size
    return chosen
