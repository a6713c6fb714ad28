"""One device's sampler in parts: a spool, an index, a local store, and where it uploads to."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ripeloop.blobs import Blobs, FolderBlobs
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from sampler.index.outbox import Outbox
from sampler.keeping.inbox import Inbox
from sampler.keeping.retention import Retention
from sampler.sample import Sample
from sampler.telling.steering import Steering
from sampler.telling.trouble import Troubles
from sampler.uploading.cloud import Cloud
from sampler.uploading.ledger import Ledger
from sampler.uploading.patience import Patience
from sampler.uploading.pause import Pause
from sampler.uploading.upload import Uploader

MONDAY = datetime(2026, 11, 23, 8, tzinfo=UTC)
SOON = Patience(first=0.01, longest=0.05, jitter=0, tries=3, idle=0.02)


def picture(n: int, size: int = 0) -> bytes:
    """Picture `n`, of `size` bytes behind its first eight where that is more."""
    return b"\x89PNG\r\n\x1a\n" + f"picture {n}".encode().ljust(size, b".")


def flagged(image: bytes, captured_at: datetime = MONDAY, **fields: Any) -> Flagged:
    words: dict[str, Any] = {"reason": "low_confidence", "predictions": (Prediction("ripe", 0.5),), "model": "v1"}
    return Flagged(image_id(image), captured_at, **(words | fields))


@dataclass
class Site:
    """One device: a spool, an index, a local store, and where it uploads to; `wall` is the time there, or now."""

    spool: Spool
    outbox: Outbox
    local: Blobs
    cloud: Blobs | None
    steering: Steering = field(default_factory=Steering)
    troubles: Troubles = field(default_factory=Troubles)
    wall: datetime | None = None

    def inbox(self) -> Inbox:
        return Inbox(
            self.spool,
            self.outbox,
            self.local,
            device="line-1",
            steering=lambda: self.steering,
            kept=lambda: None,
            troubles=self.troubles,
        )

    def uploader(self, patience: Patience = SOON, pause: Pause | None = None) -> Uploader:
        return Uploader(
            self.outbox, self.spool, self.local, Cloud(self.cloud), steering=lambda: self.steering, pause=pause,
            ledger=Ledger(self.outbox, lambda: self.wall or datetime.now(UTC).astimezone()), patience=patience,
        )  # fmt: skip

    def retention(self, proven_after: timedelta = timedelta(0), **more: Any) -> Retention:
        return Retention(
            self.outbox,
            self.spool,
            self.local,
            steering=lambda: self.steering,
            proven_after=proven_after,
            troubles=self.troubles,
            **more,
        )

    def flag(self, n: int, captured_at: datetime | None = None, **fields: Any) -> Sample:
        """The sample picture `n` becomes, once the sampler took it."""
        record = flagged(picture(n), captured_at or MONDAY + timedelta(seconds=n), **fields)
        self.spool.put(record, picture(n))
        return Sample.of(record, picture(n), device="line-1", now=MONDAY)

    async def keep(self, n: int, size: int = 0) -> Sample:
        """Picture `n`, kept as the inbox does an hour ago; the later, the higher `n`."""
        image = picture(n, size)
        record = flagged(image, MONDAY + timedelta(seconds=n))
        sample = Sample.of(record, image, device="line-1", now=datetime.now(UTC) - timedelta(hours=1))
        await self.local.put(sample.blob, image, sample.metadata(), sample.content_type)
        self.outbox.add(sample)
        return sample

    async def in_cloud(self) -> list[str]:
        assert self.cloud is not None
        return [blob.name async for blob in self.cloud.list()]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    local, cloud = (FolderBlobs(tmp_path / name / "samples") for name in ("local", "cloud"))
    site = Site(Spool(tmp_path / "spool"), Outbox(tmp_path / "state" / "outbox.db"), local, cloud)
    yield site
    site.outbox.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(path: Path) -> None:
    """Make `path` as large as its disk allows."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@asynccontextmanager
async def running(*parts: Any) -> AsyncIterator[None]:
    """The parts at work until the block ends."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def until(condition: Any, seconds: float = 30) -> None:
    """Return once `condition` is true; it may be a coroutine's."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)
