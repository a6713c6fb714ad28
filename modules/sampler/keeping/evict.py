"""The disk never fills: what is least useful goes first, and is counted.

A disk that gets no emptier by it gets little more: the store may lie on another one, or give its room back much later.
In this order: what the cloud has already, then the sure before the unsure and the alike before the unlike, audit
samples last. A row is marked before its copies go, so a kill in between leaves garbage that is found again, never a
promise without an image.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ripeloop.errors import BadRecord, NotFound, Offline
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox
from sampler.keeping.ballast import Ballast
from sampler.keeping.stuck import Stuck
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampler.telling.trouble import DISK_FULL, Troubles

QUOTA = "quota"
DISK = "disk"

PAGE = 100
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 24 * 3600.0  # seconds
LATE = 15 * 60.0  # seconds after which room that was given up has come free, or never will: Azurite takes ten minutes
SLACK = 0.02  # of the quota: once full, not every image shall begin an eviction
BLOCK = 4096

FOREVER = datetime(9000, 1, 1, tzinfo=UTC)


def bytes_to_free(*, used: int, free: int, max_bytes: int, free_bytes: int) -> tuple[int, str]:
    """How many bytes have to go, and for which reason; `max_bytes` 0 is no quota. 0 bytes where there is room."""
    if free < free_bytes:
        return free_bytes - free, DISK
    if max_bytes and used > max_bytes:
        return used - int(max_bytes * (1 - SLACK)), QUOTA
    return 0, ""


class Evictor:
    """Makes room in `spool` and `local` as the steering asks for. `free` tells the bytes free on their disk."""

    def __init__(
        self,
        outbox: Outbox,
        spool: Spool,
        *,
        steering: Callable[[], Steering],
        troubles: Troubles,
        stuck: Stuck,
        ballast: Ballast | None = None,
        free: Callable[[], int] | None = None,
    ) -> None:
        self._outbox = outbox
        self._spool = spool
        self._stuck = stuck
        self._steering = steering
        self._troubles = troubles
        self._ballast = ballast
        self._free = free or (lambda: free_bytes(spool.folder))
        self._pause = FIRST_PAUSE
        self._not_before = self._owed_until = 0.0
        self._owed = 0

    async def make_room(self) -> None:
        """Evict until there is room, nothing is left, or it shows no effect. Raises Offline, Refused, OSError.

        Without an effect the next try waits: a minute, then twice as long each time, a day at most.
        What was given up meanwhile is credited.
        """
        await self._sweep()
        while (wanted := await asyncio.to_thread(self._wanted))[0]:
            size, reason = wanted
            if reason == DISK and (size := self._still_wanted(size)) <= 0:
                return
            given, freed = await self._give_up(size, reason)
            if not given:
                self._troubles.say(DISK_FULL, f"{size} bytes too few are free, and nothing is left to evict")
                return
            if reason == DISK and freed < given / 2:  # others write to this disk, too
                self._wait(size, given)
                return
            self._owed = 0
        self._pause, self._not_before, self._owed = FIRST_PAUSE, 0.0, 0
        self._troubles.say(DISK_FULL, "")
        if self._ballast is not None:
            await asyncio.to_thread(self._ballast.fill)

    def _wanted(self) -> tuple[int, str]:
        steering = self._steering()
        used = self._outbox.counters().local_bytes + self._spool.usage()[0]
        if steering.max_bytes and used > steering.max_bytes:
            used -= self._outbox.bytes_here(self._spool.ids())  # the second copies go by themselves, once proven
        return bytes_to_free(used=used, free=self._free(), max_bytes=steering.max_bytes, free_bytes=steering.free_bytes)

    async def _give_up(self, size: int, reason: str) -> tuple[int, int]:
        """Let go of about `size` bytes, at most a page at once; how many that were, and how many more are free."""
        while uploaded := _enough(await asyncio.to_thread(self._uploaded), size, blocks=reason == DISK):
            if (found := await self._delete(uploaded))[0]:  # the cloud has them: no row has to change first
                return found
        evicted = _enough(await asyncio.to_thread(self._outbox.evictable, PAGE), size, blocks=reason == DISK)
        if evicted:
            await self._mark([sample.id for sample in evicted], reason)
        found = await self._delete(evicted)
        if evicted and not found[0]:  # else one by one all would be given up, and nothing gained
            raise Offline("images were evicted and their blobs cannot be deleted: is the disk sound?")
        return found

    def _still_wanted(self, size: int) -> int:
        """What of `size` was not given up before without an effect; nothing while we wait for that effect."""
        now = time.monotonic()
        if now < self._not_before:
            return 0
        return size - self._owed if now < self._owed_until else size

    def _wait(self, size: int, given: int) -> None:
        self._troubles.say(
            DISK_FULL,
            f"{size} bytes too few are free, and giving up images of {given} bytes freed less than half of that: is "
            "the local store on another disk, or does something else fill this one?",
        )
        now = time.monotonic()
        self._owed = given + (self._owed if now < self._owed_until else 0)
        self._owed_until = now + LATE
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _mark(self, ids: Sequence[str], reason: str) -> None:
        try:
            await asyncio.to_thread(self._outbox.evict, ids, reason)
        except Offline:
            if self._ballast is None:
                raise
            await asyncio.to_thread(self._ballast.release)
            await asyncio.to_thread(self._outbox.evict, ids, reason)

    async def _sweep(self) -> None:
        """Delete what was evicted before, by a process that was killed, for a better one, or where it would not go."""
        tried: set[str] = set()
        while left := await asyncio.to_thread(self._left, tried):
            await self._delete(left)
            tried |= {sample.id for sample in left}

    def _left(self, tried: Collection[str]) -> list[Sample]:
        found = self._outbox.evicted_here(PAGE + len(self._stuck.ids))
        return [sample for sample in found if sample.id not in tried][:PAGE]

    def _uploaded(self) -> list[Sample]:
        """A page of what the cloud has, the longest there first; not what would not go, for it makes no room."""
        found = self._outbox.expired(FOREVER, PAGE + len(self._stuck.ids))
        return [sample for sample in found if sample.id not in self._stuck.ids][:PAGE]

    async def _delete(self, samples: Sequence[Sample]) -> tuple[int, int]:
        """Delete all copies; the bytes they had, and how many more are free by it."""
        before = self._free()
        gone = await self._stuck.delete(samples)
        for sample in gone:
            await asyncio.to_thread(self._remove_copy, sample)
        freed = self._free() - before  # the index grows when it is told
        await asyncio.to_thread(self._outbox.freed, [sample.id for sample in gone])
        return sum(sample.size for sample in gone), freed

    def _remove_copy(self, sample: Sample) -> None:
        """Remove the spool's copy of this very flagging; a later one of the same image is still to be counted."""
        try:
            if self._spool.record(sample.id).captured_at == sample.captured_at:
                self._spool.remove(sample.id)
        except (NotFound, BadRecord):
            return  # a damaged one is set aside and counted by the inbox


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
