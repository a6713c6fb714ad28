"""How fast uploads are beside azure-storage-blob alone: the same requests to the same Azurite, eight at a time.

Ours reads each image from a folder store, checks it, sends it and writes the index; the SDK alone sends from memory.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.storage.blob import ContentSettings  # noqa: TID251 - it is what is measured against
from azure.storage.blob.aio import ContainerClient  # noqa: TID251

from ripeloop.blobs import FolderBlobs, open_blobs
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampler.uploading.cloud import Cloud
from sampler.uploading.upload import Uploader

TESTS = Path(__file__).parents[2] / "tests"
CONCURRENCY = 8
IMAGES = 300
BYTES = 60_000
ROUNDS = 3


def measure(images: int = IMAGES, size: int = BYTES, rounds: int = ROUNDS) -> dict[str, float]:
    """Images a second of the SDK alone and of ours, the medians of interleaved rounds; and the share, ours of its."""
    sys.path.append(str(TESTS))
    from azurite import CLOUD_API, running_azurite

    with tempfile.TemporaryDirectory(prefix="ripeloop-bench-") as folder:
        store = Path(folder) / "azurite"
        store.mkdir()
        with running_azurite(store, account="cloudstore", api_version=CLOUD_API) as azurite:
            return asyncio.run(_measure(azurite.connection_string, CLOUD_API, Path(folder), images, size, rounds))


async def _measure(address: str, version: str, folder: Path, images: int, size: int, rounds: int) -> dict[str, float]:
    alone, ours = [], []
    for n in range(rounds + 1):  # the first warms up
        pictures = [_picture(size) for _ in range(images)]
        alone.append(images / await _alone(address, version, pictures))
        ours.append(images / await _ours(address, version, folder / str(n), pictures))
    return {
        "upload_sdk_alone_per_second": statistics.median(alone[1:]),
        "upload_per_second": statistics.median(ours[1:]),
        "upload_share_of_sdk": statistics.median(mine / its for mine, its in zip(ours[1:], alone[1:], strict=True)),
    }


async def _alone(address: str, version: str, pictures: Sequence[tuple[Sample, bytes]]) -> float:
    """Seconds of the SDK."""
    async with ContainerClient.from_connection_string(
        address, f"c{uuid.uuid4().hex}", api_version=version, retry_total=0
    ) as client:
        await client.create_container()
        rest = iter(pictures)

        async def work() -> None:
            for sample, image in rest:
                await client.upload_blob(
                    sample.blob,
                    image,
                    overwrite=False,
                    validate_content=True,
                    metadata=sample.metadata(),
                    content_settings=ContentSettings(content_type=sample.content_type),
                )

        return await _seconds(*(work() for _ in range(CONCURRENCY)))


async def _ours(address: str, version: str, folder: Path, pictures: Sequence[tuple[Sample, bytes]]) -> float:
    """Seconds of the sampler's own uploader, from a folder store and an index on disk."""
    local, outbox = FolderBlobs(folder / "blobs"), Outbox(folder / "outbox.db")
    try:
        for sample, image in pictures:
            await local.put(sample.blob, image, sample.metadata(), sample.content_type)
        outbox.add_all([sample for sample, _ in pictures])
        async with open_blobs(address, f"c{uuid.uuid4().hex}", version) as cloud:
            assert [blob async for blob in cloud.list()] == []  # noqa: S101 - this makes the container
            steering = Steering(concurrency=CONCURRENCY)
            uploader = Uploader(outbox, Spool(folder / "spool"), local, Cloud(cloud), steering=lambda: steering)
            took = await _seconds(uploader.drain())
        assert outbox.counters().uploaded == len(pictures)  # noqa: S101
        return took
    finally:
        outbox.close()


async def _seconds(*works: object) -> float:
    began = time.perf_counter()
    await asyncio.gather(*works)  # type: ignore[call-overload]
    return time.perf_counter() - began


def _picture(size: int) -> tuple[Sample, bytes]:
    image = b"\xff\xd8\xff" + os.urandom(size)
    now = datetime.now(UTC) - timedelta(hours=1)
    flagged = Flagged(image_id(image), now, "audit", (Prediction("ripe", 0.6), Prediction("unripe", 0.4)), "v1")
    return Sample.of(flagged, image, device="line-1", now=now), image


if __name__ == "__main__":
    for name, figure in measure().items():
        sys.stdout.write(f"{name:32} {figure:12.2f}\n")
