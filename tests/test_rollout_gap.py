"""Between the end of a comparison in silence and the takeover, while its figures are told: what changes then counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from colours import model, picture
from depot import Depot, packed
from rollouts import Site, site
from sampling import until
from wire import Wire

IMAGES = 4


class Deaf(Wire):
    """A hub that takes no report while it does not hear."""

    def __init__(self) -> None:
        super().__init__()
        self.hears = asyncio.Event()

    async def report(self, properties: Mapping[str, Any]) -> None:
        await self.hears.wait()
        await super().report(properties)


def wanted(depot: Depot, version: str, *, bgr: bool, **more: Any) -> dict[str, Any]:
    """A package that tells blue from red, or with `bgr` takes the one for the other."""
    return packed(depot.folder / f"{version}.zip", version, onnx=model(bgr=bgr)) | {
        "url": depot.url(f"{version}.zip"),
        **more,
    }


@asynccontextmanager
async def in_the_gap(folder: Path, first: Path, depot: Depot, *, bgr: bool) -> AsyncIterator[tuple[Site, Deaf]]:
    """`v2`, which takes blue for red, answers on trial; `v3` was compared with it, and that is not told yet."""
    hub = Deaf()
    hub.hears.set()
    async with site(folder, first, watch=60, hub=hub) as here:
        here.want(wanted(depot, "v2", bgr=True))
        await here.until("watching")
        here.want(wanted(depot, "v3", bgr=bgr, shadow={"share": 1, "images": IMAGES, "agreement": 0.95}))
        await here.until("shadowing")
        hub.hears.clear()
        await compared(here)
        await until(lambda: here.classifier.live.shadow is None)
        yield here, hub


async def compared(here: Site) -> None:
    """The candidate saw as many blue images as it is to see."""
    shadow = here.classifier.live.shadow
    assert shadow is not None
    for number in range(1, IMAGES + 1):
        await here.ask(1, lambda _: picture("blue"))
        await until(lambda: shadow.compared.images >= number)  # noqa: B023 - within its turn


@pytest.mark.parametrize("bgr", [True, False])
async def test_what_was_compared_with_a_model_undone_meanwhile_counts_neither_for_nor_against_the_candidate(
    tmp_path: Path, first: Path, depot: Depot, bgr: bool
) -> None:
    async with in_the_gap(tmp_path, first, depot, bgr=bgr) as (here, hub):
        await here.rollout._undo("worse")  # as the watch does it
        hub.hears.set()
        await until(lambda: here.classifier.live.shadow is not None)
        assert here.classifier.live.model.version == "first"
        await compared(here)
        end = await here.until("failed" if bgr else "watching")
    agreed = 0 if bgr else IMAGES
    assert end["version"] == ("first" if bgr else "v3")
    assert (end["shadow"]["images"], end["shadow"]["agreement"]) == (IMAGES, agreed / IMAGES)
    assert here.rollout.states.count("loading") == 2  # it was not brought up anew


@pytest.mark.parametrize("bgr", [True, False])
async def test_a_rollback_by_hand_in_the_gap_cancels_the_takeover_and_leaves_what_answers(
    tmp_path: Path, first: Path, depot: Depot, bgr: bool
) -> None:
    async with in_the_gap(tmp_path, first, depot, bgr=bgr) as (here, hub):
        status, answer = await here.rollout.rollback()
        hub.hears.set()
        assert (status, answer["version"], answer["wanted"], answer["state"]) == (200, "v2", "v3", "rolled_back")
        assert answer["shadow"] is None
        await here.ask(3)
        assert here.classifier.live.model.version == "v2"
        assert (await here.rollout.rollback())[1]["version"] == "first"  # and then the model itself
    assert "failed" not in here.rollout.states


async def test_another_wish_in_the_gap_cancels_the_takeover(tmp_path: Path, first: Path, depot: Depot) -> None:
    async with in_the_gap(tmp_path, first, depot, bgr=True) as (here, hub):
        before = here.rollout.states.count("watching")
        here.want(None)
        hub.hears.set()
        await until(lambda: here.rollout.states.count("watching") > before)
        await here.ask(3)
        assert here.classifier.live.model.version == "v2"
        assert here.rollout.status()["shadow"] is None
