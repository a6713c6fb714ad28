"""The device's own blob server is killed right after it acknowledged images, and forgets them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import aiohttp

from azurite import DEVICE_API
from cloudproxy import PASS, REFUSED
from faults.device import Device, in_cloud
from faults.ground import Ground, MortalStore
from faults.outcome import Outcome
from faults.reckoning import reckoned
from ripeloop.errors import Offline

CONTAINER = "samples"


async def store_killed(ground: Ground, rounds: int) -> list[Outcome]:
    """While the cloud is away, the only copies are those of a store that loses its last seconds, and of the spool."""
    store = MortalStore(ground.folder / "store", "edgestore", DEVICE_API)
    local = (await store.start()).connection_string
    environ = {
        "SAMPLER_LOCAL_BLOBS": local,
        "SAMPLER_LOCAL_CONTAINER": CONTAINER,
        "SAMPLER_LOCAL_API_VERSION": DEVICE_API,
    }
    began, forgotten, unsafe = time.monotonic(), 0, 0
    try:
        async with ground.line(**environ) as (device, proxy):
            async with device.running():
                for _ in range(rounds):
                    await proxy.become(REFUSED)
                    async with device.under_load(0.02):
                        await asyncio.sleep(1)
                        acknowledged = await _kept(device)
                        await store.kill()
                        await asyncio.sleep(0.3)
                        await store.start()
                    stored = set((await in_cloud(local, CONTAINER, DEVICE_API))[0]) if store.now else set()
                    spool = set(device.spool.ids())
                    forgotten += len(acknowledged - stored)
                    unsafe += len(acknowledged - stored - spool)
                    await proxy.become(PASS)
                    await device.settled()
            note = f"the store forgot {forgotten} it had acknowledged; {unsafe} of them were not in the spool"
            return [await reckoned(device, "kill -9 local store", rounds, began, note)]
    finally:
        await store.stop()


async def _kept(device: Device) -> set[str]:
    """The ids of the samples that wait: the store has acknowledged each of them."""
    with suppress(aiohttp.ClientError, Offline):
        return {id_ for id_, state, _ in device.states() if state == "waiting"}
    return set()
