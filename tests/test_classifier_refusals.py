"""What the classifier refuses over HTTP: with which status, in which words, and never with 415 or 422."""

from __future__ import annotations

import gzip
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest
from aiohttp.test_utils import TestClient
from PIL import Image

from classifier.models.export import read
from classifier.models.model import Model, load
from classifier.numbers.metrics import Metrics
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.pixels.room import Room
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from classifier.serving.guard import Limits
from colours import picture, unsure_picture, zipped
from ripeloop.errors import BadModel
from ripeloop.prediction import Prediction
from ripeloop.uncertainty import Policy
from serving import MAX_BODY, serving


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load(zipped(tmp_path_factory.mktemp("model") / "e.zip"), 2)


@pytest.fixture
async def client(loaded: Model) -> AsyncIterator[TestClient[Any, Any]]:
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy()))) as client:
        yield client


def one_colour(mode: str, size: tuple[int, int], form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, form)
    return out.getvalue()


BAD_IMAGES = {
    "empty": b"",
    "text": b"<html>not found</html>",
    "PNG cut short": unsure_picture(1)[:-100],
    "JPEG cut short": picture("red", (300, 300), "JPEG")[:700],
    "PNG with a flipped byte": picture()[:45] + b"\xff" + picture()[46:],
    "GIF header alone": b"GIF89a",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": b"%PDF-1.7\n",
    "Photoshop": b"8BPS\0\1" + bytes(40),
    "EPS, which runs a program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "icon": one_colour("RGB", (16, 16), "ICO"),
    "wider than 10,240 px": one_colour("L", (10_241, 1)),
    "higher than 10,240 px": one_colour("L", (1, 10_241)),
    "decompression bomb": one_colour("1", (10_240, 10_240)),
}


@pytest.mark.parametrize("text", ["file:///etc/passwd", "/etc/passwd", "http://127.0.0.1/a.png"])
async def test_a_text_field_never_reads_a_file(client: TestClient[Any, Any], tmp_path: Path, text: str) -> None:
    (tmp_path / "real.png").write_bytes(picture())
    for value in (text, str(tmp_path / "real.png"), (tmp_path / "real.png").as_uri()):
        for name in ("imageData", "url"):
            form = aiohttp.FormData(default_to_multipart=True)
            form.add_field(name, value)
            async with client.post("/image", data=form) as response:
                assert response.status == 400


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "BadRequestImageFormat"),
        (b"no image", {}, 400, "BadRequestImageFormat"),
        (picture()[:60], {}, 400, "BadRequestImageFormat"),
        (bytes(MAX_BODY + 1), {}, 413, "BadRequestImageSizeBytes"),
        (b"--b\r\n\r\n", {"Content-Type": "multipart/form-data; boundary=b"}, 400, "BadRequestImageFormat"),
        (b"x", {"Content-Type": "multipart/form-data"}, 400, "BadRequestImageFormat"),
        (b"not packed", {"Content-Encoding": "gzip"}, 400, "BadRequestImageFormat"),
    ],
)
async def test_a_refusal_is_json_with_the_right_status_and_words(
    client: TestClient[Any, Any], body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with client.post("/image", data=body, headers=headers) as response:
        problem = await response.json()
    assert (response.status, problem["code"]) == (status, code)
    assert len(problem["message"]) > 20


@pytest.mark.parametrize("name", BAD_IMAGES)
@pytest.mark.parametrize("route", ["/image", "/customvision/v3.1/prediction/p/classify/iterations/i/image/nostore"])
async def test_what_is_no_usable_image_is_refused_with_400(client: TestClient[Any, Any], route: str, name: str) -> None:
    assert len(BAD_IMAGES[name]) < MAX_BODY
    form = aiohttp.FormData({"imageData": io.BytesIO(BAD_IMAGES[name])})
    for body in (BAD_IMAGES[name], form):
        async with client.post(route, data=body) as response:
            problem = await response.json()
        assert (response.status, list(problem)) == (400, ["code", "message"])
        assert problem["code"] == "BadRequestImageFormat"


@pytest.mark.parametrize(
    "content_type",
    ["application/octet-stream; charset=binary", "nonsense", "a/b/c", "multipart", 'text/html; q="', "*/*"],
)
async def test_no_content_type_is_refused_as_such(client: TestClient[Any, Any], content_type: str) -> None:
    for body, status in ((picture(), 200), (b"no image", 400)):
        async with client.post("/image", data=body, headers={"Content-Type": content_type}) as response:
            assert response.status == status


async def test_a_body_over_the_limit_is_refused_with_413_however_it_is_sent(client: TestClient[Any, Any]) -> None:
    large = bytes(MAX_BODY + 1)

    async def in_chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 10_000):
            yield large[at : at + 10_000]

    for body in (large, in_chunks(), aiohttp.FormData({"imageData": io.BytesIO(large)})):
        async with client.post("/image", data=body) as response:
            problem = await response.json()
        assert (response.status, problem["code"]) == (413, "BadRequestImageSizeBytes")
    async with client.post("/image", data=picture()) as response:
        assert response.status == 200


async def test_an_image_of_just_the_limit_is_taken(loaded: Model) -> None:
    image = picture("red", (900, 500), "BMP")
    async with serving(Classifier(Live(loaded), Counts(), Thresholds(Policy())), limits=Limits(len(image))) as client:
        for body, status in ((image, 200), (image + b"\0", 413)):
            async with client.post("/image", data=body) as response:
                assert response.status == status


async def test_other_paths_and_methods_are_refused_in_the_same_json(client: TestClient[Any, Any]) -> None:
    for method, path, status in [
        ("GET", "/image", 405),
        ("POST", "/a/b/c", 404),
        ("POST", "/p/guess/iterations/i/image", 404),
        ("POST", "/url", 404),
        ("POST", "/p/classify/iterations/i/url/nostore", 404),
    ]:
        async with client.request(method, path, json={"url": "http://127.0.0.1/"}) as response:
            assert response.status == status
            assert set(await response.json()) == {"code", "message"}


async def test_a_body_that_unpacks_to_more_than_the_limit_is_refused(client: TestClient[Any, Any]) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < MAX_BODY
    async with client.post("/image", data=bomb, headers={"Content-Encoding": "gzip"}) as response:
        assert response.status in {400, 413}


class Failing(Model):
    """Fails on every image, as a model does whose weights are damaged."""

    def answer(self, tensor: object, *, alone: bool = False) -> tuple[Prediction, ...]:
        raise BadModel("the model failed on an image")


async def test_what_never_reached_the_model_is_refused_and_no_failure_of_it(loaded: Model, tmp_path: Path) -> None:
    counts, live = Counts(), Live(loaded)
    classifier = Classifier(live, counts, Thresholds(Policy()))
    metrics = Metrics(classifier, counts)
    key = {"Prediction-Key": "key"}
    async with serving(classifier, metrics=metrics, prediction_key="key") as client:

        async def post(path: str, body: bytes, headers: dict[str, str], status: int) -> None:
            async with client.post(path, data=body, headers=headers) as response:
                assert response.status == status

        await post("/image", picture(), key, 200)
        await post("/wp-login.php", b"log=in", {}, 404)
        await post("/", b"", {}, 405)
        await post("/image", picture(), {}, 401)
        await post("/image", b"", key, 400)
        assert (counts.answered, counts.refused, counts.failed) == (1, 2, 0)
        live.swap(Failing(read(zipped(tmp_path / "e.zip"))))
        await post("/image", picture(), key, 500)
        assert (counts.answered, counts.refused, counts.failed, live.serving.figures.failed) == (1, 3, 1, 1)
    assert metrics.statuses == {200: 1, 401: 1, 400: 1, 500: 1}


class Short(Room):
    """The room of a machine that has no memory left."""

    def of(self, size: int) -> NoReturn:
        raise MemoryError


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
async def test_short_memory_is_no_fault_of_the_image(tmp_path: Path, form: str) -> None:
    short, counts = load(zipped(tmp_path / "e.zip"), room=Short()), Counts()
    async with (
        serving(Classifier(Live(short), counts, Thresholds(Policy()))) as client,
        client.post("/image", data=picture(form=form)) as response,
    ):
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert (await response.json())["code"] == "ServiceUnavailable"
    assert (counts.answered, counts.refused, counts.failed) == (0, 1, 0)


class Faulty(Model):
    """Fails in a way that nobody foresaw."""

    def prepared(self, image: bytes, *, exact: bool = False) -> NoReturn:
        raise ZeroDivisionError


async def test_what_nobody_foresaw_is_counted(tmp_path: Path) -> None:
    counts, live = Counts(), Live(Faulty(read(zipped(tmp_path / "e.zip"))))
    classifier = Classifier(live, counts, Thresholds(Policy()))
    metrics = Metrics(classifier, counts)
    async with serving(classifier, metrics=metrics) as client, client.post("/image", data=picture()) as response:
        assert response.status == 500
    assert (counts.refused, counts.failed, metrics.statuses) == (1, 0, {500: 1})
