"""The line to the cloud breaks under load and comes back, in every way there is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from cloudproxy import FAULTS, PASS, CloudProxy
from faults.device import Device, until
from faults.ground import Ground
from faults.outcome import Outcome
from faults.reckoning import reckoned


async def cut_line(ground: Ground, rounds: int) -> list[Outcome]:
    """All faults on one device."""
    async with ground.line() as (device, proxy):
        outcomes = await line_faults(device, proxy, rounds=rounds)
        total = await reckoned(device, "line, in all", rounds, time.monotonic())
    return [*(replace(one, fault=f"line: {one.fault}") for one in outcomes), total]


async def line_faults(
    device: Device, proxy: CloudProxy, faults: Sequence[str] = FAULTS, *, seconds: float = 1.0, rounds: int = 1
) -> list[Outcome]:
    """One sampler lives through all `faults`, each for so many seconds at a time; `device` uploads through `proxy`."""
    async with device.running():
        await until(lambda: "runs alone" in device.log, 20)
        return [await _through(device, proxy, fault, seconds, rounds) for fault in faults]


async def _through(device: Device, proxy: CloudProxy, fault: str, seconds: float, rounds: int) -> Outcome:
    began, before, cloud_before = time.monotonic(), set(device.flagged), (await device.in_cloud())[0]
    counted_before, said = _reasons(device), frozenset[str]()
    for _ in range(rounds):
        async with device.under_load():
            arrived = device.counters().uploaded
            await until(lambda floor=arrived: device.counters().uploaded >= floor + 3, 30)  # type: ignore[misc]
            await proxy.become(fault)
            await asyncio.sleep(seconds)
            said |= {labels[0] for name, *labels in await device.numbers() if name == "sampler_upload_trouble"}
            await proxy.become(PASS)
        await device.settled()
    copies, damaged = await device.in_cloud()
    flagged = set(device.flagged) - before
    new = copies - cloud_before
    return Outcome(
        fault=fault,
        rounds=rounds,
        flagged=len(flagged),
        uploaded=len(flagged & set(new)),
        dropped=dict(_reasons(device) - counted_before),
        duplicated=sum(copies.values()) - len(copies),
        damaged=damaged,
        seconds=time.monotonic() - began,
        said=said,
    )


def _reasons(device: Device) -> Counter[str]:
    counters = device.counters()
    return Counter(counters.dropped) + Counter(counters.evicted) + Counter({"set_aside": counters.set_aside})
