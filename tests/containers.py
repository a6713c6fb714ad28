"""A container whose samples people have answered, what a listing leaves in the cache, and two who open its pages."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from holdouts import coloured
from labelling import Browser, labelling, person
from retrain.label.container import samples
from retrain.label.container.cache import Cache
from retrain.labels import BLIND, JUNK, NONE, TAG, UNSURE, Answer, Labels
from ripeloop.blobs import FolderBlobs
from ripeloop.prediction import Flagged, Prediction, format_time, image_id
from sampler.sample import Sample

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN, ADMIN_TOKEN = "t" * 20, "a" * 20


def said(what: str, by: str = "kari", how: str = BLIND, at: datetime = NOW) -> Answer:
    kind = what if what in (NONE, UNSURE, JUNK) else TAG
    return Answer(kind, tuple(what.split("+")) if kind == TAG else (), by, format_time(at), how)


class Container:
    """A container in a folder, and what a listing of it leaves in the cache."""

    def __init__(self, folder: Path) -> None:
        self.blobs = FolderBlobs(folder / "samples")
        self.folder = folder
        self.cache = Cache(folder / "cache.db")
        self._nth = 0

    async def put(
        self, *answers: Answer, red: float = 0.5, device: str = "line-1", use: str = "", **fields: Any
    ) -> str:
        """One more sample, a red picture, of which the device said so by `red`; its key."""
        self._nth += 1
        image = coloured("red", self._nth)
        predictions = (Prediction("red", red), Prediction("green", round(1 - red, 4)), Prediction("blue", 0.0))
        words = {"reason": "low_confidence", "predictions": predictions, "model": "v1"} | fields
        record = Flagged(image_id(image), NOW - timedelta(minutes=self._nth), **words)
        sample = Sample.of(record, image, device=device, now=NOW)
        labels = Labels()
        for answer in answers:
            labels = labels.with_answer(answer)
        metadata = labels.into(sample.metadata()) | ({"use": json.dumps({"kind": use})} if use else {})
        await self.blobs.put(sample.blob, image, metadata)
        return samples.key_of(sample.blob)

    async def look(self, question: Any, *values: Any) -> Any:
        """The answer of `question` after everything was listed."""
        found = [blob async for blob in self.blobs.list()]
        await self.cache.change(samples.put, found, 0.05)
        return await self.cache.ask(question, *values)

    @asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[tuple[Browser, Browser]]:
        """Eva, an admin, and Kari, who labels, on a server over the container."""
        tokens = {"token": TOKEN, "admin_token": ADMIN_TOKEN, "admins": ("eva",)}
        async with (
            labelling(self.blobs, self.folder / "state", **tokens, **settings) as (_, url),
            person(url, "eva", ADMIN_TOKEN) as eva,
            person(url, "kari", TOKEN) as kari,
        ):
            yield eva, kari


async def usual(container: Container) -> None:
    """Enough labels that nobody doubts: eight."""
    for _ in range(4):
        await container.put(said("red"), red=0.8)
        await container.put(said("green"), red=0.2)
