"""The routes, the JSON and the refusals of the classifier, over real HTTP with a real model."""

from __future__ import annotations

import asyncio
import errno
import gzip
import io
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from PIL import Image

from classifier.models.model import Model, load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.pixels.room import Room
from classifier.rollout.live import Live
from classifier.serving.app import MAX_FETCHES
from classifier.serving.classify import Classifier
from classifier.serving.guard import Limits, OncePerMinute
from classifier.serving.handoff import Handoff
from classifier.serving.url import Hosts, fetching
from colours import TAGS, files, model, picture, unsure_picture, zipped
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from ripeloop.uncertainty import Policy
from sampling import until
from serving import ITERATION, MAX_BODY, WebServer, serving
from wire import Wire

IMAGE_ROUTES = [
    f"{prefix}/image{store}"
    for prefix in ("", "/fruit", "/fruit/classify/iterations/Iteration1", "/fruit/detect/iterations/Iteration1")
    for store in ("", "/nostore")
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(zipped(tmp_path_factory.mktemp("model") / "e.zip"), 2)


@pytest.fixture
async def client(loaded: Model) -> AsyncIterator[TestClient[Any, Any]]:
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy()))) as client:
        yield client


async def test_the_root_says_what_the_container_says(client: TestClient[Any, Any]) -> None:
    async with client.get("/") as response:
        assert await response.text() == "CustomVision.ai model host harness"
    async with client.get("/healthz") as response:
        assert response.status == 200


@pytest.mark.parametrize("route", IMAGE_ROUTES)
async def test_every_route_answers_in_the_containers_json(client: TestClient[Any, Any], route: str) -> None:
    async with client.post(route, data=picture("blue")) as response:
        assert response.status == 200
        answer = await response.json()
    assert list(answer) == ["id", "project", "iteration", "created", "predictions"]
    assert (answer["id"], answer["project"], answer["iteration"]) == ("", "", ITERATION)
    created = datetime.fromisoformat(answer["created"])
    assert created.tzinfo is None
    assert abs((datetime.now(UTC).replace(tzinfo=None) - created).total_seconds()) < 10
    predictions = answer["predictions"]
    assert [p["tagName"] for p in predictions] == list(TAGS)  # the model's order, not the likeliest first
    assert [list(p) for p in predictions] == [["tagName", "probability", "tagId", "boundingBox"]] * 3
    assert all(p["tagId"] == "" and p["boundingBox"] is None for p in predictions)
    assert all(p["probability"] == round(p["probability"], 8) for p in predictions)
    assert predictions[2]["probability"] > 0.99


@pytest.mark.parametrize(
    "content_type",
    [
        "application/octet-stream",
        "image/jpeg",
        "text/plain",
        "application/json",
        "application/x-www-form-urlencoded",
        "",
    ],
)
async def test_a_raw_body_is_an_image_whatever_its_content_type(
    client: TestClient[Any, Any], content_type: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    skip = () if content_type else ("Content-Type",)
    async with client.post("/image", data=picture(), headers=headers, skip_auto_headers=skip) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize(
    "fields",
    [
        [("imageData", "a.png", b"image")],
        [("imageData", None, b"image")],  # as the Custom Vision SDK posts it
        [("file", "a.png", b"image")],
        [("note", None, b"hello"), ("photo", "b.jpg", b"image")],
        [("other", "a.txt", b"no image"), ("imageData", "a.png", b"image")],
    ],
)
async def test_a_form_brings_its_image_in_imagedata_or_as_its_only_file(
    client: TestClient[Any, Any], fields: list[tuple[str, str | None, bytes]]
) -> None:
    form = aiohttp.MultipartWriter("form-data")
    for name, filename, value in fields:
        part = form.append(picture("lime") if value == b"image" else value)
        named = {"name": name, "filename": filename} if filename else {"name": name}
        part.set_content_disposition("form-data", True, **named)
    async with client.post("/image", data=form) as response:
        answer = await response.json()
        assert response.status == 200, answer
    assert answer["predictions"][1]["probability"] > 0.99


async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(client: TestClient[Any, Any]) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < MAX_BODY
    async with client.post("/image", data=bomb, headers={"Content-Encoding": "gzip"}) as response:
        assert response.status in {400, 413}


async def test_a_raw_image_called_a_form_is_taken_for_what_it_is(client: TestClient[Any, Any]) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=b"):
        async with client.post("/image", data=picture(), headers={"Content-Type": kind}) as response:
            assert response.status == 200, await response.text()


async def test_the_address_that_custom_vision_shows_may_have_its_capital(client: TestClient[Any, Any]) -> None:
    for spelled, status in (("Prediction", 200), ("prediction", 200), ("PREDICTION", 404)):
        route = f"/customvision/v3.0/{spelled}/p/classify/iterations/i/image"
        async with client.post(route, data=picture()) as response:
            assert response.status == status
            assert status != 200 or (await response.json())["project"] == "p"


async def test_slow_fetches_by_url_keep_no_camera_out(loaded: Model, web_server: WebServer) -> None:
    web_server.add("/slow", delay=2, body=picture())
    url = {"url": f"http://{web_server.host}/slow"}
    classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy()), max_in_flight=2)
    hosts = Hosts.parse(web_server.host, private=True)
    async with fetching(hosts, max_bytes=MAX_BODY) as fetch, serving(classifier, fetch=fetch) as client:

        async def by_url() -> int:
            async with client.post("/url", json=url) as response:
                return response.status

        fetches = [asyncio.create_task(by_url()) for _ in range(MAX_FETCHES)]
        await until(lambda: len(web_server.asked) == MAX_FETCHES)
        assert await by_url() == 503
        async with client.post("/image", data=picture()) as response:
            assert response.status == 200
        assert set(await asyncio.gather(*fetches)) <= {200, 503}
        assert await by_url() == 200


async def test_closing_waits_for_no_image_however_long_it_takes(tmp_path: Path) -> None:
    room = Room()
    waiting = load(zipped(tmp_path / "e.zip"), 1, room=room)
    classifier = Classifier(Live(waiting), Counts(), Thresholds(Policy()))
    with room.of(10**12):
        under_way = asyncio.create_task(classifier.classify(picture()))
        await asyncio.sleep(0.2)
        closing = asyncio.create_task(asyncio.to_thread(classifier.close))
        done, _ = await asyncio.wait({closing}, timeout=2)
        assert done
        assert not under_way.done()
    assert (await under_way).predictions


async def half_a_post(client: TestClient[Any, Any]) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection(client.host, client.port)
    writer.write(b"POST /image HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf")
    await writer.drain()
    return writer


async def test_clients_that_send_half_a_body_take_no_place_from_a_camera(loaded: Model) -> None:
    counts = Counts()
    async with serving(Classifier(Live(loaded), counts, Thresholds(Policy()), max_in_flight=1)) as client:
        halves = [await half_a_post(client) for _ in range(3)]
        await asyncio.sleep(0.1)
        async with client.post("/image", data=picture()) as response:
            assert response.status == 200
        for writer in halves:
            writer.close()
            await writer.wait_closed()
    assert counts.answered == 1


async def test_bodies_on_their_way_in_are_bounded_and_one_that_leaves_makes_room(loaded: Model) -> None:
    limits = Limits(MAX_BODY, count=2)
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy())), limits) as client:
        halves = [await half_a_post(client) for _ in range(2)]
        await asyncio.sleep(0.1)
        for status in (503, 200):
            async with client.post("/image", data=picture()) as response:
                assert response.status == status
            halves[0].close()
            await asyncio.sleep(0.1)
        halves[1].close()
        await asyncio.gather(*(writer.wait_closed() for writer in halves))


async def test_bytes_on_their_way_in_are_bounded(loaded: Model) -> None:
    limits = Limits(MAX_BODY, together=500)
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy())), limits) as client:
        half = await half_a_post(client)
        await asyncio.sleep(0.1)
        async with client.post("/image", data=bytes(500)) as response:
            assert response.status == 503
        half.close()
        await half.wait_closed()


async def test_a_body_that_trickles_is_refused_and_one_that_is_slow_is_taken(loaded: Model) -> None:
    limits = Limits(MAX_BODY, grace=0.3, rate=100)

    async def slowly(pause: float) -> AsyncIterator[bytes]:
        image = picture()
        for at in range(0, len(image), 50):
            yield image[at : at + 50]
            await asyncio.sleep(pause)

    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy())), limits) as client:
        async with client.post("/image", data=slowly(0.25)) as response:
            assert response.status == 200
        reader, writer = await asyncio.open_connection(client.host, client.port)
        writer.write(b"POST /image HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(12):
            writer.write(b"x")
            await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_the_limit_counts_the_image_and_not_the_form_around_it(client: TestClient[Any, Any]) -> None:
    image = picture()
    for extra, status in ((0, 200), (1, 413), (200_000, 413)):
        padded = image + bytes(MAX_BODY - len(image) + extra)
        form = aiohttp.FormData()
        form.add_field("imageData", padded, filename="a.png")
        for data in (padded, form):
            async with client.post("/image", data=data) as response:
                problem = await response.json()
                assert response.status == status, problem
                assert status == 200 or f"size {MAX_BODY} exceeded" in problem["message"]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary*=undefined''%ff",
        "multipart/form-data; boundary*0*=idna''%ff; boundary*1=x",
        "multipart/form-data; boundary*" + "9" * 5000 + "=x",
        "multipart/form-data; boundary*=a; boundary*0=b",
        'multipart/form-data; a="' + ";" * 7000,
        "image/jpeg; name*" + "9" * 5000 + "=x",
    ],
)
async def test_a_hostile_content_type_is_the_senders_fault(client: TestClient[Any, Any], content_type: str) -> None:
    async with client.post("/image", data=b"--x\r\n", headers={"Content-Type": content_type}) as response:
        assert response.status == 400
        assert (await response.json())["code"] == "BadRequestImageFormat"


async def test_more_than_may_be_in_flight_are_told_to_come_again(tmp_path: Path) -> None:
    slow = load(zipped(tmp_path / "e.zip", files(model())))
    counts = Counts()
    big = picture(size=(3000, 3000))
    async with serving(Classifier(Live(slow), counts, Thresholds(Policy()), max_in_flight=2)) as client:

        async def post() -> tuple[int, str | None]:
            async with client.post("/image", data=big) as response:
                body = await response.json()
                assert response.status == 200 or body["message"]
                return response.status, response.headers.get("Retry-After")

        answers = await asyncio.gather(*(post() for _ in range(12)))
    assert {status for status, _ in answers} == {200, 503}
    assert all(retry == "1" for status, retry in answers if status == 503)
    assert counts.answered + counts.refused == 12


async def test_nostore_never_flags_and_the_others_do(loaded: Model, tmp_path: Path) -> None:
    counts, hub, spool = Counts(), Wire(), Spool(tmp_path)
    handoff = Handoff(spool, hub, counts)
    images = {route: unsure_picture(n) for n, route in enumerate(IMAGE_ROUTES)}
    async with handoff.running(), serving(Classifier(Live(loaded), counts, Thresholds(Policy()), handoff)) as client:
        for route, image in images.items():
            async with client.post(route, data=image) as response:
                assert response.status == 200
    kept = {image_id(image) for route, image in images.items() if not route.endswith("nostore")}
    assert set(spool.ids()) == kept
    assert counts.flagged.total() == counts.stored == len(kept) == 4


async def test_what_is_flagged_carries_all_the_sampler_needs(loaded: Model, tmp_path: Path) -> None:
    counts, hub, spool = Counts(), Wire(), Spool(tmp_path)
    handoff = Handoff(spool, hub, counts)
    image = unsure_picture(1)
    classifier = Classifier(Live(loaded), counts, Thresholds(Policy(audit_rate=0)), handoff, chance=lambda: 0.5)
    async with handoff.running(), serving(classifier) as client:
        async with client.post("/image", data=picture("red")) as response:  # sure: leaves no trace
            assert response.status == 200
        async with client.post("/image", data=image, headers={"Content-Type": "text/lies"}) as response:
            answer = await response.json()
    record, stored = spool.take(image_id(image))
    assert stored == image
    assert (record.reason, record.model, record.content_type) == ("low_confidence", loaded.version, "image/png")
    assert [(p.tag, round(p.probability, 8)) for p in record.predictions] == [
        (p["tagName"], p["probability"]) for p in answer["predictions"]
    ]
    assert spool.ids() == [record.id]
    assert hub.sent == [("uncertain", record.to_json(), {"reason": "low_confidence"})]
    assert json.loads(hub.sent[0][1])["id"] == record.id


async def test_what_is_flagged_says_what_it_looks_like_and_which_camera_saw_it(loaded: Model, tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    handoff = Handoff(spool, Wire(), Counts())
    classifier = Classifier(Live(loaded), Counts(), Thresholds(Policy(audit_rate=1)), handoff)
    buffer = io.BytesIO()
    Image.linear_gradient("L").transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG")
    posted = {"?application=line%201": buffer.getvalue(), "?application=" + "x" * 999: picture("red")}
    async with handoff.running(), serving(classifier) as client:
        for query, image in posted.items():
            async with client.post(f"/image{query}", data=image) as response:
                assert response.status == 200
    record, _ = spool.take(image_id(buffer.getvalue()))
    assert (record.dhash, record.camera) == ("f" * 64, "line 1")
    record, _ = spool.take(image_id(picture("red")))
    assert (record.dhash, record.camera) == ("", "x" * 64)


async def test_an_audit_keeps_sure_images_too(loaded: Model, tmp_path: Path) -> None:
    counts, spool = Counts(), Spool(tmp_path)
    handoff = Handoff(spool, Wire(), counts)
    draws = iter([0.01, 0.9])
    classifier = Classifier(
        Live(loaded), counts, Thresholds(Policy(audit_rate=0.1)), handoff, chance=lambda: next(draws)
    )
    async with handoff.running(), serving(classifier) as client:
        for colour in ("red", "blue"):
            async with client.post("/image", data=picture(colour)) as response:
                assert response.status == 200
    assert spool.ids() == [image_id(picture("red"))]
    assert counts.flagged == {"audit": 1}


async def test_side_by_side_requests_get_their_own_answers(client: TestClient[Any, Any]) -> None:
    async def best(tag: str) -> str:
        async with client.post("/image", data=picture({"green": "lime"}.get(tag, tag))) as response:
            return str(max((await response.json())["predictions"], key=lambda p: p["probability"])["tagName"])

    wanted = [TAGS[n % 3] for n in range(48)]
    assert await asyncio.gather(*map(best, wanted)) == wanted


def test_no_more_sockets_is_said_once_a_minute() -> None:
    def full(seconds: float, number: int = errno.EMFILE, message: str = "socket.accept()") -> logging.LogRecord:
        error = OSError(number, "x")
        record = logging.LogRecord("asyncio", logging.ERROR, "x", 1, message, (), (OSError, error, None))
        record.created = seconds
        return record

    quiet = OncePerMinute()
    said = [seconds for seconds in range(1000, 1180) for _ in range(128) if quiet.filter(full(seconds))]
    assert said == [1000, 1060, 1120]
    assert quiet.filter(full(1121, errno.EIO))
    assert not quiet.filter(full(1121, errno.EBADF, "Exception in callback BaseSelectorEventLoop._start_serving()"))
    assert quiet.filter(logging.makeLogRecord({}))
