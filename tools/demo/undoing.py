"""The end of the demo: a bad model is released on purpose, and the device itself takes it back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from demo.camera import Shift, post_all
from demo.pictures import Picture
from demo.rounds import Undone
from retrain.devices.fleet import Fleet
from retrain.judging.commands import PackageSettings, packed
from retrain.release import Device, Plan, release, rollback
from retrain.release.releasing import UNDONE
from ripeloop.blobs import open_blobs

VERSION = "bad-on-purpose"
MOST = 1500  # pictures posted while it is watched
BY_HAND = "the demo took it back, for the device saw nothing wrong"


@dataclass(frozen=True, slots=True)
class Bad:
    """The export, the holdout its golden images come from, the key that signs it, and where packages are kept."""

    export: Path
    holdout: Path
    key: Path
    folder: Path
    store: str


async def release_bad(
    bad: Bad, fleet: Fleet, device: str, url: str, pictures: Sequence[Picture], shift: Shift, rate: float
) -> Undone:
    """Release it to the device while a camera posts, and see how that ends. Raises Offline, Refused, BadModel."""
    order = PackageSettings(
        export=bad.export, out=bad.folder / "model.zip", holdout=bad.holdout, golden=None, golden_images=16,
        wrong_unflagged=0.02, fast=True, key=bad.key, version=VERSION, lineage=None, judged=None,
    )  # fmt: skip
    built, signature = await asyncio.to_thread(packed, order)
    plan = Plan(Device(device), version=VERSION, watch=0, poll=0.3, wait=120, pace=0)
    going = True

    def frames() -> Iterator[Picture]:
        for picture in islice(cycle(pictures), MOST):
            if not going:
                return
            shift.total += 1
            yield picture

    async with asyncio.TaskGroup() as tasks, open_blobs(bad.store, "models") as store:
        tasks.create_task(post_all(url, frames(), shift, rate))
        try:
            ended = await release(fleet, store, built.path, signature, plan)
            undone = ended.outcome == UNDONE
            if not undone:
                await rollback(fleet, plan.first, BY_HAND, store)
        finally:
            going = False
    reason = ended.places[0].troubles[0].reason if undone and ended.places[0].troubles else ended.reason
    return Undone(undone, reason if undone else BY_HAND, VERSION, len(shift.answered))
