"""What a turn needs: labelled bananas in a store, a trainer, and settings that wait for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo.bananas import random_picture
from edge import Edge
from retrain.judging.judge import Rule
from retrain.labels import TAG, Answer, Labels
from retrain.release import Device
from retrain.release import Plan as ReleasePlan
from retrain.settings import Hub
from retrain.turn.settings import Judging, Service, Store, TurnSettings
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import TrainPolicy
from ripeloop.blobs import open_blobs
from ripeloop.hub import Hub as DeviceHub
from ripeloop.hub import HubLimits, open_hub
from ripeloop.prediction import image_id
from trainerservice import KEY

QUICK = Pace(0.05, 0.2, 60)
SEED, SIDE = 5, 64
LIMITS = HubLimits(create=5, connect=10, request=5, close=3, settle=0.2, healthy=0.5, retry=0.05, retry_most=0.2)


def told(
    endpoint: str,
    folder: Path,
    project: str = "fruit",
    edge: Edge | None = None,
    module: str = "classifier",
    **more: Any,
) -> TurnSettings:
    """Settings of a turn over the samples of `put_samples`, that releases to the edge where there is one."""
    settings = TurnSettings(
        Service(endpoint, KEY, project), Store(str(folder / "cloud")), folder / "work",
        policy=TrainPolicy(min_new=5, min_hours=0), training=QUICK, exporting=QUICK,
        judging=Judging(Rule(min_images=8, min_per_tag=1), first_accuracy=0.2),
    )  # fmt: skip
    if edge is not None:
        plan = ReleasePlan(Device("laptop"), watch=0, poll=0.05, wait=20, pace=0, module=module)
        settings = replace(settings, hub=Hub(edge.connection_string, edge.ca_file), release=plan)
    return replace(settings, **more)


async def put_samples(
    folder: Path, first: int, count: int, *, tags: Mapping[str, str] | None = None, store: Store | None = None
) -> list[str]:
    """Labelled bananas in the cloud's folder, or in `store`, every third kept by lot; their ids.

    `tags` calls a tag otherwise.
    """
    ids, where = [], store or Store(str(folder / "cloud"))
    async with open_blobs(where.address, where.samples, where.api_version) as blobs:
        for nth in range(first, first + count):
            one = random_picture(SEED, nth, SIDE)
            ids.append(image_id(one.jpeg))
            tag = (tags or {}).get(one.tag, one.tag)
            labels = Labels().with_answer(Answer(TAG, (tag,), "ann", "2026-11-22T02:10:00Z"))
            metadata = {"id": ids[-1], "reason": "audit" if nth % 3 == 0 else "low_confidence"}
            await blobs.put(f"line-1/2026/11/22/{ids[-1]}.jpg", one.jpeg, labels.into(metadata))
    return ids


@asynccontextmanager
async def taking_models(edge: Edge, mailbox: Path, module: str = "classifier") -> AsyncIterator[list[str]]:
    """A classifier of the edge that takes whatever is wanted; the versions it was told."""
    versions: list[str] = []
    async with open_hub(edge.environ(module), mailbox=mailbox, limits=LIMITS) as hub:
        task = asyncio.create_task(_taking(hub, versions))
        try:
            yield versions
        finally:
            task.cancel()
            await asyncio.wait({task})


async def _taking(hub: DeviceHub, versions: list[str]) -> None:
    async for desired in hub.desired():
        model = desired.get("model")
        if not isinstance(model, dict):
            continue
        versions.append(str(model["version"]))
        news = {"version": model["version"], "wanted": model["version"], "sha256": model["sha256"], "state": "active",
                "since": "2026-11-22T02:10:00Z"}  # fmt: skip
        await hub.report({"model": news})
