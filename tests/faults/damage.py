"""Files of the device that are not what they were: the index, and images in the spool."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from cloudproxy import PASS, REFUSED, CloudProxy
from faults.device import Device, kill, until
from faults.ground import Ground
from faults.outcome import Outcome
from faults.reckoning import reckoned
from ripeloop.spool import SUFFIX

BESIDE = ("", "-wal", "-shm")


def _garbage(index: Path) -> None:
    """Nothing of it is left."""
    index.write_bytes(os.urandom(20_000))


def _pages(index: Path) -> None:
    """Some pages in the middle are overwritten in place, wherever they are used."""
    with index.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for _ in range(8):
            file.seek(random.randrange(0, max(size - 4096, 1), 4096))
            file.write(os.urandom(4096))


def _half(index: Path) -> None:
    """It ends in the middle."""
    os.truncate(index, index.stat().st_size // 2)


def _header(index: Path) -> None:
    """It does not begin as a database does."""
    with index.open("r+b") as file:
        file.write(bytes(100))


def _deleted(index: Path) -> None:
    """It is gone, with what belongs to it."""
    for suffix in BESIDE:
        index.with_name(index.name + suffix).unlink(missing_ok=True)


def _last_writes(index: Path) -> None:
    """What SQLite had not moved into the file yet is noise."""
    wal = index.with_name(f"{index.name}-wal")
    if wal.exists():
        wal.write_bytes(os.urandom(wal.stat().st_size))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "index: garbage": _garbage,
    "index: pages": _pages,
    "index: cut": _half,
    "index: header": _header,
    "index: deleted": _deleted,
    "index: last writes": _last_writes,
}


async def damaged_index(ground: Ground, rounds: int) -> list[Outcome]:
    """The index is damaged while the sampler runs, and while it does not; samples wait meanwhile."""
    return list(await asyncio.gather(*(_index(ground, rounds, *one) for one in DAMAGES.items())))


async def _index(ground: Ground, rounds: int, fault: str, damage: Callable[[Path], None]) -> Outcome:
    async with ground.line() as (device, proxy):
        began = time.monotonic()
        process = await device.start()
        try:
            for _ in range(rounds):
                process = await _damaged(device, proxy, process, damage)
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)
        finally:
            if device.process is not None:
                await kill(device.process)
        log = device.log
        learned = log.count("it learned") + log.count("the index did not know")
        note = f"found damaged {log.count('the index is damaged')} times, learned from the local store {learned} times"
        return await reckoned(device, fault, rounds, began, note)


async def _damaged(device: Device, proxy: CloudProxy, process: Process, damage: Callable[[Path], None]) -> Process:
    """Damage the index twice; the sampler that runs afterwards."""
    index = device.folder / "state" / "outbox.db"
    _write_through(index)
    await proxy.become(REFUSED)
    async with device.under_load():
        await asyncio.sleep(1)
    # the images have left the spool then: all that is known of them is in the index and in the local store
    await until(lambda: not device.spool.ids(), 60)
    async with device.under_load():
        if damage is not _last_writes:  # it would be the end of any program
            _write_through(index)
            damage(index)
        await asyncio.sleep(0.7)
        await kill(process)
        if index.exists() and damage is not _last_writes:
            with suppress(sqlite3.DatabaseError):
                _write_through(index)
        damage(index)
        process = await device.start()
        await proxy.become(PASS)
        await asyncio.sleep(0.5)
    await device.settled()
    return process


def _write_through(index: Path) -> None:
    """Have SQLite move what it keeps beside the file into it: else that would heal what is damaged there."""
    with closing(sqlite3.connect(index)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _noise(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def _one_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))


async def damaged_spool(ground: Ground, rounds: int) -> list[Outcome]:
    """Files in the spool are cut, emptied, or hold noise, and folders have the names of images, while others come."""
    device = ground.device()
    began = time.monotonic()
    spoilt = 0
    async with device.running() as process:
        for _ in range(rounds):
            async with device.under_load():
                await asyncio.sleep(0.3)
                process.send_signal(signal.SIGSTOP)  # or it would be faster than the damage
                before = set(device.flagged)
                await asyncio.sleep(0.4)
                waiting = [device.spool.folder / f"{id_}{SUFFIX}" for id_ in set(device.flagged) - before]
                for spoil, path in zip((_cut, _empty, _noise, _one_byte), waiting, strict=False):
                    spoil(path)
                    spoilt += 1
                (device.spool.folder / f"{random.randbytes(32).hex()}{SUFFIX}").mkdir()
                process.send_signal(signal.SIGCONT)
            await device.settled()
    aside = len(list(device.spool.aside.iterdir()))
    note = f"{spoilt} spoilt, {aside} kept in aside/"
    return [await reckoned(device, "spool files damaged", rounds, began, note, may={"damaged"})]
