"""A SAS ends in the middle of a drain, and a new one comes: by direct method, or with a restart."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from edge import Edge, free_gateway, free_port, manifest
from faults.device import Device, until_so
from faults.ground import Ground
from faults.outcome import Outcome
from faults.reckoning import reckoned
from retrain.devices.fleet import Fleet

LASTS = timedelta(seconds=5)
IMAGES = 80
PACE = "250000"  # bytes in a second: the drain takes longer than the credential lasts


async def expiring_sas(ground: Ground, rounds: int) -> list[Outcome]:
    """Create-only SAS of a container, as `ripeloop credential grant` makes them."""
    return list(await asyncio.gather(_by_method(ground, rounds), _by_restart(ground, rounds)))


async def _by_method(ground: Ground, rounds: int) -> Outcome:
    device = ground.device(SAMPLER_UPLOAD_BYTES_PER_SECOND=PACE)
    await ground.make_container(device)
    folder = Path(tempfile.mkdtemp(prefix="edge-", dir="/tmp"))  # the address of a unix socket has 107 bytes
    gateway = free_gateway()
    edge = Edge(folder / "state", gateway, free_port(gateway), manifest(), ())
    try:
        await asyncio.to_thread(edge.start)
        device.environ |= edge.environ("sampler")
        device.cloud = ground.cloud.sas_url(device.container, lasts=LASTS)
        began, stood = time.monotonic(), 0
        async with device.running(), Fleet.open(edge.connection_string, edge.ca_file) as fleet:
            for n in range(rounds):
                _flag(device)
                await _until_expired(device)
                stood += device.waiting()
                lasts = timedelta(hours=1) if n == rounds - 1 else LASTS
                address = ground.cloud.sas_url(device.container, lasts=lasts)
                await fleet.invoke("laptop", "sampler", "credential", {"address": address})
            await device.settled()
        note = f"{stood} waited for the new one"
        return await reckoned(device, "SAS ends, method", rounds, began, note)
    finally:
        await asyncio.to_thread(edge.kill)
        shutil.rmtree(folder)


async def _by_restart(ground: Ground, rounds: int) -> Outcome:
    device = ground.device(SAMPLER_UPLOAD_BYTES_PER_SECOND=PACE)
    await ground.make_container(device)
    began, stood = time.monotonic(), 0
    for _ in range(rounds):
        device.cloud = ground.cloud.sas_url(device.container, lasts=LASTS)
        _flag(device)
        async with device.running():
            await _until_expired(device)
            stood += device.waiting()
    device.cloud = ground.cloud.sas_url(device.container)
    async with device.running():
        await device.settled()
    return await reckoned(device, "SAS ends, restart", rounds, began, f"{stood} waited for the new one")


def _flag(device: Device) -> None:
    for _ in range(IMAGES):
        device.flag()


async def _until_expired(device: Device) -> None:
    """Wait until the sampler says that its credential has ended."""

    async def has_expired() -> bool:
        return ("sampler_upload_trouble", "expired") in await device.numbers()

    await until_so(has_expired, 60)
