"""A candidate answers in silence first: compared with the model that answers, in nobody's way, told before it acts."""

from __future__ import annotations

import asyncio
import gc
import itertools
import re
import threading
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as some
from onnx import helper, numpy_helper

from classifier.models.export import read
from classifier.models.model import Model
from classifier.rollout.compared import Compared, difference, too_different
from classifier.rollout.memory import NOT_AGAIN
from classifier.rollout.wanted import ShadowWish, Wanted, from_desired
from colours import files, model, picture, zipped
from depot import Depot, answered_by, packed, unsure_model
from ripeloop.errors import Refused
from ripeloop.prediction import Prediction
from rollouts import Site, site
from wire import Wire

COLOURS = ("red", "green", "blue")
HERE = {"version": "v2", "sha256": "ab" * 32, "url": "http://a/x"}


class Held(Model):
    """A real model that answers while its gate is open."""

    gate = threading.Event()

    def predict(self, image: bytes, **how: bool) -> tuple[Prediction, ...]:
        assert self.gate.wait(30)
        return super().predict(image, **how)


def held(path: Path) -> Model:
    return Held(read(path)) if path.name != "first.zip" else Model(read(path))


@pytest.fixture
def gate() -> Any:
    Held.gate.set()
    yield Held.gate
    Held.gate.set()


@asynccontextmanager
async def camera(here: Site) -> AsyncIterator[list[str]]:
    """Posts red, green, blue, … all the while; the versions that answered."""
    versions: list[str] = []

    async def post() -> None:
        for colour in itertools.cycle(COLOURS):
            with here.classifier.place():
                versions.append((await here.classifier.classify(picture(colour))).model.version)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(post())
    yield versions
    task.cancel()
    await asyncio.wait({task})


def blind_to_blue() -> bytes:
    """Like the others, but what it says of blue is not a number."""
    made = onnx.load_from_string(model())
    weights = np.diag([10, 10, -10]).astype(np.float32)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    made.graph.initializer.append(numpy_helper.from_array(np.full(3, 6, np.float32), "six"))
    made.graph.node.pop()
    for operator, inputs, output in (("Add", ["sums", "six"], "b"), ("Sqrt", ["b"], "c"), ("Softmax", ["c"], None)):
        made.graph.node.append(helper.make_node(operator, inputs, [output or "model_output"]))
    return bytes(made.SerializeToString())


def wanted(depot: Depot, shadow: dict[str, Any], version: str = "v2", onnx: bytes | None = None) -> dict[str, Any]:
    return packed(depot.folder / f"{version}.zip", version, onnx=onnx) | {
        "url": depot.url(f"{version}.zip"),
        "shadow": shadow,
    }


async def test_a_candidate_that_agrees_tells_so_and_then_takes_over(tmp_path: Path, first: Path, depot: Depot) -> None:
    async with site(tmp_path, first) as here, camera(here) as versions:
        here.want(wanted(depot, {"share": 1, "images": 12, "agreement": 0.95}))
        watching = await here.until("watching")
        assert here.rollout.states[:6] == ["downloading", "verifying", "loading", "parity", "warming", "shadowing"]
        begun, *_, compared = here.told("shadowing")
        assert (begun["version"], begun["shadow"]["images"], begun["shadow"]["agreement"]) == ("first", 0, None)
        assert (compared["version"], compared["wanted"]) == ("first", "v2")
        told = compared["shadow"]
        assert (told["images"], told["agreement"], told["difference"], told["errors"]) == (12, 1.0, 0.0, 0)
        assert told["latency_ratio"] > 0
        assert (watching["version"], watching["shadow"]) == ("v2", told)
        answered = len(versions)
        assert here.counts.answered in (answered, answered + 1)
        assert sum(here.counts.tags.values()) == here.counts.answered
        assert (await here.until("active"))["shadow"] == told
    assert versions.count("first") >= 12
    async with site(tmp_path, first) as here:
        assert (await here.until("active"))["shadow"] == told


class SlowWire(Wire):
    """Takes its time to report."""

    async def report(self, patch: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.2)
        await super().report(patch)


async def test_the_agreement_is_with_the_hub_before_the_model_acts(tmp_path: Path, first: Path, depot: Depot) -> None:
    async with site(tmp_path, first, hub=SlowWire()) as here, camera(here) as versions:
        here.want(wanted(depot, {"share": 1, "images": 3}))
        while not (await here.until("shadowing"))["shadow"]["agreement"]:
            pass
        assert set(versions) == {"first"}
        assert (await here.until("watching"))["version"] == "v2"


async def test_a_candidate_that_disagrees_fails_with_its_figures_and_is_let_go(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    async with site(tmp_path, first) as here:
        here.want(wanted(depot, {"share": 1, "images": 9, "agreement": 0.8}, onnx=model(bgr=True)))
        await here.until("shadowing")
        shadow = here.classifier.live.shadow
        assert shadow is not None
        candidate = weakref.ref(shadow._model)
        del shadow
        async with camera(here) as versions:
            failed = await here.until("failed")
        assert re.fullmatch(
            r"it agrees with the model that answers on \d of 9 images, 80.0% is wanted" + NOT_AGAIN, failed["reason"]
        )
        assert (failed["version"], failed["wanted"], failed["shadow"]["images"]) == ("first", "v2", 9)
        assert failed["shadow"]["agreement"] < 0.7  # red and blue change places, green does not
        assert failed["shadow"]["difference"] > 0.2
        assert here.told("shadowing")[-1]["shadow"] == failed["shadow"]
        assert set(versions) == {"first"}
        assert here.files() == {"rollout.json"}
        await asyncio.sleep(0.1)
        gc.collect()
        assert candidate() is None


async def test_without_a_wanted_agreement_its_figures_are_told_and_it_takes_over(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    async with site(tmp_path, first) as here, camera(here):
        here.want(wanted(depot, {"share": 1, "images": 6}, onnx=model(bgr=True)))
        assert (await here.until("watching"))["shadow"]["agreement"] < 0.9


async def test_no_answer_waits_for_a_candidate_that_is_stuck(
    tmp_path: Path, first: Path, depot: Depot, gate: threading.Event
) -> None:
    async with site(tmp_path, first, loading=held) as here:
        here.want(wanted(depot, {"share": 1, "images": 5}))
        await here.until("shadowing")
        gate.clear()
        async with asyncio.timeout(10):
            for _ in range(20):
                await here.ask(1)
                await asyncio.sleep(0.01)
        shadow = here.classifier.live.shadow
        assert shadow is not None
        assert (shadow.compared.images, shadow.compared.skipped) == (0, 19)
        async with asyncio.timeout(5):
            assert (await here.rollout.rollback())[1]["state"] == "rolled_back"
        assert here.classifier.live.shadow is None
        await here.ask(1)


async def test_a_candidate_that_never_answers_fails(
    tmp_path: Path, first: Path, depot: Depot, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifier.rollout.shadow.LONGEST", 0.2)
    async with site(tmp_path, first, loading=held) as here:
        here.want(wanted(depot, {"share": 1, "images": 5}))
        await here.until("shadowing")
        gate.clear()
        await here.ask(1)
        failed = await here.until("failed")
    assert "no answer in" in failed["reason"]
    assert failed["version"] == "first"


async def test_no_answer_waits_while_a_candidate_is_loaded_and_tried(
    tmp_path: Path, first: Path, depot: Depot, gate: threading.Event
) -> None:
    loaded = threading.Event()

    def slowly(path: Path) -> Model:
        assert path.name == "first.zip" or loaded.wait(30)
        return held(path)

    async with site(tmp_path, first, loading=slowly) as here:
        gate.clear()
        here.want(packed(depot.folder / "v2.zip", "v2") | {"url": depot.url("v2.zip")})
        for state, go_on in (("loading", loaded), ("parity", gate)):
            assert (await here.until(state))["version"] == "first"
            async with asyncio.timeout(10):
                await here.ask(20)
            assert here.rollout.status()["state"] == state
            go_on.set()
        assert (await here.until("watching"))["version"] == "v2"


async def test_images_are_skipped_while_the_workers_are_busy(tmp_path: Path, first: Path, depot: Depot) -> None:
    async with site(tmp_path, first) as here:
        here.want(wanted(depot, {"share": 1, "images": 5, "seconds": 2, "agreement": 0.5}))
        await here.until("shadowing")
        with here.classifier.place():  # the only worker's
            for _ in range(10):
                await here.ask(1)
                await asyncio.sleep(0.02)
            failed = await here.until("failed")
    assert failed["reason"].startswith("no image was compared, 10 were skipped as all workers were busy")
    assert (failed["shadow"]["images"], failed["shadow"]["skipped"]) == (0, 10)


async def test_a_candidate_that_fails_on_an_image_never_answers(tmp_path: Path, first: Path, depot: Depot) -> None:
    golden = answered_by(zipped(tmp_path / "blind.zip", files(blind_to_blue())), ("red", "green"))
    package = packed(depot.folder / "v2.zip", "v2", onnx=blind_to_blue(), golden=golden)
    async with site(tmp_path, first) as here:
        here.want(package | {"url": depot.url("v2.zip"), "shadow": {"share": 1, "images": 50}})
        await here.until("shadowing")
        async with camera(here) as versions:
            failed = await here.until("failed")
    assert failed["reason"].startswith("it failed on an image that the model that answers managed, after ")
    assert "not a number" in failed["reason"]
    assert failed["shadow"]["errors"] == 1
    assert failed["shadow"]["images"] < 50
    assert set(versions) == {"first"}


@pytest.mark.parametrize("way", ["another", "none", "rollback", "wrong", "without"])
async def test_a_change_of_mind_ends_the_shadow(
    tmp_path: Path, first: Path, depot: Depot, way: str, gate: threading.Event
) -> None:
    other = packed(depot.folder / "v3.zip", "v3") | {"url": depot.url("v3.zip")}
    asked = wanted(depot, {"share": 1, "images": 500})
    async with site(tmp_path, first, loading=held) as here:
        here.want(asked)
        await here.until("shadowing")
        await here.ask(1)
        if way == "rollback":
            await here.rollout.rollback()
        else:
            without = {name: value for name, value in asked.items() if name != "shadow"}
            here.want({"another": other, "none": None, "wrong": {"version": 7}, "without": without}[way])
        ends = {"another": "watching", "none": "active", "rollback": "rolled_back", "wrong": "failed"}
        reported = await here.until(ends.get(way, "watching"))
        assert reported["version"] == {"another": "v3", "without": "v2"}.get(way, "first")
        assert reported["shadow"] is None
        assert here.classifier.live.shadow is None


async def test_without_traffic_it_waits_and_then_ends_by_its_seconds(tmp_path: Path, first: Path, depot: Depot) -> None:
    async with site(tmp_path, first) as here:
        here.want(wanted(depot, {"share": 1e-9, "images": 5, "seconds": 0.1}))
        await here.until("shadowing")
        await asyncio.sleep(0.4)
        assert here.rollout.status()["state"] == "shadowing"
        await here.ask(1)
        watching = await here.until("watching")
        assert (watching["version"], watching["shadow"]["images"]) == ("v2", 0)


async def test_a_model_undone_meanwhile_leaves_the_candidate_its_package(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    bad = packed(depot.folder / "v2.zip", "v2", onnx=unsure_model()) | {"url": depot.url("v2.zip")}
    good = wanted(depot, {"share": 1e-9, "seconds": 1}, "v3")
    async with site(tmp_path, first, watch=1) as here:
        await here.ask(60)
        here.want(bad)
        await here.until("watching")
        here.want(good)
        assert (await here.until("shadowing"))["version"] == "v2"
        await here.ask(60)
        assert (await here.until("shadowing"))["version"] == "first"  # told at once, though it is about the candidate
        await here.ask(1)  # its seconds begin anew, too
        reported = await here.until("watching")
        assert (reported["version"], reported["previous"]) == ("v3", "first")
    async with site(tmp_path, first) as here:
        assert (await here.until("watching"))["version"] == "v3"


async def test_what_was_compared_with_a_model_that_was_undone_is_forgotten(
    tmp_path: Path, first: Path, depot: Depot
) -> None:
    bad = packed(depot.folder / "v2.zip", "v2", onnx=model(bgr=True)) | {"url": depot.url("v2.zip")}
    good = wanted(depot, {"share": 1, "images": 8, "agreement": 0.95}, "v3")

    async def compared(colour: str, images: int) -> None:
        shadow = here.classifier.live.shadow
        assert shadow is not None
        for number in range(1, images + 1):
            await here.ask(1, lambda _: picture(colour))
            for _ in range(1000):
                if shadow.compared.images < number:
                    await asyncio.sleep(0.01)
        assert shadow.compared.images == images

    async with site(tmp_path, first, watch=30) as here:
        here.want(bad)
        await here.until("watching")
        here.want(good)
        await here.until("shadowing")
        await compared("blue", 7)  # which the one takes for red, and the other does not
        await here.rollout._undo("worse")
        shadow = here.classifier.live.shadow
        assert shadow is not None
        assert shadow.compared == Compared()
        await compared("blue", 8)
        watching = await here.until("watching")
    assert (watching["shadow"]["images"], watching["shadow"]["agreement"]) == (8, 1.0)


@pytest.mark.parametrize(
    ("shadow", "words"),
    [
        (0.2, "model.shadow must be an object"),
        ({"share": 0}, "share"),
        ({"share": 1.1}, "share"),
        ({"share": True}, "share must be a number"),
        ({"share": float("nan")}, "share"),
        ({"images": 0}, "images"),
        ({"images": 2.5}, "images"),
        ({"images": float("inf")}, "images"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": "600"}, "seconds must be a number"),
        ({"agreement": 95}, "agreement"),
        ({"agreement": [0.9]}, "agreement must be a number"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused(shadow: Any, words: str) -> None:
    with pytest.raises(Refused, match=words):
        from_desired(HERE | {"shadow": shadow})


def test_what_is_left_out_of_a_shadow_has_a_default() -> None:
    plain = from_desired(HERE)
    assert plain == Wanted(**HERE)
    for nothing in (None, {}):
        assert from_desired(HERE | {"shadow": nothing}) == plain
    asked = from_desired(HERE | {"shadow": {"agreement": 0.9, "images": 50.0, "unknown": 1}})
    assert asked is not None
    assert asked.shadow == ShadowWish(share=0.2, images=50, seconds=3600, agreement=0.9)
    assert asked.whole != plain.whole


PREDICTIONS = some.lists(some.floats(0, 1), min_size=1, max_size=5).map(
    lambda row: [Prediction(str(n), p) for n, p in enumerate(row)]
)


@given(PREDICTIONS, PREDICTIONS)
def test_agreement_is_about_both_alike(one: list[Prediction], other: list[Prediction]) -> None:
    same = Compared().answered(one, one)
    assert (same.agreement, same.apart) == (1, 0)
    assert difference(one, other) == pytest.approx(difference(other, one))
    assert 0 <= difference(one, other) <= 1
    assert Compared().answered(one, other).agreed == Compared().answered(other, one).agreed


@given(some.integers(1, 50), some.data(), some.floats(0, 1))
def test_a_candidate_passes_with_at_least_the_wanted_agreement(
    images: int, data: some.DataObject, agreement: float
) -> None:
    agreed = data.draw(some.integers(0, images))
    assert bool(too_different(Compared(images, agreed), agreement)) == (agreed / images < agreement)
    assert not too_different(Compared(images, agreed), None)
    assert too_different(Compared(), agreement)
