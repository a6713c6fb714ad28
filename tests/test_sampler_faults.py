"""Whatever the line to the cloud does under load: every flagged image is there exactly once, or counted."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

import cloudproxy
from azurite import Azurite
from cloudproxy import CloudProxy
from faults.device import Device
from faults.ground import Ground
from faults.line import line_faults
from faults.scenarios import SCENARIOS
from faults.table import row
from ripeloop.blobs import open_blobs
from ripeloop.errors import Offline

KINDS = {
    cloudproxy.REFUSED: {"refused"},
    cloudproxy.SILENT: set(),  # it takes half a minute to be sure of that
    cloudproxy.RESET_BEFORE: {"reset"},
    cloudproxy.RESET_AFTER: {"reset"},
    cloudproxy.SLOW: set(),
    cloudproxy.BUSY: {"busy"},
    cloudproxy.WRONG: {"proxy"},
}

BACKLOG = 150
EVERY = 0.08  # seconds from image to image: all scenarios are played at once, and more would only fill the cores
APART = {"line", "kill"}  # the first has a test of its own, the second starts enough processes to fill a small machine


async def test_a_line_cut_and_restored_in_every_way_loses_nothing_and_sends_nothing_twice(
    tmp_path: Path, azurite_cloud: Azurite
) -> None:
    async with CloudProxy.running(azurite_cloud.port) as proxy:
        direct = azurite_cloud.connection_string
        through = direct.replace(f":{azurite_cloud.port}/", f":{proxy.port}/")
        device = Device(tmp_path, through, direct, f"c{uuid.uuid4().hex}", azurite_cloud.api_version)
        outcomes = await line_faults(device, proxy)
    assert [outcome.fault for outcome in outcomes] == list(cloudproxy.FAULTS)
    for outcome in outcomes:
        assert outcome.good, outcome
        assert outcome.flagged > 10
        assert outcome.uploaded == outcome.flagged
        assert outcome.said >= KINDS[outcome.fault], outcome
    assert all(proxy.requests[fault] for fault in cloudproxy.FAULTS if fault != cloudproxy.REFUSED)
    assert device.log.count("online, uploading") < 20


@pytest.mark.timeout(300)
@pytest.mark.parametrize("names", [{"kill"}, {scenario.name for scenario in SCENARIOS} - APART], ids=["kill", "others"])
async def test_whatever_breaks_on_a_device_every_flagged_image_is_in_the_cloud_once_or_counted(
    names: set[str], tmp_path: Path, azurite_cloud: Azurite
) -> None:
    ground = Ground(tmp_path, azurite_cloud, BACKLOG, EVERY)
    played = await asyncio.gather(*(one.play(ground, one.short) for one in SCENARIOS if one.name in names))
    outcomes = [outcome for some in played for outcome in some]
    assert not [row(outcome) for outcome in outcomes if not outcome.good]
    tried = [outcome for outcome in outcomes if not outcome.skipped]
    assert all(outcome.flagged >= 10 for outcome in tried), [row(outcome) for outcome in tried]
    assert len(tried) >= (4 if names == {"kill"} else 12)


@pytest.mark.parametrize("fault", cloudproxy.FAULTS)
async def test_the_proxy_breaks_the_line_as_it_says(fault: str, azurite_cloud: Azurite) -> None:
    container, image = f"c{uuid.uuid4().hex}", b"x" * 20_000
    async with (
        CloudProxy.running(azurite_cloud.port) as proxy,
        open_blobs(azurite_cloud.connection_string, container, azurite_cloud.api_version) as direct,
        open_blobs(
            azurite_cloud.connection_string.replace(f":{azurite_cloud.port}/", f":{proxy.port}/"),
            container, azurite_cloud.api_version,
        ) as through,
    ):  # fmt: skip
        assert await through.put("first", image)
        assert [blob.size async for blob in through.list()] == [len(image)]
        await proxy.become(fault)
        if fault == cloudproxy.SLOW:
            assert await through.put("second", image)
        else:
            with pytest.raises((Offline, TimeoutError)):
                async with asyncio.timeout(1):
                    await through.put("second", image)
        stored = [blob.name async for blob in direct.list()]
        assert ("second" in stored) == (fault in (cloudproxy.SLOW, cloudproxy.RESET_AFTER))
        await proxy.become(cloudproxy.PASS)
        assert await through.put("second", image) == ("second" not in stored)
        assert await through.get("second") == image
