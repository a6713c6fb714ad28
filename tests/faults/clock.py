"""The device's wall clock jumps, under load and while the cloud is away.

Only root could move the clock of a whole computer, and everybody on it would notice. So the clock of one program is
moved, the unchanged sampler: a few lines of C stand between it and the system's `clock_gettime`. What the kernel itself
stamps, the times of files, stays right.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloudproxy import PASS, REFUSED
from faults.device import Device
from faults.ground import Ground
from faults.outcome import Outcome
from faults.reckoning import reckoned

SOURCE = Path(__file__).with_name("clock.c")
NEVER_SET = datetime(1970, 1, 1, tzinfo=UTC)
JUMPS = {
    "clock +1 h, back": timedelta(hours=1),
    "clock -1 h, back": timedelta(hours=-1),
    "clock +3 years, back": timedelta(days=3 * 365),
    "clock -3 years, back": timedelta(days=-3 * 365),
}
BEGIN_IN_1970 = "clock begins in 1970"


async def clock_jumps(ground: Ground, rounds: int) -> list[Outcome]:
    """The clock jumps and comes back, while samples wait; and once it starts in 1970, as without a battery."""
    library, why = _library(ground.folder)
    if why:
        return [Outcome(fault, 0, 0, 0, skipped=why) for fault in (*JUMPS, BEGIN_IN_1970)]
    never_set = NEVER_SET - datetime.now(UTC) + timedelta(minutes=1)
    jumping = [_jumping(ground, library, fault, jump, rounds) for fault, jump in JUMPS.items()]
    beginning = _jumping(ground, library, BEGIN_IN_1970, never_set, 1, start=never_set)
    return list(await asyncio.gather(*jumping, beginning))


async def _jumping(
    ground: Ground, library: Path, fault: str, jump: timedelta, rounds: int, start: timedelta = timedelta()
) -> Outcome:
    async with ground.line() as (device, proxy):
        ahead = device.folder / "ahead"
        device.environ |= {"LD_PRELOAD": str(library), "CLOCK_AHEAD": str(ahead)}
        began = time.monotonic()
        ahead.write_bytes(bytes(8))
        _set(device, ahead, start)
        async with device.running():
            for _ in range(rounds):
                async with device.under_load():
                    await asyncio.sleep(0.3)
                    await proxy.become(REFUSED)
                    await asyncio.sleep(0.5)
                    _set(device, ahead, jump)
                    await asyncio.sleep(0.5)
                    await proxy.become(PASS)
                    await asyncio.sleep(1)
                    _set(device, ahead, timedelta())
                    await asyncio.sleep(0.3)
                await device.settled()
        return await reckoned(device, fault, rounds, began)


def _set(device: Device, ahead: Path, by: timedelta) -> None:
    """Put the clock of the device's program `by` from the right time."""
    device.ahead = by
    with ahead.open("r+b") as file:  # the program has this very file in its memory
        file.write(int(by.total_seconds()).to_bytes(8, "little", signed=True))


def _library(folder: Path) -> tuple[Path, str]:
    """The C lines, compiled; or why that is not possible here."""
    path = folder / "clock.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return path, "no C compiler (cc) is here"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(path), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return path, "" if done.returncode == 0 else f"the compiler here fails: {done.stderr.strip()[:200]}"
