"""A classifier with its rollout, as `__main__` wires them, on a hub in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from classifier.models.model import load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.fetch import FetchLimits
from classifier.rollout.live import Live
from classifier.rollout.memory import Outcome
from classifier.rollout.rollout import Rollout, RolloutSettings
from classifier.rollout.shelf import Shelf
from classifier.rollout.start import Load, Sources, begin
from classifier.serving.classify import Classifier
from colours import picture
from depot import Depot, first_model
from ripeloop.uncertainty import Policy
from wire import Wire

LIMITS = FetchLimits(bytes=2_000_000, total=10, silence=2, first_pause=0.01, longest_pause=0.05)
NOW = "2026-11-22T02:10:00.000000Z"


class Told(Rollout):
    """Remembers every state on its way; the twin may miss one that lasted a moment."""

    states: list[str]

    def _tell(self, outcome: Outcome) -> None:
        self.states = [*getattr(self, "states", []), outcome.state]
        super()._tell(outcome)


@dataclass
class Site:
    """A classifier with its rollout, as `__main__` wires them."""

    hub: Wire
    rollout: Told
    classifier: Classifier
    thresholds: Thresholds
    shelf: Shelf
    counts: Counts

    def want(self, section: object) -> None:
        self.hub.twin.put_nowait({"model": section})

    async def until(self, state: str, seconds: float = 20) -> dict[str, Any]:
        """What is reported, once it says `state`."""
        async with asyncio.timeout(seconds):
            while True:
                reported: dict[str, Any] = (await self.hub.news.get())["model"]
                if reported["state"] == state:
                    return reported

    def told(self, state: str) -> list[dict[str, Any]]:
        """What was reported with that state, in its order."""
        return [patch["model"] for patch in self.hub.reported if patch["model"]["state"] == state]

    async def ask(self, images: int, image: Callable[[int], bytes] = lambda _: picture()) -> None:
        for n in range(images):
            await self.classifier.classify(image(n))

    def files(self) -> set[str]:
        return {path.name for path in self.shelf.folder.iterdir()}


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return first_model(tmp_path)


@pytest.fixture
async def depot(tmp_path: Path) -> AsyncIterator[Depot]:
    folder = tmp_path / "depot"
    folder.mkdir()
    async with Depot(folder) as depot:
        yield depot


@asynccontextmanager
async def site(
    folder: Path,
    first: Path,
    *,
    key: Any = None,
    watch: float = 0.3,
    limits: FetchLimits = LIMITS,
    loading: Load = partial(load, threads=1),
    hub: Wire | None = None,
) -> AsyncIterator[Site]:
    shelf = Shelf(folder / "models")
    sources = Sources(shelf, first, loading, key)
    model, memory = begin(sources, NOW)
    live = Live(model)
    del model
    rollout = Told(live, sources, memory, RolloutSettings(limits, watch))
    thresholds = Thresholds(Policy(0.8, 0, 0, 0))
    counts = Counts()
    classifier = Classifier(live, counts, thresholds)
    hub = hub or Wire()
    task = asyncio.create_task(rollout.run(hub))
    try:
        yield Site(hub, rollout, classifier, thresholds, shelf, counts)
    finally:
        task.cancel()
        await asyncio.wait({task})
        classifier.close()
    assert task.cancelled(), task.exception()
