"""A cache of many samples, filled without a container, and a container that holds those that will be shown first."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from retrain.label.container import samples
from retrain.label.container.cache import Cache, Found, Look
from retrain.labels import BLIND, TAG, Answer, Labels
from ripeloop.blobname import Blob
from ripeloop.blobs import FolderBlobs
from ripeloop.prediction import Flagged, Prediction
from sampler.sample import Sample

PAGE = 10_000
TAGS = ("ripe", "unripe", "overripe", "bruised", "mouldy", "empty", "hand", "other")
REASONS = ("low_confidence", "narrow_margin", "audit")
DEVICES = 40
LABELLED = 0.3
SIDE = (1280, 960)


async def fill(path: Path, rows: int, overlap: float) -> None:
    """A cache of `rows` samples of a year: of 40 devices, eight tags, three reasons; three in ten are labelled."""
    cache = Cache(path)
    for first in range(0, rows, PAGE):
        page = list(_blobs(range(first, min(first + PAGE, rows)), rows))
        await cache.change(samples.put, page, overlap)
    cache.close()


async def stock(path: Path, blobs: FolderBlobs, rows: int, most: int) -> None:
    """Put the `most` samples that come first in the cache's order into the container."""
    cache = Cache(path)
    chosen = await cache.ask(_first, most)
    pictures = [_picture(nth) for nth in range(20)]
    for nth, row in enumerate(chosen):
        found = next(iter(_blobs([int(row["model"].removeprefix("m"))], rows)))
        await blobs.put(row["blob"], pictures[nth % len(pictures)] + nth.to_bytes(4, "big"), found.metadata)
    sizes = [(await blobs.head(row["blob"]), row["seq"]) for row in chosen]
    await cache.change(_as_stocked, [(blob.etag, blob.size, seq) for blob, seq in sizes])
    cache.close()


def _blobs(numbers: Iterable[int], rows: int) -> Iterator[Blob]:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    for nth in numbers:
        draw = random.Random(nth)  # noqa: S311
        likely = draw.random()
        tag, other = draw.sample(TAGS, 2)
        flagged = Flagged(
            id=hashlib.sha256(str(nth).encode()).hexdigest(),
            captured_at=start - timedelta(seconds=(rows - nth) * 30),
            reason=draw.choices(REASONS, (70, 25, 5))[0],
            predictions=(Prediction(tag, 0.5 + likely / 2), Prediction(other, (1 - likely) / 2)),
            model=f"m{nth}",
            dhash=f"{draw.getrandbits(256):064x}",
        )
        sample = Sample.of(flagged, b"\xff\xd8\xff", device=f"line-{draw.randrange(DEVICES)}", now=start)
        metadata = sample.metadata()
        if draw.random() < LABELLED:
            answer = Answer(TAG, (tag,), f"person {draw.randrange(20)}", "2026-11-22T08:00:00.000000Z", BLIND)
            metadata = Labels((answer,)).into(metadata)
        yield Blob(sample.blob, 200_000, metadata, etag="filled")


def _first(look: Look, most: int) -> list[Found]:
    query = "SELECT seq, blob, model FROM samples WHERE state = 'open' ORDER BY place, seq LIMIT ?"
    second = "SELECT seq, blob, model FROM samples INDEXED BY samples_second WHERE asks <> '' ORDER BY place LIMIT ?"
    return look.rows(query, (most,)) + look.rows(second, (most,))


def _as_stocked(look: Look, changes: list[tuple[str, int, int]]) -> None:
    look.run_all("UPDATE samples SET etag = ?, size = ? WHERE seq = ?", changes)


def _picture(nth: int) -> bytes:
    rng, file = np.random.default_rng(nth), io.BytesIO()
    small = rng.integers(0, 255, (SIDE[1] // 16, SIDE[0] // 16, 3), dtype=np.uint8)
    Image.fromarray(small).resize(SIDE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()
