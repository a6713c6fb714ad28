"""Labelled samples in a container, made for tests, and hands that fail at a chosen call."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping
from functools import cache
from typing import Any

from retrain.customvision import CustomVision
from retrain.labels import TAG, Answer, Labels
from retrain.turn.tag.heldout import is_held_out
from ripeloop.blobs import Blob, Blobs
from ripeloop.prediction import image_id
from trainerservice import jpeg

AT = "2026-11-22T08:00:00Z"
SHARE = 0.3


@cache
def image(nth: int) -> bytes:
    """A small picture of its own for each number."""
    return jpeg("green", nth, 40)


def numbers(*, held: bool, share: float = SHARE, start: int = 0) -> list[int]:
    """Numbers of pictures that are held out, or are not."""
    return [nth for nth in range(start, start + 60) if is_held_out(image_id(image(nth)), share) is held]


def answered(*tags: str, kind: str = TAG, by: str = "kari", how: str = "blind") -> Answer:
    return Answer(kind, tags, by, AT, how)


async def put(
    blobs: Blobs, data: bytes, *answers: Answer, reason: str = "low_confidence", device: str = "line-1"
) -> str:
    """A sample as the sampler uploads it, and people answered; its id."""
    id_ = image_id(data)
    about = {"id": id_, "capturedat": "2026-11-22T02:10:00.000001Z", "reason": reason, "device": device}
    labels = Labels()
    for answer in answers:
        labels = labels.with_answer(answer)
    await blobs.put(name_of(data, device), data, labels.into(about) if answers else about)
    return id_


def name_of(data: bytes, device: str = "line-1") -> str:
    return f"{device}/2026/11/22/{image_id(data)}.jpg"


async def label(blobs: Blobs, data: bytes, answer: Answer, device: str = "line-1") -> None:
    """One more answer."""
    blob = await blobs.head(name_of(data, device))
    await blobs.mark(blob.name, Labels.of(blob.metadata).with_answer(answer).into(blob.metadata), blob.etag)


class Killed(Exception):
    """Stands for the end of a process: nothing in the product knows it."""


class Fuse:
    """Burns before the nth call; then all others fail, too."""

    def __init__(self, nth: int) -> None:
        self._left = nth
        self._lock = threading.Lock()

    @property
    def burnt(self) -> bool:
        return self._left < 0

    def burn(self) -> None:
        """Raises Killed where this is the call, or the last one was before."""
        with self._lock:
            self._left -= 1
            if self.burnt:
                raise Killed


class DyingService(CustomVision):
    """A service whose caller dies at a call."""

    fuse: Fuse

    def _call(self, call: Any, *values: Any, **named: Any) -> Any:
        self.fuse.burn()
        return super()._call(call, *values, **named)


class DyingBlobs:
    """A store whose caller dies at a call."""

    def __init__(self, blobs: Blobs, fuse: Fuse) -> None:
        self._blobs, self._fuse = blobs, fuse

    async def put(
        self, name: str, data: bytes, metadata: Mapping[str, str] | None = None, content_type: str = ""
    ) -> bool:
        self._fuse.burn()
        return await self._blobs.put(name, data, metadata, content_type)

    async def get(self, name: str) -> bytes:
        self._fuse.burn()
        return await self._blobs.get(name)

    async def list(self, prefix: str = "") -> AsyncIterator[Blob]:
        async for blob in self._blobs.list(prefix):
            yield blob

    async def head(self, name: str) -> Blob:
        self._fuse.burn()
        return await self._blobs.head(name)

    async def mark(self, name: str, metadata: Mapping[str, str], etag: str) -> str:
        self._fuse.burn()
        return await self._blobs.mark(name, metadata, etag)

    async def delete(self, name: str) -> None:
        self._fuse.burn()
        await self._blobs.delete(name)
