"""The loop, small, in real processes: three turns, and what goes wrong on the way, which changes nothing."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from demo.bananas import Drawn, random_picture
from demo.labeller import label_all
from demo.starter import ensure_hurried_model
from demo.system import CLASSIFIER, SAMPLER, TRAINER, System, Training, running, until
from edge import free_port
from retrain.devices.fleet import Fleet
from retrain.judging.judge import BETTER, SAME, WORSE, Rule
from retrain.labels import REVIEW, TAG, Answer, Labels
from retrain.release import Device, release, rollback
from retrain.release import Plan as ReleasePlan
from retrain.settings import Hub
from retrain.turn import past
from retrain.turn.outcome import FAILED, RELEASED, UNDONE
from retrain.turn.settings import Judging, Service, Store, TurnSettings
from retrain.turn.tag.tagging import Plan as TagPlan
from retrain.turn.tag.use import HOLDOUT, TRAINING, Use
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import TrainPolicy
from retrain.turn.turn import run_turn
from ripeloop.blobs import open_blobs
from ripeloop.errors import Offline, Refused
from ripeloop.prediction import image_id
from trainerservice import COMPACT, KEY, training_client
from whole import plan_in

NOW = "2026-11-22T02:10:00Z"
SEED, SIDE = 9, 96
OTHER = {"unripe": "ripe", "ripe": "overripe", "overripe": "unripe"}
PLACE = Device("laptop")
QUICK = Pace(0.05, 0.3, 90)


@dataclass
class Line:
    """Everything that runs, and all that was posted: the truth by image id."""

    system: System
    fleet: Fleet
    client: Any
    project: str
    settings: TurnSettings
    truth: dict[str, str] = field(default_factory=dict)

    @property
    def cloud(self) -> str:
        return self.system.plan.cloud

    async def post(self, first: int, count: int) -> None:
        """A camera posts bananas, and all of them arrive in the cloud."""
        for nth in range(first, first + count):
            one = random_picture(SEED, nth, SIDE)
            self.truth[image_id(one.jpeg)] = one.tag
            await self.answer(one)

        async def there() -> bool:
            return set(await self.uses()) == set(self.truth)

        await until("every picture is in the cloud", there, 60)

    async def answer(self, one: Drawn) -> str:
        """The version that answers."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.system.classifier_url}/image", data=one.jpeg) as response,
        ):
            assert response.status == 200
            return str((await response.json())["iteration"])

    async def label(self) -> int:
        async with open_blobs(self.cloud, "samples") as blobs:
            return await label_all(blobs, self.truth, lambda: NOW)

    async def review(self, wrong: bool) -> None:
        """Somebody decides anew what every image is that models learn from."""
        async with open_blobs(self.cloud, "samples") as blobs:
            async for blob in blobs.list():
                use, tag = Use.of(blob.metadata), self.truth[PurePosixPath(blob.name).stem]
                if use is not None and use.kind == TRAINING:
                    answer = Answer(TAG, (OTHER[tag] if wrong else tag,), "boss", NOW, REVIEW)
                    metadata = Labels.of(blob.metadata).with_answer(answer).into(blob.metadata)
                    await blobs.mark(blob.name, metadata, blob.etag)

    async def uses(self) -> dict[str, str]:
        """What each image in the cloud is for."""
        async with open_blobs(self.cloud, "samples") as blobs:
            found = {PurePosixPath(blob.name).stem: Use.of(blob.metadata) async for blob in blobs.list()}
        return {id_: use.kind if use else "" for id_, use in found.items()}

    async def model(self) -> tuple[Any, Any, str]:
        """The version wanted by the twin, the one it reports as active, and the one that answers a picture."""
        twin = await self.fleet.twin("laptop", CLASSIFIER)
        wanted = (twin.desired.get("model") or {}).get("version")
        return wanted, twin.reported["model"]["version"], await self.answer(random_picture(SEED, 0, SIDE))

    def in_project(self) -> dict[str, str]:
        """The tag of each image there, by the image's id."""
        images = self.client.get_images(self.project, take=256)
        assert len(images) < 256
        return {image_id(self._bytes(one.original_image_uri)): one.tags[0].tag_name for one in images}

    def iterations(self) -> list[str]:
        return sorted(one.status for one in self.client.get_iterations(self.project))

    async def learned(self) -> dict[str, str]:
        """What the project must hold: every image to train on, by its true tag."""
        return {id_: self.truth[id_] for id_, kind in (await self.uses()).items() if kind == TRAINING}

    def _bytes(self, address: str) -> bytes:
        with urllib.request.urlopen(address) as response:
            return bytes(response.read())


@asynccontextmanager
async def line(tmp_path: Path) -> AsyncIterator[Line]:
    starter = await asyncio.to_thread(ensure_hurried_model, tmp_path / "model")
    plan = plan_in(
        tmp_path,
        starter,
        extra={"CLASSIFIER_WATCH_SECONDS": "0", "CLASSIFIER_AUDIT_RATE": "1"},
        training=Training(tmp_path / "trainer", free_port("127.0.0.1"), KEY),
    )
    async with running(plan) as system:
        hub, training = system.settings_of("hub"), plan.training
        assert training is not None
        with training_client(training.url) as client:
            made = client.create_project("fruit", domain_id=COMPACT, classification_type="Multiclass")
            connection = Hub(hub["IOTHUB_CONNECTION_STRING"], Path(hub["IOTHUB_CA_FILE"]))
            settings = TurnSettings(
                Service(training.url, KEY, "fruit"), Store(plan.cloud), tmp_path / "work", hub=connection,
                tagging=TagPlan(0.35), policy=TrainPolicy(min_new=5, min_hours=0), training=QUICK, exporting=QUICK,
                judging=Judging(Rule(min_images=12, min_per_tag=1), active=starter),
                release=ReleasePlan(PLACE, watch=0, poll=0.1, wait=40, pace=0),
            )  # fmt: skip
            async with Fleet.open(connection.connection_string, connection.ca_file) as fleet:
                await fleet.patch_twin("laptop", CLASSIFIER, {"sampling": {"audit_rate": 1}})
                await fleet.patch_twin("laptop", SAMPLER, {"keep": {"near_distance": 0}})
                yield Line(system, fleet, client, str(made.id), settings)


@asynccontextmanager
async def fails_once(folder: Path) -> AsyncIterator[str]:
    """The address of a server of these files, which says once that there are none."""
    asked = 0

    async def get(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise web.HTTPNotFound
        return web.FileResponse(folder / request.match_info["name"])

    app = web.Application()
    app.router.add_get("/{name:.+}", get)
    server = TestServer(app)
    await server.start_server()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()


@pytest.mark.timeout(300)
async def test_three_turns_and_all_that_goes_wrong_on_the_way(tmp_path: Path) -> None:
    async with line(tmp_path) as loop, fails_once(tmp_path / "cloud" / "models") as address:
        started = (await loop.model())[1]
        await first_turn_whose_training_and_download_fail_once(loop, address)
        first = (await loop.model())[1]
        await second_turn_whose_candidate_is_worse(loop)
        assert await loop.model() == (first, first, first)
        await third_turn_that_is_rolled_back(loop)
        assert await loop.model() == (first, first, first)
        assert started != first


async def first_turn_whose_training_and_download_fail_once(loop: Line, address: str) -> None:
    await loop.post(0, 75)
    assert await loop.label() == 75
    before = await loop.model()
    with pytest.raises(Offline):
        await run_turn(loop.settings, killer(loop.system))
    await loop.system.start(TRAINER)
    failed = await run_turn(loop.settings)
    assert (failed.number, failed.outcome) == (1, FAILED)
    assert loop.iterations() == ["Failed"]
    assert await loop.model() == before  # nothing was released

    assert loop.settings.release is not None
    away = replace(loop.settings, release=replace(loop.settings.release, base_url=address))
    turn = await run_turn(away)
    assert (turn.number, turn.outcome) == (2, UNDONE), turn.why
    assert "404" in turn.why
    assert (turn.result("judge") or {})["verdict"] == BETTER
    assert loop.iterations() == ["Completed", "Failed"]
    uses = await loop.uses()
    assert set(uses.values()) == {HOLDOUT, TRAINING}
    assert loop.in_project() == await loop.learned()
    assert await loop.model() == before  # the device could not fetch it, and what was wanted before is wanted again

    package = past.folder_of(loop.settings.work, 2) / past.MODEL
    async with open_blobs(loop.cloud, "models") as store:
        again = replace(loop.settings.release, again=True)  # from another place: the device has given up that one
        released = await release(loop.fleet, store, package, "", again)
    assert released.ok, released.reason
    assert await loop.model() == (released.version,) * 3


async def second_turn_whose_candidate_is_worse(loop: Line) -> None:
    await loop.review(wrong=True)
    turn = await run_turn(loop.settings)
    assert (turn.outcome, (turn.result("judge") or {})["active"]["from"]) == (WORSE, "turn 2")
    learned = await loop.learned()
    assert loop.in_project() == {id_: OTHER[tag] for id_, tag in learned.items()}
    assert loop.iterations() == ["Completed", "Completed", "Failed"]


async def third_turn_that_is_rolled_back(loop: Line) -> None:
    uses = await loop.uses()
    await loop.review(wrong=False)
    await loop.post(75, 25)
    assert await loop.label() == 25
    # it may be no better than the first, which learned almost the same: the explicit word releases it all the same
    turn = await run_turn(replace(loop.settings, judging=replace(loop.settings.judging, accept=frozenset({SAME}))))
    assert turn.outcome == RELEASED, turn.why
    third = (turn.result("judge") or {})["candidate"]
    assert await loop.model() == (third, third, third)
    assert loop.in_project() == await loop.learned()
    assert {id_: kind for id_, kind in (await loop.uses()).items() if id_ in uses} == uses  # what is held out stays so
    async with open_blobs(loop.cloud, "models") as store:
        back = await rollback(loop.fleet, PLACE, "somebody did not like it", store)
    assert back.was == third

    async def is_back() -> bool:
        return len(set(await loop.model())) == 1

    await until("the device has the model before again", is_back, 30)
    assert loop.settings.release is not None
    package = past.folder_of(loop.settings.work, turn.number) / past.MODEL
    async with open_blobs(loop.cloud, "models") as store:
        with pytest.raises(Refused, match="somebody did not like it"):
            await release(loop.fleet, store, package, "", loop.settings.release)


def killer(system: System) -> Any:
    """Hears the lines of a turn, and kills the trainer once it trains."""
    deeds: list[asyncio.Task[None]] = []

    def told(text: str) -> None:
        if text.startswith("train: waiting") and not deeds:
            deeds.append(asyncio.get_running_loop().create_task(system.kill(TRAINER)))

    return told
