"""What a sample is for, written on its blobs; nothing that others write there is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from retrain.turn.tag.facts import Fact, merged
from retrain.turn.tag.use import Use
from ripeloop.blobname import MAX_METADATA_BYTES
from ripeloop.blobs import Blobs
from ripeloop.errors import Changed, NotFound, Offline

Answer = TypeVar("Answer")

TRIES = 5
FIRST_WAIT = 0.5  # seconds


async def mark(blobs: Blobs, fact: Fact, use: Use) -> Fact | None:
    """Write `use` on all blobs of the sample; the sample as it is now, None where it is gone.

    Where somebody else has decided meanwhile what the sample is for, nothing is written. Raises Changed, Refused
    where the metadata has no room, Offline.
    """
    fresh = [await _mark(blobs, fact, name, use) for name in fact.names]
    found = [one for one in fresh if one is not None]
    return merged(found) if found else None


async def patiently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """The call's answer; tried again while the store is away, then raises Offline."""
    for nth in range(TRIES - 1):
        try:
            return await call()
        except Offline:
            await asyncio.sleep(FIRST_WAIT * 2**nth * (1 + random.random()))  # noqa: S311
    return await call()


async def at_once(calls: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """The answers in order. Where some fail the others still end, then the first failure is raised."""
    ends = await asyncio.gather(*calls, return_exceptions=True)
    answers = list[Answer]()
    for end in ends:
        if isinstance(end, BaseException):
            raise end
        answers.append(end)
    return answers


async def _mark(blobs: Blobs, fact: Fact, name: str, use: Use) -> Fact | None:
    for _ in range(TRIES):
        looked = await _head(blobs, name)
        if looked is None:
            return None
        now, metadata, etag = looked
        decided = now.use is not None and fact.use is None and now.use.kind != use.kind
        if decided or (now.use is not None and now.use.says() == use.says()):
            return now
        written = use.into(metadata, MAX_METADATA_BYTES)
        try:
            await patiently(lambda: blobs.mark(name, written, etag))  # noqa: B023 - awaited before the next turn
        except Changed:
            continue
        except NotFound:
            return None
        return replace(now, use=use)
    raise Changed(f"{name} is changed all the time: it is marked with the next turn")


async def _head(blobs: Blobs, name: str) -> tuple[Fact, dict[str, str], str] | None:
    try:
        blob = await patiently(lambda: blobs.head(name))
    except NotFound:
        return None
    fact = Fact.of(blob)
    return None if fact is None else (fact, dict(blob.metadata), blob.etag)
