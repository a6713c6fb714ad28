"""Images that come as messages are answered as posted ones are, and predictions go out as messages when asked for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from classifier.models.model import Model, load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.pixels.room import Room
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from classifier.serving.handoff import Handoff
from classifier.serving.messages import INPUT, OUTPUT, TRIES, Predictions, answer_images, follow
from colours import TAGS, picture, unsure_picture, zipped
from edge import manifest
from hubs import LIMITS, OF_THE_SDK, bodies, online
from ripeloop.hub import Hub, Message, open_hub
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from ripeloop.uncertainty import Policy
from serving import ITERATION, serving
from wire import Wire


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(zipped(tmp_path_factory.mktemp("model") / "e.zip"))


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - nothing here announces itself
            await asyncio.sleep(0.005)


@asynccontextmanager
async def answering(
    hub: Hub, classifier: Classifier, predictions: Predictions, statuses: Counter[int] | None = None
) -> AsyncIterator[None]:
    """The module's part for messages, until the block ends."""
    counted = Counter() if statuses is None else statuses
    works = [
        asyncio.create_task(work)
        for work in (
            predictions.run(),
            follow(hub, predictions),
            answer_images(hub, classifier, predictions, counted),
            answer_images(hub, classifier, predictions, counted),
        )
    ]
    try:
        yield
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        classifier.close()


async def test_a_message_is_answered_with_the_json_of_http(loaded: Model) -> None:
    hub, counts, statuses = Wire(), Counts(), Counter[int]()
    async with answering(hub, Classifier(Live(loaded), counts, Thresholds(Policy())), Predictions(hub), statuses):
        hub.arriving.put_nowait(Message(picture("lime"), {"camera": "3"}))
        await until(lambda: bool(hub.sent))
    ((output, body, properties),) = hub.sent
    answer = json.loads(body)
    assert output == OUTPUT
    assert list(answer) == ["id", "project", "iteration", "created", "predictions"]
    assert answer["iteration"] == ITERATION
    assert datetime.fromisoformat(answer["created"])
    assert [p["tagName"] for p in answer["predictions"]] == list(TAGS)
    assert answer["predictions"][1]["probability"] > 0.99
    assert properties == {
        "camera": "3",
        "imageId": image_id(picture("lime")),
        "status": "200",
        "source": "message",
    }
    assert (counts.answered, counts.tags, statuses) == (1, {"green": 1}, {200: 1})


@pytest.mark.parametrize("body", [b"", b"no image", picture()[:60]])
async def test_what_is_no_image_is_answered_with_the_problem_and_the_next_goes_on(loaded: Model, body: bytes) -> None:
    hub, counts, statuses = Wire(), Counts(), Counter[int]()
    async with answering(hub, Classifier(Live(loaded), counts, Thresholds(Policy())), Predictions(hub), statuses):
        hub.arriving.put_nowait(Message(body))
        hub.arriving.put_nowait(Message(picture()))
        await until(lambda: len(hub.sent) == 2)
    told = {properties["status"]: json.loads(sent) for _, sent, properties in hub.sent}
    assert told["400"]["code"] == "BadRequestImageFormat"
    assert set(told) == {"200", "400"}
    assert (counts.answered, counts.refused, statuses) == (1, 1, {200: 1, 400: 1})


class Short(Room):
    """The room of a machine that has no memory left for the first image."""

    tried = False

    def of(self, size: int) -> AbstractContextManager[None]:
        if not self.tried:
            self.tried = True
            raise MemoryError
        return super().of(size)


async def test_short_memory_is_told_and_the_next_message_goes_on(tmp_path: Path) -> None:
    short = load(zipped(tmp_path / "e.zip"), room=Short())
    hub, counts, statuses = Wire(), Counts(), Counter[int]()
    async with answering(hub, Classifier(Live(short), counts, Thresholds(Policy())), Predictions(hub), statuses):
        hub.arriving.put_nowait(Message(picture()))
        await until(lambda: len(hub.sent) == 1)
        hub.arriving.put_nowait(Message(picture()))
        await until(lambda: len(hub.sent) == 2)
    assert [properties["status"] for _, _, properties in hub.sent] == ["503", "200"]
    assert json.loads(hub.sent[0][1])["code"] == "ServiceUnavailable"
    assert (counts.answered, counts.refused, counts.failed, statuses) == (1, 1, 0, {503: 1, 200: 1})


async def test_an_uncertain_image_of_a_message_is_flagged_as_a_posted_one(loaded: Model, tmp_path: Path) -> None:
    hub, counts, spool = Wire(), Counts(), Spool(tmp_path)
    handoff = Handoff(spool, hub, counts)
    classifier = Classifier(Live(loaded), counts, Thresholds(Policy(audit_rate=0)), handoff)
    async with handoff.running(), answering(hub, classifier, Predictions(hub)):
        for image in (unsure_picture(1), picture()):
            hub.arriving.put_nowait(Message(image))
        await until(lambda: len([sent for sent in hub.sent if sent[0] == OUTPUT]) == 2)
    assert spool.ids() == [image_id(unsure_picture(1))]


async def test_a_message_waits_for_a_place_and_is_not_refused(loaded: Model) -> None:
    hub, counts = Wire(), Counts()
    classifier = Classifier(Live(loaded), counts, Thresholds(Policy()), max_in_flight=1)
    async with answering(hub, classifier, Predictions(hub)):
        with classifier.place():
            hub.arriving.put_nowait(Message(picture()))
            await asyncio.sleep(0.1)
            assert hub.sent == []
        await until(lambda: len(hub.sent) == 1)
    assert (counts.answered, counts.refused) == (1, 0)


async def test_a_hub_that_is_away_for_a_moment_costs_no_prediction(
    loaded: Model, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Wire()
    hub.online = False
    predictions = Predictions(hub, retry=0.1)
    async with answering(hub, Classifier(Live(loaded), Counts(), Thresholds(Policy())), predictions):
        hub.arriving.put_nowait(Message(picture()))
        await asyncio.sleep(0.15)
        hub.online = True
        await until(lambda: len(hub.sent) == 1)
    assert predictions.lost == 0
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_predictions_that_cannot_be_sent_are_bounded_counted_and_told_once(
    loaded: Model, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Wire()
    hub.online = False
    predictions = Predictions(hub, waiting=5, retry=0.01)
    predictions.wanted = True
    classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy()))
    async with serving(classifier, predictions=predictions) as client:
        for _ in range(20):
            async with client.post("/image", data=picture()) as response:
                assert response.status == 200  # no camera waits for the hub
    assert predictions.lost == 15
    sending = asyncio.create_task(predictions.run())
    await until(lambda: predictions.lost == 20, 0.01 * TRIES * 5 + 5)
    hub.online = True
    predictions.posted(picture(), await Classifier(Live(loaded), Counts(), Thresholds(Policy())).classify(picture()))
    await until(lambda: len(hub.sent) == 1)
    sending.cancel()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_posted_images_are_told_only_while_the_twin_wants_it(loaded: Model) -> None:
    hub = Wire()
    predictions = Predictions(hub)
    classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy()))
    async with answering(hub, classifier, predictions), serving(classifier, predictions=predictions) as client:

        async def told(desired: Mapping[str, Any], image: bytes) -> int:
            hub.twin.put_nowait(dict(desired))
            async with asyncio.timeout(5):
                await hub.news.get()
            hub.sent.clear()
            async with client.post("/image", data=image) as response:
                answer = await response.json()
            await asyncio.sleep(0.05)
            for _, body, properties in hub.sent:
                assert json.loads(body)["predictions"] == answer["predictions"]
                assert properties == {"imageId": image_id(image), "status": "200", "source": "http"}
            return len(hub.sent)

        assert await told({}, picture("red")) == 0
        assert await told({"report": {"predictions": True, "unknown": 1}}, picture("lime")) == 1
        assert await told({"report": {"predictions": "yes"}}, picture("blue")) == 1  # refused: as before
        assert "true or false" in hub.reported[-1]["refused"]["report"]["predictions"]
        assert hub.reported[-1]["report"] == {"predictions": True}
        assert await told({"report": 7}, picture("blue")) == 1
        assert "an object" in hub.reported[-1]["refused"]["report"]
        assert await told({"report": {}}, picture("red")) == 0
        assert hub.reported[-1] == {"report": {"predictions": False}, "refused": {"report": {"predictions": None}}}


class TestOverTheEdgeHub:
    pytestmark = OF_THE_SDK

    async def test_a_module_sends_an_image_and_hears_what_it_shows(
        self, edge_factory: Any, loaded: Model, tmp_path: Path
    ) -> None:
        routes = {
            "in": (
                'FROM /messages/modules/camera/outputs/shots INTO BrokeredEndpoint("/modules/classifier/inputs/images")'
            ),
            "out": (
                "FROM /messages/modules/classifier/outputs/predictions WHERE status = '200' "
                'INTO BrokeredEndpoint("/modules/camera/inputs/seen")'
            ),
        }
        edge = edge_factory(manifest(modules=("classifier", "camera"), routes=routes))
        classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy()))
        box = tmp_path / "classifier.db"
        async with (
            open_hub(edge.environ("classifier"), mailbox=box, inputs=[INPUT], limits=LIMITS) as hub,
            open_hub(edge.environ("camera"), mailbox=tmp_path / "camera.db", inputs=["seen"], limits=LIMITS) as camera,
            answering(hub, classifier, Predictions(hub)),
        ):
            await online(edge, "classifier", "camera")
            large = picture("blue", (200, 200), "BMP")
            assert len(large) > 100_000
            for image in (picture("red"), b"no image", large):
                await camera.post("shots", image)
            seen = [json.loads(body) for body in await bodies(camera, "seen", 2)]
        best = [max(answer["predictions"], key=lambda p: p["probability"])["tagName"] for answer in seen]
        assert sorted(best) == ["blue", "red"]
