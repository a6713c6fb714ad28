"""What a scenario stands on: a folder of its own, a cloud, and devices that upload to it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from azurite import Azurite, running_azurite
from cloudproxy import CloudProxy
from faults.device import EVERY, Device
from ripeloop.blobs import open_blobs


@dataclass(frozen=True, slots=True)
class Ground:
    """`cloud` serves all scenarios, each has a container of its own; `size` is how many images make a backlog.

    Cameras post an image `every` so many seconds.
    """

    folder: Path
    cloud: Azurite
    size: int
    every: float = EVERY

    def device(self, cloud: str = "", **environ: str) -> Device:
        """A new device without a past; `cloud` is another address of the same store."""
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        direct = self.cloud.connection_string
        container = f"c{uuid.uuid4().hex}"
        device = Device(folder, cloud or direct, direct, container, self.cloud.api_version, environ=environ)
        device.every = self.every
        return device

    @asynccontextmanager
    async def line(self, **environ: str) -> AsyncIterator[tuple[Device, CloudProxy]]:
        """A new device whose line to the cloud can be broken."""
        async with CloudProxy.running(self.cloud.port) as proxy:
            through = self.cloud.connection_string.replace(f":{self.cloud.port}/", f":{proxy.port}/")
            yield self.device(through, **environ), proxy

    async def make_container(self, device: Device) -> None:
        """Make the device's container, which its credential may not be good for."""
        async with open_blobs(device.behind, device.container, device.api_version) as blobs:
            async for _ in blobs.list():
                break


@dataclass
class MortalStore:
    """A blob server of one's own that is killed and started again, with its port and its folder."""

    folder: Path
    account: str
    api_version: str
    now: Azurite | None = None
    _running: AbstractContextManager[Azurite] | None = field(default=None, repr=False)

    async def start(self) -> Azurite:
        """Serve what the folder holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        port = self.now.port if self.now else 0
        self._running = running_azurite(self.folder, account=self.account, api_version=self.api_version, port=port)
        self.now = await asyncio.to_thread(self._running.__enter__)
        return self.now

    async def kill(self) -> None:
        """End it as a power cut would."""
        if self.now is not None:
            self.now.process.kill()
        await self.stop()

    async def stop(self) -> None:
        """End it, where it still runs."""
        running, self._running = self._running, None
        if running is not None:
            await asyncio.to_thread(running.__exit__, None, None, None)
