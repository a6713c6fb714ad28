"""The disk takes nothing any more, and then does again."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cloudproxy import PASS, REFUSED
from faults.ground import Ground
from faults.outcome import Outcome
from faults.reckoning import reckoned
from sampler.keeping.evict import free_bytes

DISK_BYTES = 24 * 1024 * 1024
FLOOR_BYTES = 6 * 1024 * 1024
LEFT_BYTES = 1_500_000
FILLED_BYTES = 20_000
PIECE = 16 * 1024
COUNTED = {"spool_error", "spool_full", "evicted: disk"}


async def disk_full(ground: Ground, rounds: int) -> list[Outcome]:
    """Somebody fills the device's disk, a small tmpfs, while images come in and the cloud is away.

    Once without a floor, so that all wait for room, and once with one, so that images are evicted for it.
    """
    return [
        await _full(ground, rounds, "disk full", floor=0),
        await _full(ground, rounds, "disk full, floor", floor=FLOOR_BYTES),
    ]


async def _full(ground: Ground, rounds: int, fault: str, floor: int) -> Outcome:
    async with ground.line(SAMPLER_FREE_BYTES=str(floor), SAMPLER_UPLOADED_MINUTES="0") as (device, proxy):
        why = _mount(device.folder)
        if why:
            return Outcome(fault, 0, 0, 0, skipped=why)
        try:
            began = time.monotonic()
            async with device.running():
                for _ in range(rounds):
                    async with device.under_load():
                        await asyncio.sleep(0.5)
                        await proxy.become(REFUSED)
                        async with _filled(device.folder):
                            await asyncio.sleep(2)
                        await proxy.become(PASS)
                    await device.settled()
            return await reckoned(device, fault, rounds, began, may=COUNTED)
        finally:
            _unmount(device.folder)


async def no_writes(ground: Ground, rounds: int) -> list[Outcome]:
    """The sampler's process may write to no file for a while; nobody needs to be root for that."""
    device = ground.device()
    began = time.monotonic()
    async with device.running() as process:
        for _ in range(rounds):
            async with device.under_load():
                await asyncio.sleep(0.5)
                _, most = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, most))
                await asyncio.sleep(1)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (most, most))
            await device.settled()
    return [await reckoned(device, "no file may grow", rounds, began)]


def _mount(folder: Path) -> str:
    """Make `folder` a small disk of its own; why that is not possible here."""
    if os.geteuid() != 0:
        return "only root may mount a small disk"
    if shutil.which("mount") is None:
        return "this system has no `mount`"
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"no small disk can be mounted here: {done.stderr.strip()}"


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@asynccontextmanager
async def _filled(folder: Path) -> AsyncIterator[None]:
    """Little is free on the disk of `folder` when the block begins, for images to fill, and soon not a byte."""
    path = folder / "somebody-elses"
    going, left = True, LEFT_BYTES

    async def fill() -> None:
        nonlocal left
        with path.open("wb", buffering=0) as file:
            while going:  # also what others free meanwhile
                with suppress(OSError):
                    while free_bytes(folder) > left and file.write(bytes(PIECE)):
                        pass
                left = max(0, left - FILLED_BYTES)
                await asyncio.sleep(0.02)

    task = asyncio.create_task(fill())
    try:
        yield
    finally:
        going = False
        await task
        path.unlink()
