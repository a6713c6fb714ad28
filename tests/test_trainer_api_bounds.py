"""The trainer's service where something was deleted, killed, damaged or is very large: in this very process."""

from __future__ import annotations

import asyncio
import io
import os
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from PIL import Image

import lite0
from classifier.pixels.room import Room
from trainer.api.gate import Gate
from trainer.api.parts import Parts
from trainer.api.service import application
from trainer.errors import Problem
from trainer.learning import figures
from trainer.learning.backbone import FEATURE_COUNT
from trainer.learning.export import compose, export_zip
from trainer.learning.features import Extractor
from trainer.learning.head import Head
from trainer.state.files import EVALUATION, MODEL, smaller
from trainer.state.images import Asked
from trainer.state.iterations import FAILED
from trainer.state.ledger import Order
from trainer.state.predictions import Answered
from trainer.state.projects import Wanted
from trainer.state.store import Store
from trainer.state.sweep import sweep
from trainer.state.uploads import Upload, size_of

Client = TestClient[Any, Any]
BASE = "/customvision/v3.4-preview/training/projects"
NOBODY = "00000000-0000-0000-0000-000000000007"


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    store = Store(tmp_path / "trainer.db")
    yield Parts.on(tmp_path, store)
    store.close()


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(parts, Gate("", "")))) as one:
        yield one


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (12, 12), shade).save(buffer, "PNG")
    return buffer.getvalue()


def huge(width: int, height: int, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (width, height), 90).save(buffer, kind)
    return buffer.getvalue()


def fill(parts: Parts) -> str:
    """A project with five images of each of two tags."""
    project = parts.projects.create(Wanted("p", kind="Multiclass")).id
    for nth, name in enumerate(("a", "b")):
        tag = parts.tags.create(project, name, None, "Regular").id
        parts.uploads.add(project, [Upload("", png(50 * nth + shade), (tag,)) for shade in range(5)])
    return project


async def trained(parts: Parts, project: str) -> str:
    """An iteration that was right about every image of the first tag, and about none of the second."""
    iteration = (await parts.trainings.begin(project, Order())).id
    ledger, home = parts.trainings._ledger, parts.files.iteration(project, iteration)
    tags = [tag.id for tag in parts.tags.all(project)]
    home.mkdir(parents=True)
    figures.save(home / EVALUATION, np.tile([0.9, 0.1], (10, 1)), None)
    assert ledger.completed(iteration, tags, 1.0)
    return iteration


def answered(project: str, iteration: str, id_: str = NOBODY) -> Answered:
    return Answered(id_, project, iteration, NOBODY, "2026-11-22T00:00:00.000000Z", [])


async def test_figures_leave_out_images_that_are_deleted_from_all_iterations(client: Client, parts: Parts) -> None:
    project = fill(parts)
    iteration = await trained(parts, project)
    address = f"{BASE}/{project}/iterations/{iteration}/performance"
    before = await (await client.get(address)).json()
    assert (before["precision"], before["recall"]) == (0.5, 0.5)
    wrong = [tag.id for tag in parts.tags.all(project)][1]
    ids = [image.id for image in parts.images.find(project, Asked(tags=(wrong,)))]
    parts.images.delete(project, ids[:1], all_iterations=False)  # stays with the iteration
    assert await (await client.get(address)).json() == before
    parts.images.delete(project, ids, all_iterations=True)
    after = await (await client.get(address)).json()
    assert (after["precision"], after["recall"]) == (1.0, 1.0)
    assert after["perTagPerformance"][1]["recall"] == 0
    parts.images.delete(project, None, all_iterations=True)
    assert (await (await client.get(address)).json())["precision"] == 0


async def test_stored_images_are_taken_one_at_a_time_and_each_once(client: Client, parts: Parts) -> None:
    project = fill(parts)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (1200, 1200), os.urandom(1200 * 1200 * 3)).save(buffer, "PNG", compress_level=0)
    ids = [f"00000000-0000-0000-0000-0000000000{nth:02}" for nth in range(4)]
    for nth, id_ in enumerate(ids):  # bytes after a PNG's end change what it is, not what it shows
        parts.predictions.keep(answered(project, NOBODY, id_), buffer.getvalue() + bytes([nth]))
    size = len(buffer.getvalue())
    body = {"images": [{"id": id_} for id_ in ids * 16]}
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        answers = await asyncio.gather(*(client.post(f"{BASE}/{project}/images/predictions", json=body) for _ in "ab"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    told = [await answer.json() for answer in answers]
    assert sorted(one["status"] for one in told[0]["images"] + told[1]["images"]) == ["OK"] * 4 + ["OKDuplicate"] * 124
    assert peak - start < 4 * size
    assert parts.images.count(project, Asked()) == 14


def test_a_copy_that_was_cut_short_leaves_its_name_free(parts: Parts) -> None:
    project = fill(parts)
    cut = parts.projects.create(Wanted("copy"), status="Importing").id
    source = parts.files.image(project, parts.images.find(project, Asked())[0].id)
    parts.files.link(cut, NOBODY, source)
    asyncio.run(parts.trainings.recover())
    sweep(parts.store, parts.files)
    assert [one.id for one in parts.projects.all()] == [project]
    assert not parts.files.project(cut).exists()
    assert source.exists()
    assert parts.copies.copy(project, "copy").status == "Succeeded"


def test_a_plain_jpeg_of_100_megapixels_is_taken_shown_and_learnt_from(parts: Parts) -> None:
    project, image = parts.projects.create(Wanted("p")).id, huge(10_240, 8000)
    (one,) = parts.uploads.add(project, [Upload("", image)])
    assert one.image is not None
    assert (one.status, one.image.width, one.image.height) == ("OK", 10_240, 8000)
    parts.predictor.check_image(image, len(image))
    with Image.open(io.BytesIO(smaller(image, "thumbnail", Room()))) as shown:
        assert shown.size == (256, 200)
    assert np.isfinite(Extractor(lite0.backbone()).views(image)).all()
    results = parts.uploads.add(project, [Upload("", huge(10_241, 900)), Upload("", huge(10_000, 9_000, "PNG"))])
    assert [one.status for one in results] == ["ErrorImageDimensions"] * 2


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (huge(10_241, 900), "BadRequestImageDimensions"),
        (huge(2600, 100), "BadRequestImageAspectRatio"),
        (b"none", "BadRequestImageFormat"),
    ],
)
def test_each_kind_of_image_no_model_is_asked_about_has_its_code(parts: Parts, image: bytes, code: str) -> None:
    with pytest.raises(Problem) as caught:
        parts.predictor.check_image(image, 10**7)
    assert caught.value.code == code


def test_an_image_turned_on_its_side_has_the_size_of_the_upright_one() -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x112] = 6
    Image.new("RGB", (80, 40)).save(buffer, "JPEG", exif=exif)
    assert size_of(buffer.getvalue(), Room()) == (40, 80)


async def test_what_is_deleted_while_it_is_asked_about_is_not_found(parts: Parts) -> None:
    project = fill(parts)
    iteration = await trained(parts, project)
    image = parts.images.find(project, Asked())[0].id
    parts.projects.delete(project)
    with pytest.raises(Problem, match="is not found") as caught:
        parts.predictions.keep(answered(project, iteration), b"image")
    assert caught.value.code == "NotFoundProject"
    assert not parts.files.image(project, NOBODY, "predictions").exists()
    with pytest.raises(Problem) as caught:
        parts.suggestions._keep(image, answered(project, iteration))
    assert caught.value.status == 404


def test_a_row_of_something_deleted_is_not_found(parts: Parts) -> None:
    with pytest.raises(Problem) as caught, parts.store.change() as change:
        change.run("INSERT INTO image_metadata VALUES (?, 'a', 'b')", [NOBODY])
    assert caught.value.status == 404


def test_a_damaged_memory_is_told_in_words(tmp_path: Path) -> None:
    store = Store(tmp_path / "trainer.db")
    parts = Parts.on(tmp_path, store)
    for nth in range(60):
        parts.projects.create(Wanted(f"{nth} {'x' * 200}"))
    store.close()
    whole = bytearray((tmp_path / "trainer.db").read_bytes())
    with sqlite3.connect(tmp_path / "trainer.db") as seen:
        (page,) = seen.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'projects'").fetchone()
        (size,) = seen.execute("PRAGMA page_size").fetchone()
    seen.close()
    whole[(page - 1) * size : page * size] = b"\xff" * size
    (tmp_path / "trainer.db").write_bytes(whole)
    store = Store(tmp_path / "trainer.db")
    try:
        for call in (lambda: Parts.on(tmp_path, store).projects.all(), lambda: parts_of(store, tmp_path)):
            with pytest.raises(Problem, match="malformed") as caught:
                call()
            assert caught.value.code == "ErrorUnknown"
    finally:
        store.close()


def parts_of(store: Store, folder: Path) -> object:
    return Parts.on(folder, store).projects.create(Wanted("one more"))


async def test_a_training_that_the_disk_ends_has_failed_with_a_reason_of_no_path(parts: Parts, tmp_path: Path) -> None:
    project = fill(parts)
    (tmp_path / "jobs").write_text("in the way")
    running = asyncio.create_task(parts.trainings.run())
    iteration = await parts.trainings.begin(project, Order())
    while parts.trainings.progress(iteration.id):  # noqa: ASYNC110 - as clients do
        await asyncio.sleep(0.02)
    found = parts.iterations.get(project, iteration.id)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert found.status == FAILED
    assert found.why
    assert str(tmp_path) not in found.why


async def test_a_lost_model_is_told_without_the_servers_paths(client: Client, parts: Parts, tmp_path: Path) -> None:
    project = fill(parts)
    iteration = await trained(parts, project)
    asked = await client.post(f"{BASE}/{project}/quicktest/image?iterationId={iteration}", data=png(1))
    told = await asked.json()
    assert told["code"] == "ErrorPredictionModelNotFound"
    assert str(tmp_path) not in told["message"]


async def test_a_model_answers_for_a_plain_jpeg_of_100_megapixels(client: Client, parts: Parts) -> None:
    project = fill(parts)
    iteration = await trained(parts, project)
    head = Head(np.zeros((FEATURE_COUNT, 2), np.float32), np.array([1, 0], np.float32))
    model = compose(lite0.backbone(), head, ("a", "b"))
    (parts.files.iteration(project, iteration) / MODEL).write_bytes(export_zip(model, ("a", "b")))
    asked = await client.post(f"{BASE}/{project}/quicktest/image?iterationId={iteration}", data=huge(10_240, 8000))
    told = await asked.json()
    assert [one["tagName"] for one in told["predictions"]] == ["a", "b"]
