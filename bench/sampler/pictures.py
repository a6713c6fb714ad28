"""Flagged images to measure with: bytes nobody decodes, records as the classifier writes them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ripeloop.prediction import Flagged, Prediction, image_id

BEGIN = datetime(2026, 11, 23, 8, tzinfo=UTC)


def flagged_images(count: int, size: int, *, seed: int = 0) -> Iterator[tuple[Flagged, bytes]]:
    """`count` images of `size` bytes, a tenth of a second apart, of four cameras; every fiftieth is an audit sample."""
    rng = random.Random(seed)  # noqa: S311
    for n in range(count):
        image = b"\xff\xd8\xff" + rng.randbytes(size - 3)
        yield record(n, image_id(image), rng), image


def record(n: int, id_: str, rng: random.Random) -> Flagged:
    """The record of the `n`th image."""
    top = rng.uniform(0.34, 0.8)
    rest = (1 - top) / 2
    tags = rng.sample(("unripe", "ripe", "overripe"), 3)
    return Flagged(
        id=id_,
        captured_at=BEGIN + timedelta(seconds=n / 10),
        reason="audit" if n % 50 == 0 else "low_confidence",
        predictions=tuple(Prediction(tag, p) for tag, p in zip(tags, (top, rest, rest), strict=True)),
        model="5b5e4a0c",
        content_type="image/jpeg",
        dhash=f"{rng.getrandbits(256):064x}",
        camera=f"camera-{n % 4}",
    )
