"""Keeps the cache in step with the container: lists it again and again, a part at a time, and writes what changed."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from retrain.label.container import samples
from retrain.label.container.cache import Cache, Look
from retrain.label.container.rows import STATES
from ripeloop.blobname import Blob
from ripeloop.blobs import Blobs
from ripeloop.errors import RipeloopError
from ripeloop.prediction import format_time

log = logging.getLogger(__name__)

PART = 500  # rows compared in one go
CHANGED = 20  # rows changed in one go: a person's key waits for that at most
SPARED_SECONDS = 300.0  # a part of a listing is not older than that
MOST_SOUGHT = 10_000
SCANNED = "scanned"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the scan is: blobs seen in this one, when the last one ended (empty: never), what keeps it from going on.

    `model`: the one that flagged the newest sample.
    """

    running: bool = False
    done: int = 0
    at: str = ""
    why: str = ""
    model: str = ""


class Scan:
    """The background scan of one container, every `pause` seconds. `overlap`: the share two people are asked of."""

    def __init__(self, blobs: Blobs, cache: Cache, overlap: float, pause: float) -> None:
        self._blobs, self._cache = blobs, cache
        self._overlap, self._pause = overlap, pause
        self._wrote: dict[str, float] = {}
        self._again = asyncio.Event()
        self._begun = self._ended = 0
        self._sought: dict[str, int] = {}
        self.progress = Progress()

    def wrote(self, key: str) -> None:
        """A sample was changed by this server: what the cache has is newer than a listing that began before."""
        self._wrote[key] = time.monotonic()

    def may_come(self, key: str) -> bool:
        """Whether that sample may still be found: no scan that began after the first call for it has ended."""
        if len(self._sought) > MOST_SOUGHT:
            self._sought.clear()  # they wait a little longer
        return self._ended < self._sought.setdefault(key, self._begun + 1)

    def again(self) -> None:
        """Scan now, not after the pause."""
        self._again.set()

    async def run(self) -> None:
        """Scan for ever."""
        begun = False
        while True:
            try:
                if not begun:
                    model = await self._cache.ask(_newest_model)
                    self.progress, begun = Progress(at=await self._cache.ask(_scanned), model=model), True
                await self.once()
            except RipeloopError as error:
                if not self.progress.why:
                    log.warning("the samples cannot be listed, trying on: %s", error)
                self.progress = replace(self.progress, running=False, why=str(error))
            self._again.clear()
            try:
                async with asyncio.timeout(self._pause):
                    await self._again.wait()
            except TimeoutError:
                continue

    async def once(self) -> int:
        """Bring the cache up to date with the container; how many samples changed. Raises Offline, Refused."""
        before, after, changed, done = self.progress, "", 0, 0
        part = list[Blob]()
        self._begun += 1
        nth = self._begun
        self._forget_old()
        async for blob in self._blobs.list():
            part.append(blob)
            if len(part) == PART:
                changed += await self._put(part, after, blob.name)
                done, after, part = done + len(part), blob.name, []
                self.progress = replace(before, running=True, done=done, why="")
        changed += await self._put(part, after, None)
        now = format_time(datetime.now(UTC))
        await self._cache.change(_ended, now)
        if before.why or not before.at:
            log.info("the container is listed: %d blobs", done + len(part))
        self._ended = nth
        self.progress = Progress(False, done + len(part), now, "", await self._cache.ask(_newest_model))
        return changed

    async def _put(self, part: list[Blob], after: str, until: str | None) -> int:
        """How many rows changed. What was written here meanwhile is spared: the listing may be older."""
        gone, new = await self._cache.ask(samples.differences, part, after, until)
        changed = await self._cache.change(samples.forget_all, gone, set(self._wrote)) if gone else 0
        for first in range(0, len(new), CHANGED):
            some = new[first : first + CHANGED]
            pairs = await asyncio.to_thread(samples.pairs_of, some, self._overlap)
            changed += await self._cache.change(samples.put_pairs, pairs, set(self._wrote))
        return changed

    def _forget_old(self) -> None:
        oldest = time.monotonic() - SPARED_SECONDS
        self._wrote = {key: at for key, at in self._wrote.items() if at > oldest}


def _scanned(look: Look) -> str:
    row = look.row("SELECT value FROM facts WHERE name = ?", (SCANNED,))
    return str(row["value"]) if row else ""


def _newest_model(look: Look) -> str:
    """Of the samples of each state the newest, for those the index knows."""
    query = "SELECT captured_at, model FROM samples WHERE state = ? ORDER BY captured_at DESC, seq DESC LIMIT 1"
    newest = [row for state in STATES for row in look.rows(query, (state,))]
    return str(max(newest, key=lambda row: row["captured_at"])["model"]) if newest else ""


def _ended(look: Look, now: str) -> None:
    look.run("INSERT OR REPLACE INTO facts VALUES (?, ?)", (SCANNED, now))
    look.run("DELETE FROM skips WHERE until < ?", (time.time(),))
