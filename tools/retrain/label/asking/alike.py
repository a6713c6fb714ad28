"""The samples still to label that look like one of them, found among a million in a few hundredths of a second.

Their looks are kept in memory, 32 bytes each, and read again now and then: what was labelled meanwhile is left out when
it is asked for, and what is new comes with the next reading.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import cast

from retrain.label.asking.lookalikes import MOST, Looks
from retrain.label.container.cache import Cache, Found, Look
from retrain.label.container.rows import OPEN

AT_ONCE = 20_000
SECONDS, SELDOM = 60.0, 20
"""Between two readings: so many seconds, and so many times as long as the last one took."""

ByTag = dict[str, Looks[int]]


class LookAlikes:
    """Finds what looks like a sample among those of the same suggested tag: judged differently is a look of its own."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._first = asyncio.Lock()
        self._asked = asyncio.Event()
        self._looks: ByTag | None = None

    async def of(self, row: Found, most: int = MOST - 1) -> list[str]:
        """The keys of what looks like the sample in `row` and is still to label, nearest first, without itself.

        The first who asks waits for the looks to be read, for seconds where there are a million.
        """
        self._asked.set()
        async with self._first:
            if self._looks is None:
                self._looks = await self._read()
        looks = self._looks.get(row["tag"])
        if looks is None or not row["dhash"]:
            return []
        near = await asyncio.to_thread(looks.near, row["dhash"], most=2 * most + 1)
        return await self._cache.ask(_open, [one.id for one in near if one.id != row["seq"]], most)

    async def run(self, seconds: float = SECONDS) -> None:
        """Read the looks again now and then, as long as somebody asks, until cancelled."""
        took = 0.0
        while True:
            await self._asked.wait()
            self._asked.clear()
            await asyncio.sleep(max(seconds, SELDOM * took))
            began = time.monotonic()
            self._looks = await self._read()
            took = time.monotonic() - began

    async def _read(self) -> ByTag:
        found: defaultdict[str, Looks[int]] = defaultdict(Looks)
        after = 0
        while rows := await self._cache.ask(_part, after):
            after = cast("int", rows[-1]["seq"])
            by_tag: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
            for row in rows:
                by_tag[row["tag"]].append((row["seq"], row["dhash"]))
            for tag, looks in by_tag.items():
                found[tag].add(looks)
        return dict(found)


def _part(look: Look, after: int) -> list[Found]:
    query = """
        SELECT seq, tag, dhash FROM samples NOT INDEXED
        WHERE seq > ? AND state = ? AND dhash <> '' ORDER BY seq LIMIT ?"""
    return look.rows(query, (after, OPEN, AT_ONCE))


def _open(look: Look, seqs: Sequence[int], most: int) -> list[str]:
    marks = ",".join("?" * len(seqs))
    query = f"SELECT seq, key FROM samples WHERE seq IN ({marks}) AND state = ?"  # noqa: S608
    keys = {row["seq"]: row["key"] for row in look.rows(query, (*seqs, OPEN))}
    return [keys[seq] for seq in seqs if seq in keys][:most]
