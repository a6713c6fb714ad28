"""One device in trouble: a real sampler process, its spool and folders, and a camera that flags image after image."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from edge import free_port
from ripeloop.blobs import open_blobs
from ripeloop.errors import SpoolFull
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.spool import Spool
from sampler.index.outbox import Counters, Outbox

IMAGE_BYTES = 30_000
EVERY = 0.04  # seconds from image to image
LEAST = 12  # images under load, however slow the machine
START_SECONDS = 60.0
STOP_SECONDS = 30.0
LOOKS_AT_ONCE = 16
SLOWEST = 5  # images in a second, on a busy computer


@dataclass
class Device:
    """`cloud` is the address that the sampler uploads to, `behind` the same store without anything between.

    `environ` are settings beside the usual ones, `ahead` is how far the device's clock is wrong, and `dropped` are the
    images that never came into the spool, as the classifier would count them.
    """

    folder: Path
    cloud: str
    behind: str
    container: str
    api_version: str
    flagged: dict[str, datetime] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    environ: dict[str, str] = field(default_factory=dict)
    image_bytes: int = IMAGE_BYTES
    every: float = EVERY
    ahead: timedelta = timedelta()
    dropped: dict[str, str] = field(default_factory=dict)
    unsettled: str = ""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def spool(self) -> Spool:
        """The spool that the classifier would fill."""
        return Spool(self.folder / "spool")

    @property
    def log(self) -> str:
        """What the sampler has logged, over all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    async def start(self, **more: str) -> asyncio.subprocess.Process:
        """A sampler that works by now."""
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
            **self.environ,
            **more,
        }
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(sys.executable, "-m", "sampler", env=environ, stderr=log)
        self.process = process
        try:
            await until_so(lambda: self._answers(process), START_SECONDS)
        except BaseException:
            await kill(process)
            raise
        return process

    @asynccontextmanager
    async def running(self, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A sampler that is asked to end with the block, and must do so by itself."""
        process = await self.start(**more)
        try:
            yield process
        except BaseException:
            await kill(process)
            raise
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.wait_for(process.wait(), STOP_SECONDS)
        finally:
            await kill(process)
        if code or "Traceback" in self.log:
            raise RuntimeError(f"the sampler ended with {code}:\n{self.log[-3000:]}")

    def flag(self) -> None:
        """Flag one new image; what the spool does not take is counted, as the classifier does."""
        image = b"\xff\xd8\xff" + random.randbytes(self.image_bytes)
        record = Flagged(image_id(image), datetime.now(UTC) + self.ahead, "audit", (Prediction("ripe", 0.5),))
        try:
            self.spool.put(record, image)
        except SpoolFull:
            self.dropped[record.id] = "spool_full"
        except OSError:
            self.dropped[record.id] = "spool_error"
        self.flagged[record.id] = record.captured_at

    @asynccontextmanager
    async def under_load(self, every: float = 0.0) -> AsyncIterator[None]:
        """A new image every so many seconds, which are usually the device's own; `LEAST` on the slowest machine."""
        enough = len(self.flagged) + LEAST

        async def camera() -> None:
            while True:
                await asyncio.to_thread(self.flag)
                await asyncio.sleep(every or self.every)

        task = asyncio.create_task(camera())
        try:
            yield
            await until(lambda: len(self.flagged) >= enough, 60)
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

    def states(self) -> list[tuple[str, str, str]]:
        """Id, state and reason of every sample, while the index is a sound one."""
        outbox = Outbox(self.folder / "state" / "outbox.db")
        try:
            return outbox.states("", 1_000_000)
        finally:
            outbox.close()

    def waiting(self) -> int:
        """The samples that wait for their upload."""
        return self.counters().waiting

    async def numbers(self) -> dict[tuple[str, ...], float]:
        """The sampler's own page of numbers, by name and labels."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as page:
            families = list(text_string_to_metric_families(await page.text()))
        return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}

    async def settled(self, seconds: float = 60) -> None:
        """Wait until nothing is on its way any more, and where that never comes, remember it for the reckoning.

        All that was ever flagged has its time beside `seconds`: a new index sends all of it again.
        """
        seconds += len(self.flagged) / SLOWEST
        try:
            await until_so(self._is_settled, seconds)
        except TimeoutError:
            self.unsettled = f"after {seconds:.0f} s images were still on their way"

    async def _is_settled(self) -> bool:
        try:
            numbers = await self.numbers()
        except (aiohttp.ClientError, OSError):
            return False
        expected = len(self.flagged) - len(self.dropped)
        return numbers[("sampler_waiting",)] == 0 and numbers[("sampler_flagged_total",)] >= expected

    async def in_cloud(self) -> tuple[Counter[str], int]:
        """How often each image is in the cloud, and how many of them are not what their names say."""
        return await in_cloud(self.behind, self.container, self.api_version)

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        if process.returncode is not None:
            raise RuntimeError(f"the sampler ended: {self.log[-500:]}")
        try:
            await self.numbers()
        except (aiohttp.ClientError, OSError):
            return False
        return True

    @property
    def _log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")  # not on the disk that a scenario fills


async def in_cloud(address: str, container: str, api_version: str) -> tuple[Counter[str], int]:
    """How often each image is in that container, and how many of them are not what their names say."""
    async with open_blobs(address, container, api_version) as blobs:
        names = [blob.name async for blob in blobs.list()]
        damaged = 0
        for first in range(0, len(names), LOOKS_AT_ONCE):
            some = names[first : first + LOOKS_AT_ONCE]
            images = await asyncio.gather(*(blobs.get(name) for name in some))
            damaged += sum(Path(name).stem != image_id(image) for name, image in zip(some, images, strict=True))
    return Counter(Path(name).stem for name in names), damaged


async def kill(process: asyncio.subprocess.Process) -> None:
    """End the process as a power cut would; one that ended already is fine."""
    if process.returncode is None:
        process.kill()
    await process.wait()


async def until(condition: Callable[[], bool], seconds: float) -> None:
    """Wait for what happens in another process and blocks where it is asked."""

    async def holds() -> bool:
        return await asyncio.to_thread(condition)

    await until_so(holds, seconds)


async def until_so(holds: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait for what happens in another process."""
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.1)
