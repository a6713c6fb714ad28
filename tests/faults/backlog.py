"""A week offline, and then everything at once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta

from cloudproxy import PASS, REFUSED
from faults.device import until
from faults.ground import Ground
from faults.outcome import Outcome
from faults.reckoning import reckoned

SMALL = 2_000
WEEK = timedelta(days=7)
CONCURRENCY = 4
SLOWEST = 20  # images in a second


async def backlog(ground: Ground, rounds: int) -> list[Outcome]:
    """`ground.size` images of the last seven days wait for the line, and are uploaded a few at a time."""
    return [await _week(ground) for _ in range(rounds)]


async def _week(ground: Ground) -> Outcome:
    limit = 60 + ground.size / SLOWEST
    async with ground.line(SAMPLER_UPLOAD_CONCURRENCY=str(CONCURRENCY)) as (device, proxy):
        device.image_bytes = SMALL
        began = time.monotonic()
        await proxy.become(REFUSED)
        async with device.running():
            for n in range(ground.size):
                device.ahead = WEEK * (n / ground.size) - WEEK
                await asyncio.to_thread(device.flag)
            await until(lambda: device.counters().kept == ground.size - len(device.dropped), limit)
            back = time.monotonic()
            await proxy.become(PASS)
            await device.settled()
            seconds = time.monotonic() - back
        note = f"drained in {seconds:.0f} s, {proxy.busiest} uploads at once at most"
        outcome = await reckoned(device, f"backlog of {ground.size}", 1, began, note)
        if proxy.busiest > CONCURRENCY:
            return replace(outcome, disagrees=f"{proxy.busiest} uploads at once, {CONCURRENCY} were allowed")
        return outcome
