"""kill -9 under load: camera, classifier, spool, sampler, cloud, all of them real, and any of them killed."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from azurite import CLOUD_API
from colours import unsure_picture, zipped
from demo.system import CLASSIFIER, RUNTIME, SAMPLER, Plan, System, running
from edge import free_gateway, free_port
from faults.device import in_cloud, until, until_so
from faults.ground import Ground, MortalStore
from faults.outcome import Outcome
from faults.reckoning import disagreement
from retrain.devices.fleet import Fleet
from ripeloop.errors import Offline, Refused
from ripeloop.prediction import image_id
from sampler.index.outbox import Counters

CLOUD = "cloud"
VICTIMS = (CLASSIFIER, SAMPLER, RUNTIME, CLOUD)
PROJECT = Path(__file__).parents[2]
CONTAINER = "samples"
CAMERAS = 2
SETTLE_SECONDS = 90.0
SLOWEST = 10  # images in a second
PAUSE_SECONDS = 0.15  # of each camera


@dataclass
class Line:
    """The whole line: three processes, the cloud's store, and what its cameras were told is uncertain."""

    system: System
    store: MortalStore
    flagged: set[str] = field(default_factory=set)
    _pictures: count[int] = field(default_factory=count)

    async def kill(self, victim: str) -> None:
        """End it as a power cut would, and some moments later start it again."""
        await (self.store.kill() if victim == CLOUD else self.system.kill(victim))
        await asyncio.sleep(random.uniform(0, 0.3))
        if victim == CLOUD:
            await self.store.start()
            with suppress(Offline, Refused):
                await self.ask("flush")  # or the pause after failures would grow from kill to kill
        else:
            await self.system.start(victim)

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Cameras post while the block runs, and end with a whole answer."""
        going = [True]
        tasks = [asyncio.create_task(self._camera(going)) for _ in range(CAMERAS)]
        try:
            yield
        finally:
            going.clear()
            await asyncio.gather(*tasks)

    async def flag_some(self) -> None:
        """Wait until the cameras have some more answers."""
        enough = len(self.flagged) + 5
        await until(lambda: len(self.flagged) >= enough, SETTLE_SECONDS)

    async def in_cloud(self) -> tuple[Counter[str], int]:
        """How often each image is in the cloud, and how many are damaged."""
        assert self.store.now is not None
        return await in_cloud(self.store.now.connection_string, CONTAINER, CLOUD_API)

    async def ask(self, method: str) -> Any:
        """What the sampler answers to a direct method. Raises Offline, Refused."""
        hub = self.system.settings_of("hub")
        async with Fleet.open(hub["IOTHUB_CONNECTION_STRING"], Path(hub["IOTHUB_CA_FILE"])) as fleet:
            return await fleet.invoke("laptop", SAMPLER, method)

    async def status(self) -> Counters:
        """What the sampler answers to the direct method `status`."""
        told = await self.ask("status")
        return Counters(**{name: told[name] for name in Counters.__slots__})

    async def settled(self) -> None:
        """Wait until nothing is on its way: the classifier's spool is empty or kept, and nothing waits."""

        async def nothing_waits() -> bool:
            try:
                told = await self.status()
            except (Offline, Refused):  # some seconds after a kill the hub does not know the module yet
                return False
            return told.waiting == 0 and told.flagged >= len(self.flagged)

        with suppress(TimeoutError):  # what is still on its way then is counted as lost
            await until_so(nothing_waits, SETTLE_SECONDS + len(self.flagged) / SLOWEST)

    async def forget_the_index(self) -> None:
        """Delete the sampler's index, so that everything still on the device is uploaded again."""
        await self.system.kill(SAMPLER)
        for path in (self.system.state / "sampler").glob("outbox.db*"):
            path.unlink()
        await self.system.start(SAMPLER)

    async def _camera(self, going: list[bool]) -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while going:
                image = unsure_picture(next(self._pictures))
                try:
                    async with session.post(f"{self.system.classifier_url}/image", data=image) as response:
                        if response.status == 200:
                            await response.read()
                            self.flagged.add(image_id(image))
                except (aiohttp.ClientError, TimeoutError):  # killed while it answered: the camera knows nothing
                    await asyncio.sleep(0.05)
                await asyncio.sleep(PAUSE_SECONDS)


async def kills(ground: Ground, rounds: int) -> list[Outcome]:
    """The four are killed in turn; `rounds` are shared out among them."""
    async with whole_line(ground) as line:
        return [await _killed(line, victim, max(1, rounds // len(VICTIMS))) for victim in VICTIMS]


@asynccontextmanager
async def whole_line(ground: Ground) -> AsyncIterator[Line]:
    """Everything running, until the block ends."""
    folder = Path(tempfile.mkdtemp(dir=ground.folder))
    store = MortalStore(folder / "cloud", "cloudstore", CLOUD_API)
    azurite = await store.start()
    gateway = free_gateway()
    plan = Plan(
        deployment=PROJECT / "deployment.template.json",
        env_file=PROJECT / ".env.template",
        model=zipped(folder / "model.zip"),
        logs=folder / "logs",
        cloud=azurite.connection_string,
        local=str(folder / "local"),
        gateway=gateway,
        port=free_port(),
        hub_port=free_port(gateway),
        extra={
            "SAMPLER_CLOUD_CONTAINER": CONTAINER,
            "SAMPLER_CLOUD_API_VERSION": CLOUD_API,
            "SAMPLER_SCAN_SECONDS": "0.2",
            "SAMPLER_NEAR_DISTANCE": "0",
            # an answer then means that the image is in the spool, however busy the disk is
            "CLASSIFIER_HANDOFF_WAIT": "10",
        },
    )
    try:
        async with running(plan) as system:
            yield Line(system, store)
    finally:
        await store.stop()


async def _killed(line: Line, victim: str, rounds: int) -> Outcome:
    began, before = time.monotonic(), set(line.flagged)
    async with line.under_load():
        for _ in range(rounds):
            await line.flag_some()
            await asyncio.sleep(random.uniform(0, 0.8))
            await line.kill(victim)
        await line.flag_some()
    await line.settled()
    copies, damaged = await line.in_cloud()
    note = ""
    if victim == CLOUD and (forgotten := line.flagged - set(copies)):
        # unlike Azure, this stand-in writes what it acknowledged to disk only every five seconds
        note = f"the cloud forgot {len(forgotten)} it had acknowledged; sent again from the device"
        await line.forget_the_index()
        await line.settled()
        copies, damaged = await line.in_cloud()
    flagged = line.flagged - before
    return Outcome(
        fault=f"kill -9 {victim}",
        rounds=rounds,
        flagged=len(flagged),
        uploaded=len(flagged & set(copies)),
        duplicated=sum(copies.values()) - len(copies),
        damaged=damaged,
        seconds=time.monotonic() - began,
        disagrees=await _disagreement(line, len(copies)),
        note=note,
    )


async def _disagreement(line: Line, in_cloud: int) -> str:
    try:
        return disagreement(await line.status(), in_cloud)
    except (Offline, Refused) as error:
        return f"the sampler cannot be asked: {error}"
