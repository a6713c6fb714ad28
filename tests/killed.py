"""A rollout that is killed at one step: `python killed.py FOLDER FIRST WANTED STEP`.

Run by test_rollout_process.py. Everything is real but the hub, which is in memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from classifier.models.model import Model, load
from classifier.rollout.live import Live
from classifier.rollout.memory import Memory, Outcome
from classifier.rollout.rollout import Rollout, RolloutSettings
from classifier.rollout.shelf import Shelf
from classifier.rollout.start import Sources, begin
from classifier.rollout.wanted import Wanted
from ripeloop.uncertainty import Policy
from wire import Wire

STEP = ""
NOW = "2026-11-22T02:10:00.000000Z"


def reached(step: str) -> None:
    if step == STEP:
        os.kill(os.getpid(), signal.SIGKILL)


class Dying(Shelf):
    writes = 0

    def write(self, memory: Memory) -> None:
        Dying.writes += 1
        reached(f"before write {Dying.writes}")
        super().write(memory)
        reached(f"after write {Dying.writes}")

    def put(self, partial: Path, sha256: str) -> Path:
        reached("before put")
        path = super().put(partial, sha256)
        reached("after put")
        return path

    def tidy(self, memory: Memory, wanted: Wanted | None = None) -> None:
        reached("before tidy")
        super().tidy(memory, wanted)
        reached("after tidy")


class DyingLive(Live):
    def swap(self, model: Model, terms: Policy | None = None) -> None:
        reached("before swap")
        super().swap(model, terms)
        reached("after swap")


class DyingRollout(Rollout):
    def _tell(self, outcome: Outcome) -> None:
        super()._tell(outcome)
        reached(outcome.state)


async def rolled_out(folder: Path, first: Path, wanted: dict[str, str]) -> dict[str, Any]:
    """Bring `wanted` up to version v2 being active, and return what is told then; or die on the way."""
    sources = Sources(Dying(folder), first, partial(load, threads=1))
    model, memory = begin(sources, NOW)
    rollout = DyingRollout(DyingLive(model), sources, memory, RolloutSettings(watch_seconds=0))
    hub = Wire()
    hub.twin.put_nowait({"model": wanted})
    task = asyncio.create_task(rollout.run(hub))
    async with asyncio.timeout(20):
        while (news := (await hub.news.get())["model"])["version"] != "v2" or news["state"] != "active":
            pass
    task.cancel()
    await asyncio.wait({task})
    return dict(news)


if __name__ == "__main__":
    STEP = sys.argv[4]
    asyncio.run(rolled_out(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])))
