"""One device in trouble: a real sampler process, its spool and folders, and a camera that flags image after image."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from edge import free_port
from ripeloop.blobs import open_blobs
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from sampler.outbox import Counters, Outbox

IMAGE_BYTES = 30_000


@dataclass
class Device:
    """`cloud` is the address that the sampler uploads to, `behind` the same store without anything between."""

    folder: Path
    cloud: str
    behind: str
    container: str
    api_version: str
    flagged: dict[str, datetime] = field(default_factory=dict)
    port: int = field(default_factory=free_port)

    @property
    def spool(self) -> Spool:
        """The spool that the classifier would fill."""
        return Spool(self.folder / "spool")

    @property
    def log(self) -> str:
        """What the sampler has logged, over all its lives."""
        return (self.folder / "sampler.log").read_text()

    @asynccontextmanager
    async def running(self, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A sampler that is asked to end with the block, and must do so by itself."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("IOTEDGE_", "SAMPLER_"))}
        environ |= {
            "SAMPLER_SPOOL": str(self.folder / "spool"),
            "SAMPLER_STATE": str(self.folder / "state"),
            "SAMPLER_CLOUD_BLOBS": self.cloud,
            "SAMPLER_CLOUD_CONTAINER": self.container,
            "SAMPLER_CLOUD_API_VERSION": self.api_version,
            "SAMPLER_SCAN_SECONDS": "0.1",
            "SAMPLER_HTTP_HOST": "127.0.0.1",
            "SAMPLER_HTTP_PORT": str(self.port),
            **more,
        }
        with (self.folder / "sampler.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "sampler", env=environ, stderr=log)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), 15)
        assert code == 0, self.log
        assert "Traceback" not in self.log, self.log

    def flag(self) -> None:
        """Flag one new image."""
        image = b"\xff\xd8\xff" + random.randbytes(IMAGE_BYTES)
        record = Flagged(image_id(image), datetime.now(UTC), "audit", (Prediction("ripe", 0.5),))
        self.spool.put(record, image)
        self.flagged[record.id] = record.captured_at

    @asynccontextmanager
    async def under_load(self, every: float = 0.04) -> AsyncIterator[None]:
        """A new image every so many seconds."""

        async def camera() -> None:
            while True:
                await asyncio.to_thread(self.flag)
                await asyncio.sleep(every)

        task = asyncio.create_task(camera())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    def counters(self) -> Counters:
        """What the sampler's index counts."""
        outbox = Outbox(self.folder / "state" / "outbox.db")
        try:
            return outbox.counters()
        finally:
            outbox.close()

    async def numbers(self) -> dict[tuple[str, ...], float]:
        """The sampler's own page of numbers, by name and labels."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as page:
            families = list(text_string_to_metric_families(await page.text()))
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    async def settled(self, seconds: float = 60) -> None:
        """Wait until nothing is on its way any more."""

        def done() -> bool:
            counters = self.counters()
            return counters.waiting == 0 and counters.flagged >= len(self.flagged)

        await until(done, seconds)

    async def in_cloud(self) -> tuple[Counter[str], int]:
        """How often each image is in the cloud, and how many of them are not what their names say."""
        async with open_blobs(self.behind, self.container, self.api_version) as blobs:
            names = [blob.name async for blob in blobs.list()]
            images = [await blobs.get(name) for name in names]
        damaged = sum(Path(name).stem != image_id(image) for name, image in zip(names, images, strict=True))
        return Counter(Path(name).stem for name in names), damaged


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for what happens in another process."""
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.05)
