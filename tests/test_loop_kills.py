"""The whole line, as three real processes under load: whoever is killed, every flagged image arrives, once."""

import asyncio
import io
import random
from collections import Counter
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from PIL import Image

from colours import zipped
from demo.system import CLASSIFIER, RUNTIME, SAMPLER, running, until
from retrain.devices.fleet import Fleet
from ripeloop.blobs import open_blobs
from ripeloop.prediction import image_id
from whole import plan_in

KILLS = 10  # `make faults` kills a hundred times
SURE = 0.8


class Camera:
    """Posts a new picture every few milliseconds and remembers what it was told."""

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.random = url, np.random.default_rng(seed)
        self.answered: dict[str, float] = {}
        self.posted: dict[str, bytes] = {}
        self.going = True

    async def work(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            while self.going:
                image = self.picture()
                self.posted[image_id(image)] = image
                try:
                    async with session.post(f"{self.url}/image", data=image) as response:
                        body = await response.json()
                        if response.status == 200:
                            best = max(prediction["probability"] for prediction in body["predictions"])
                            self.answered[image_id(image)] = best
                except (aiohttp.ClientError, TimeoutError):  # killed while it answered: the camera knows nothing
                    await asyncio.sleep(0.05)
                await asyncio.sleep(0.01)

    def picture(self) -> bytes:
        colour = self.random.choice([(120, 120, 120), (200, 20, 20), (90, 120, 80)])
        pixels = colour + self.random.integers(0, 40, (24, 24, 3))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def unsure(self) -> set[str]:
        """Answered as uncertain: each of these must arrive."""
        return {id_ for id_, best in self.answered.items() if best < SURE}


async def arrived(cloud: str) -> Counter[str]:
    """How often each image is in the cloud, by its id."""
    async with open_blobs(cloud, "samples") as blobs:
        return Counter([Path(blob.name).stem async for blob in blobs.list()])


@pytest.mark.timeout(240)
async def test_ten_kills_under_load_lose_no_flagged_image_and_send_none_twice(tmp_path):
    dice = random.Random(20261122)
    plan = plan_in(tmp_path, zipped(tmp_path / "model.zip"))
    async with running(plan) as system, asyncio.TaskGroup() as tasks:
        cameras = [Camera(system.classifier_url, seed) for seed in range(3)]
        for camera in cameras:
            tasks.create_task(camera.work())
        killed = Counter()
        for _ in range(KILLS):
            await asyncio.sleep(dice.uniform(0.05, 0.8))
            victim = dice.choice([CLASSIFIER, SAMPLER, RUNTIME])
            killed[victim] += 1
            await system.kill(victim)
            await asyncio.sleep(dice.uniform(0, 0.3))
            await system.start(victim)
        for camera in cameras:
            camera.going = False
        unsure = set().union(*(camera.unsure for camera in cameras))
        posted = {id_: image for camera in cameras for id_, image in camera.posted.items()}

        async def all_there() -> bool:
            return unsure <= set(await arrived(plan.cloud)) and not system_spool(system)

        await until("every unsure image is in the cloud", all_there, 60)

        found = await arrived(plan.cloud)
        assert len(killed) == 3
        assert len(unsure) > 50, "the load was too light to prove anything"
        assert set(found.values()) == {1}, "an image is in the cloud twice"
        assert set(found) <= set(posted), "the cloud has an image no camera posted"
        async with open_blobs(plan.cloud, "samples") as blobs:
            async for blob in blobs.list():
                assert await blobs.get(blob.name) == posted[Path(blob.name).stem]
        hub = system.settings_of("hub")
        async with Fleet.open(hub["IOTHUB_CONNECTION_STRING"], Path(hub["IOTHUB_CA_FILE"])) as fleet:
            status = await fleet.invoke("laptop", SAMPLER, "status")
        assert status["kept"] == status["uploaded"] == len(found)
        assert status["waiting"] == status["set_aside"] == 0


def system_spool(system) -> list[Path]:
    return list(system.spool.glob("*.sample"))
