"""`ripeloop compare`: two real classifiers, the one as the edge, the other on the cloud's routes."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from classifier.models.model import load
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.rollout.live import Live
from classifier.serving.classify import Classifier
from classifier.serving.handoff import Handoff
from colours import files, picture, zipped
from retrain.__main__ import main
from retrain.compare.compare import Comparison, Pair, compare, find_images
from retrain.compare.endpoints import MAX_ANSWER, Said, Side, cloud_side, edge_side
from ripeloop.errors import Offline, Refused, SettingsError
from ripeloop.prediction import image_id
from ripeloop.spool import Spool
from ripeloop.uncertainty import Policy
from serving import PROJECT, serving
from wire import Wire

KEY = "a-key-that-nobody-else-has"
PUBLISHED = f"/customvision/v3.0/Prediction/{PROJECT}/classify/iterations/Iteration2"


@pytest.fixture
def classifier(tmp_path: Path) -> Callable[..., Classifier]:
    def make(tags: tuple[str, ...] = ("red", "green", "blue"), handoff: Handoff | None = None) -> Classifier:
        content = files() | {"labels.txt": "\n".join(tags).encode()}
        model = load(zipped(tmp_path / f"{'-'.join(tags)}.zip", content))
        return Classifier(Live(model), Counts(), Thresholds(Policy()), handoff, chance=lambda: 0.0)  # all are flagged

    return make


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    (folder / "notes.txt").write_text("no image")
    for name, colour in (("a.png", "red"), ("b.png", "lime"), ("inner/c.png", "blue")):
        (folder / name).write_bytes(picture(colour))
    return find_images([folder])


@asynccontextmanager
async def cloud(*answers: web.Response | None) -> AsyncIterator[tuple[Side, list[web.Request]]]:
    """A published endpoint that gives these answers in turn, and then its own."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        asked.append(request)
        told = answers[len(asked) - 1] if len(asked) <= len(answers) else None
        said = [{"tagName": "red", "probability": 0.9}, {"tagName": "blue", "probability": 0.1}]
        return told or web.json_response({"predictions": said})

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with TestServer(app) as server:
        yield cloud_side(str(server.make_url(f"{PUBLISHED}/image")), KEY), asked


async def test_two_of_the_same_model_give_the_same_answers(classifier: Any, images: list[Path]) -> None:
    done: list[int] = []
    async with serving(classifier()) as near, serving(classifier(), prediction_key=KEY) as far:
        edge = edge_side(str(near.make_url("/")))
        published = cloud_side(str(far.make_url(f"{PUBLISHED}/image".replace("Prediction", "prediction"))), KEY)
        found = await compare(edge, published, images, seen=done.append)
    assert [Path(pair.image).name for pair in found.pairs] == ["a.png", "b.png", "c.png"]
    assert [pair.edge.tag for pair in found.pairs] == ["red", "green", "blue"]
    assert found.different == []
    assert (found.edge.answered, found.cloud.answered, found.edge.refused) == (3, 3, 0)
    assert 0 < found.edge.p50 <= found.edge.p99
    assert done == [1, 2, 3]


async def test_every_answer_that_differs_is_told(classifier: Any, images: list[Path]) -> None:
    async with serving(classifier()) as near, serving(classifier(("red", "blue", "green"))) as far:
        published = cloud_side(str(far.make_url(f"{PUBLISHED}/image".replace("Prediction", "prediction"))), KEY)
        found = await compare(edge_side(str(near.make_url("/"))), published, images)
    differ = {Path(pair.image).name: (pair.edge.tag, pair.cloud.tag) for pair in found.different}
    assert differ == {"b.png": ("green", "blue"), "c.png": ("blue", "green")}
    assert found.to_json()["different"][0]["apart"] > 0.9


async def test_neither_side_keeps_what_is_compared(classifier: Any, images: list[Path], tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    handoff = Handoff(spool, Wire(), Counts())
    async with handoff.running(), serving(classifier(handoff=handoff)) as near, cloud() as (published, asked):
        await compare(edge_side(str(near.make_url("/image"))), published, images)
        assert spool.ids() == []
        await near.post("/image", data=picture())
        assert spool.ids() == [image_id(picture())]
    assert {request.path for request in asked} == {f"{PUBLISHED}/image/nostore"}
    assert {request.headers["Prediction-Key"] for request in asked} == {KEY}


async def test_being_asked_to_wait_is_no_slow_answer(classifier: Any, images: list[Path]) -> None:
    gateway = {"error": {"code": "429", "message": "retry after 1 second"}}
    wait = web.json_response(gateway, status=429, headers={"Retry-After": "0.3"})
    async with serving(classifier()) as near, cloud(None, wait) as (published, asked):
        found = await compare(edge_side(str(near.make_url("/"))), published, images)
    assert found.cloud.answered == 3
    assert len(asked) == 5
    assert max(pair.cloud.seconds for pair in found.pairs) < 0.3


async def test_an_image_that_one_side_refuses_differs(classifier: Any, images: list[Path]) -> None:
    no = web.json_response({"code": "BadRequestImageSizeBytes", "message": "too large"}, status=400)
    async with serving(classifier()) as near, cloud(None, no) as (published, _):
        found = await compare(edge_side(str(near.make_url("/"))), published, images[:1])
    assert [pair.cloud.refusal for pair in found.different] == ["400 too large"]
    assert found.to_json()["cloud"] == {"answered": 0, "refused": 1}


async def test_what_both_refuse_is_no_same_answer(classifier: Any, tmp_path: Path) -> None:
    junk = tmp_path / "junk.jpg"
    junk.write_text("no image")
    good = tmp_path / "good.png"
    good.write_bytes(picture())
    async with serving(classifier()) as near, serving(classifier()) as far:
        arguments = ["--edge", str(near.make_url("/")), "--cloud", str(far.make_url(f"{PUBLISHED}/image")), str(junk)]
        run = CliRunner(env={"RIPELOOP_PREDICTION_KEY": KEY, "COLUMNS": "300"})
        table = await asyncio.to_thread(run.invoke, main, ["compare", *arguments])
        told = await asyncio.to_thread(run.invoke, main, ["compare", "--json", *arguments])
        both = await asyncio.to_thread(run.invoke, main, ["compare", *arguments, str(good)])
    assert (table.exit_code, told.exit_code, both.exit_code) == (1, 1, 0)
    assert "the same" not in table.output
    assert "error: no image was answered by both" in table.stderr
    assert "400 not an image file" in table.stdout
    assert [pair["image"] for pair in json.loads(told.stdout)["unanswered"]] == [str(junk)]
    assert "the answers are the same" in both.stdout
    assert "1 refused by both" in both.stdout


@pytest.mark.parametrize("first", [True, False])
async def test_answers_that_were_paid_for_are_shown_where_the_quota_ends(
    classifier: Any, images: list[Path], first: bool
) -> None:
    gateway = {"error": {"code": "403", "message": "Out of call volume quota."}}
    quota = web.json_response(gateway, status=403)
    answers = [None, quota] if first else [None, None, None, quota]  # the very first is not timed
    async with serving(classifier()) as near, cloud(*answers) as (published, _):
        arguments = ["--edge", str(near.make_url("/")), "--cloud", published.url, "--json", str(images[0].parent)]
        run = CliRunner(env={"RIPELOOP_PREDICTION_KEY": KEY})
        told = await asyncio.to_thread(run.invoke, main, ["compare", *arguments])
    assert told.exit_code == 1
    assert "Out of call volume quota" in told.stderr
    found = json.loads(told.stdout)
    if first:  # there is nothing to show
        assert found["kind"] == "Refused"
    else:
        assert (found["images"], found["cloud"]["answered"]) == (2, 2)
        assert found["trouble"].startswith("it ended after 2 images: the cloud at 127")


async def test_an_answer_that_is_none_is_told(classifier: Any, images: list[Path]) -> None:
    odd = [web.Response(text="<html>"), web.json_response({"predictions": []}), web.json_response([1])]
    async with serving(classifier()) as near, cloud(None, *odd) as (published, _):
        found = await compare(edge_side(str(near.make_url("/"))), published, images)
    assert sum("is the address right?" in pair.cloud.refusal for pair in found.pairs) == 2
    assert sum("no prediction" in pair.cloud.refusal for pair in found.pairs) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, {"error": {"code": "401", "message": "wrong key"}}),
        (404, {"code": "NotFoundIteration", "message": "wrong key"}),
    ],
)
async def test_a_side_that_refuses_everybody_ends_it_without_its_key(
    classifier: Any, images: list[Path], status: int, body: Any
) -> None:
    async with serving(classifier()) as near, cloud(web.json_response(body, status=status)) as (published, asked):
        with pytest.raises(Refused, match=f"the cloud at 127.*{status}: wrong key") as refused:
            await compare(edge_side(str(near.make_url("/"))), published, images)
    assert len(asked) == 1
    assert KEY not in str(refused.value)
    assert KEY not in repr(published)


async def test_a_side_that_nobody_serves_is_named(images: list[Path]) -> None:
    async with cloud() as (published, _):
        with pytest.raises(Offline, match=r"the edge at 127\.0\.0\.1:9 "):
            await compare(edge_side("http://127.0.0.1:9"), published, images)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("https://westeurope.api.cognitive.example/", "no published iteration"),
        ("ftp://h/classify/iterations/a/image", "no http:// or https://"),
        ("http://cloud.example/customvision/v3.0/Prediction/p/classify/iterations/a/image", "give an https://"),
    ],
)
def test_a_cloud_address_that_cannot_be_is_refused(address: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        cloud_side(address, KEY)


@pytest.mark.parametrize(
    "probability", [b"NaN", b"-55", b"1" * 401, b"Infinity", b"1.1", b"[1]"], ids=lambda told: told.decode()[:9]
)
async def test_a_probability_that_is_none_is_no_answer(classifier: Any, images: list[Path], probability: bytes) -> None:
    odd = web.Response(body=b'{"predictions": [{"tagName": "red", "probability": %s}]}' % probability)
    async with serving(classifier()) as near, cloud(None, odd) as (published, _):
        found = await compare(edge_side(str(near.make_url("/"))), published, images[:1])
    assert [pair.apart for pair in found.different] == [1.0]


async def test_an_answer_that_never_ends_is_left_off(classifier: Any, images: list[Path]) -> None:
    bomb = web.Response(body=gzip.compress(bytes(3 * MAX_ANSWER)), headers={"Content-Encoding": "gzip"})
    async with serving(classifier()) as near, cloud(None, bomb) as (published, _):
        found = await compare(edge_side(str(near.make_url("/"))), published, images[:1])
    assert "is the address right?" in found.different[0].cloud.refusal


async def test_words_from_outside_give_the_terminal_no_orders(classifier: Any, images: list[Path]) -> None:
    odd = web.json_response({"message": "\x1b]0;owned\x07 no " + "x" * 999}, status=403)
    async with serving(classifier()) as near, cloud(odd) as (published, _):
        with pytest.raises(Refused) as refused:
            await compare(edge_side(str(near.make_url("/"))), published, images[:1])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("address", ["http://[::1", "http://a..b", "http://h:x/", "http://u:pa55word@h/", "http:///"])
def test_an_address_that_no_host_has_is_refused_unrepeated(address: str) -> None:
    for side in (edge_side, lambda address: cloud_side(address, KEY)):
        with pytest.raises(SettingsError) as refused:
            side(address)  # type: ignore[operator]
        assert "pa55word" not in str(refused.value)


def test_the_end_of_a_key_files_line_is_no_part_of_the_key() -> None:
    assert cloud_side(f"https://h{PUBLISHED}", "abc\r\n").key == "abc"
    with pytest.raises(SettingsError, match="copy it again"):
        cloud_side(f"https://h{PUBLISHED}", "a\rb")


@pytest.mark.parametrize("ending", ["", "/", "/image", "/url", "/image/nostore", "/url/nostore"])
def test_any_of_the_addresses_that_custom_vision_shows_will_do(ending: str) -> None:
    assert cloud_side(f"https://h{PUBLISHED}{ending}", KEY).url == f"https://h{PUBLISHED}/image/nostore"


def test_the_furthest_apart_come_first_and_those_of_another_tag_before_them() -> None:
    def said(**probabilities: float) -> Said:
        return Said(0.01, probabilities)

    pairs = (
        Pair("same", said(a=0.9, b=0.1), said(a=0.89, b=0.11)),
        Pair("near", said(a=0.9, b=0.1), said(a=0.8, b=0.2)),
        Pair("far", said(a=0.9, b=0.1), said(a=0.6, b=0.4)),
        Pair("other", said(a=0.51, b=0.49), said(a=0.49, b=0.51)),
    )
    assert [pair.image for pair in Comparison(pairs, 0.02).different] == ["other", "far", "near"]


async def test_the_command_prints_both_sides_and_says_by_its_code_that_answers_differ(
    classifier: Any, images: list[Path]
) -> None:
    async with serving(classifier()) as near, cloud() as (published, _):
        arguments = ["--edge", str(near.make_url("/")), "--cloud", published.url, str(images[0].parent)]
        run = CliRunner(env={"RIPELOOP_PREDICTION_KEY": KEY})
        table = await asyncio.to_thread(run.invoke, main, ["compare", *arguments])
        told = await asyncio.to_thread(run.invoke, main, ["compare", "--json", *arguments])
    assert table.exit_code == told.exit_code == 1
    for word in ("p50, ms", "p99, ms", "cloud / edge", "3 differ", "b.png", "green 1.000", "red 0.900"):
        assert word in table.stdout
    assert json.loads(told.stdout)["images"] == 3
    assert KEY not in table.output + told.output
