"""Takes what people answer: into the journal first, then onto the sample's blob, in order and once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakValueDictionary

from retrain.label.answering.journal import (
    ANSWER,
    KEPT,
    NOTHING,
    REFUSED,
    TAKEN,
    UNDO,
    UNDONE,
    UNKNOWN,
    WRITTEN,
    Entry,
    Journal,
)
from retrain.label.answering.writing import Shares, Taken, Wish, decided, is_in, undone
from retrain.label.asking.queue import HELD_SECONDS, hold, let_go
from retrain.label.container import samples
from retrain.label.container.cache import Cache, Look
from retrain.label.container.rows import key_of, state_of
from retrain.label.container.scan import Scan
from retrain.labels import Labels
from ripeloop.blobname import Blob
from ripeloop.blobs import Blobs
from ripeloop.errors import Changed, Denied, NotFound, Offline, Refused
from ripeloop.prediction import format_time

log = logging.getLogger(__name__)

PATIENCE = 3.0  # a page is told "kept" after that
AGAIN = 2.0  # seconds between two looks at whether the store is back
AT_ONCE = 16
TRIES = 8  # for one blob that many people change at this moment
BACKLOG = 100
FORGET_EVERY = timedelta(hours=1)

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a page sends, checked: `id` made by the page. `wish.at` is still empty."""

    id: str
    key: str
    blob: str
    wish: Wish


class Answers:
    """The way from a key press to the blob. Somebody has to `run` it: until then all answers are kept."""

    def __init__(self, blobs: Blobs, cache: Cache, journal: Journal, scan: Scan, shares: Shares) -> None:
        self._blobs, self._cache, self._journal, self._scan = blobs, cache, journal, scan
        self._shares = shares
        self._locks = WeakValueDictionary[str, asyncio.Lock]()
        self._held = set[str]()  # keys with an entry that waits: no later one may overtake it
        self._room = asyncio.Semaphore(AT_ONCE)
        self._on_its_way = dict[int, asyncio.Task[Entry]]()
        self._last = datetime.min.replace(tzinfo=UTC)
        self._fails = False
        self.away = "the answers of before are being written"
        """Why answers are only kept at the moment; empty while the store takes them."""

    async def accept(self, offer: Offer) -> Entry:
        """What became of an answer. Raises Offline where not even our own disk takes it."""
        body = {
            "kind": offer.wish.kind, "tags": list(offer.wish.tags), "asked": offer.wish.asked, "seen": offer.wish.seen,
            "grid": offer.wish.grid, "admin": offer.wish.admin, "predicted": offer.wish.predicted, "id": offer.wish.id,
            "shown": offer.wish.shown, "doubted": offer.wish.doubted,
        }  # fmt: skip
        return await self._take(Entry(offer.id, offer.wish.by, ANSWER, offer.key, offer.blob, body, self._now()))

    async def undo(self, id_: str, person: str, answer: str, key: str, blob: str) -> Entry:
        """What became of taking back the answer with that id; empty: the person's newest one to that sample."""
        entry = Entry(id_, person, UNDO, key, blob, {"answer": answer}, self._now())
        return await self._take(entry)

    async def before(self, person: str, id_: str) -> Entry | None:
        """What became of what that person sent before, under the same id."""
        return await self._journal.found(person, id_)

    async def look_up(self, key: str, blob: str) -> None:
        """List a sample that no scan has met yet, where there is one. Raises Offline, Denied."""
        async with self._lock(key):
            try:
                found = await self._blobs.head(blob)
            except NotFound:
                return
            self._scan.wrote(key)
            await self._cache.change(samples.put, [found], self._shares.overlap)

    async def delete(self, key: str, blob: str) -> None:
        """Remove a sample for good. Raises Offline, Refused."""
        async with self._lock(key):
            await self._blobs.delete(blob)
            self._scan.wrote(key)
            await self._cache.change(samples.forget, key)

    async def run(self) -> None:
        """Write what waits, for ever: what a killed server left, and what was kept while the store was away."""
        forgot = datetime.min.replace(tzinfo=UTC)
        while True:
            try:
                await self._drain()
                if (now := datetime.now(UTC)) > forgot + FORGET_EVERY:
                    await self._journal.forget(now)
                    forgot = now
            except Offline as error:  # our own disk
                self._is_away(str(error))
            await asyncio.sleep(AGAIN)

    async def stop(self) -> None:
        """Wait a little for what is on its way; the rest is written after the next start."""
        if not self._on_its_way:
            return
        _, late = await asyncio.wait(self._on_its_way.values(), timeout=PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _take(self, entry: Entry) -> Entry:
        overtakes = self.away or entry.key in self._held
        if overtakes:
            self._held.add(entry.key)  # in the same step as the journal's: whoever looks there sees both or none
        taken = await self._journal.add(entry)
        if taken.outcome != KEPT:
            return taken
        if overtakes:
            return await self._stays(taken)
        task = self._on_its_way.get(taken.seq)
        if task is None:
            task = asyncio.create_task(self._write(taken, told=False))
            self._on_its_way[taken.seq] = task
            task.add_done_callback(self._arrived(taken.seq))
        try:
            return await asyncio.wait_for(asyncio.shield(task), PATIENCE)
        except TimeoutError:
            return taken

    def _arrived(self, seq: int) -> Callable[[asyncio.Task[Entry]], None]:
        def arrived(task: asyncio.Task[Entry]) -> None:
            del self._on_its_way[seq]
            if not task.cancelled() and (error := task.exception()) is not None:
                log.error("an answer waits, for it could not be written: %s", error)

        return arrived

    async def _drain(self) -> None:
        self._fails = False
        passed, marked, stuck = 0, set(self._held), set[str]()
        while entries := await self._journal.waiting(passed, BACKLOG):
            for entry in entries:
                passed = entry.seq
                if entry.seq in self._on_its_way or entry.key in stuck:
                    stuck.add(entry.key)
                    continue
                if (await self._write(entry, told=True)).outcome == KEPT:
                    if self._fails:
                        return
                    stuck.add(entry.key)
        self._held -= marked - stuck
        if not self._fails:
            self._is_back()

    def _lock(self, key: str) -> asyncio.Lock:
        """Only one entry of a sample is being written; it is forgotten when nobody holds it."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    async def _write(self, entry: Entry, *, told: bool) -> Entry:
        """Write one entry, or leave it waiting. `told`: the person knows that it is kept."""
        async with self._lock(entry.key), self._room:
            if not told and (self.away or entry.key in self._held):
                return await self._stays(entry)
            try:
                outcome, result = await self._applied(entry, late=told)
            except Changed:
                return await self._stays(entry)
            except (Offline, Denied) as error:
                self._is_away(str(error))
                return await self._stays(entry)
            except NotFound:
                log.warning("an answer of %s has no image any more, it stays in answers.db: %s", entry.at, entry.blob)
                await self._cache.change(samples.forget, entry.key)
                outcome, result = UNKNOWN, {}
            except Refused as error:
                await self._cache.change(let_go, entry.key, entry.person)
                outcome, result = REFUSED, {"message": str(error)}
            return await self._journal.ended(entry, outcome, result, tell_later=told)

    async def _applied(self, entry: Entry, *, late: bool) -> tuple[str, Result]:
        """What became of it; `late`: it had to wait.

        Raises Offline, Denied, NotFound, Refused, and Changed where others were quicker again and again.
        """
        nth = 0
        while True:
            nth += 1
            blob = await self._blobs.head(entry.blob)
            labels = Labels.of(blob.metadata)
            done = await self._outcome(entry, labels, late=late)
            if not isinstance(done, Labels):
                await self._remember(blob, entry.person)
                return done
            try:
                if done is not labels:
                    metadata = done.into(blob.metadata)
                    blob = replace(blob, metadata=metadata, etag=await self._blobs.mark(blob.name, metadata, blob.etag))
            except Changed:
                if nth == TRIES:
                    raise
                continue
            await self._remember(blob, entry.person)
            final = done.final
            said = list(final.says[1]) if final else []
            return WRITTEN if entry.what == ANSWER else UNDONE, {"state": state_of(done), "said": said}

    async def _outcome(self, entry: Entry, labels: Labels, *, late: bool) -> Labels | tuple[str, Result]:
        """The labels with what the entry asks for, the same ones where they have it; or what there is instead."""
        if is_in(labels, entry.person, entry.at):
            return labels
        if entry.what == ANSWER:
            found = decided(labels, _wish(entry), self._shares, late=late)
            if not isinstance(found, Taken):
                return found
            theirs = found.theirs
            return TAKEN, {"theirs": {"kind": theirs.kind, "tags": list(theirs.tags), "by": theirs.by, "at": theirs.at}}
        answered_at = ""
        if answer := entry.body["answer"]:
            before = await self._journal.found(entry.person, answer)
            if before is None or before.outcome in (TAKEN, REFUSED, UNKNOWN):
                return NOTHING, {}
            answered_at = before.at
        without = undone(labels, entry.person, answered_at, entry.at)
        return (NOTHING, {}) if without is None else without

    async def _remember(self, blob: Blob, person: str) -> None:
        key = key_of(blob.name)
        self._scan.wrote(key)
        await self._cache.change(_remember, blob, self._shares.overlap, key, person)

    async def _stays(self, entry: Entry) -> Entry:
        """It waits, and nobody else is asked meanwhile."""
        self._held.add(entry.key)
        await self._cache.change(hold, entry.key, entry.person, time.time() + HELD_SECONDS)
        return entry

    def _now(self) -> str:
        """UTC, later than ever before: it tells one entry of a person from another."""
        self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
        return format_time(self._last)

    def _is_away(self, why: str) -> None:
        if not self.away:
            log.warning("the store is away, answers are kept here: %s", why)
        self.away, self._fails = why, True

    def _is_back(self) -> None:
        if self.away:
            log.info("the store takes answers")
        self.away = ""


def _remember(look: Look, blob: Blob, overlap: float, key: str, person: str) -> None:
    samples.put(look, [blob], overlap)
    let_go(look, key, person)


def _wish(entry: Entry) -> Wish:
    body = entry.body
    return Wish(
        id=body["id"],
        by=entry.person,
        kind=body["kind"],
        tags=tuple(body["tags"]),
        at=entry.at,
        asked=body["asked"],
        seen=body["seen"],
        grid=body["grid"],
        admin=body["admin"],
        predicted=body["predicted"],
        shown=body.get("shown", False),
        doubted=body.get("doubted", False),
    )
