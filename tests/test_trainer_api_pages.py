"""Lists that are read page by page while they are worked off, settings that are kept, and a machine short of memory."""

from __future__ import annotations

import base64
import dataclasses
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from aiohttp.test_utils import TestClient, TestServer

from classifier.pixels.room import Room
from trainer.api.gate import Gate
from trainer.api.parts import Parts
from trainer.api.service import application
from trainer.state.ledger import Ledger, Order
from trainer.state.predictions import ORDERS, Answered
from trainer.state.projects import Wanted
from trainer.state.store import Store
from trainer.state.suggestions import SORTS
from trainer.state.uploads import Uploads
from trainerservice import jpeg

Client = TestClient[Any, Any]
BASE = "/customvision/v3.4-preview/training/projects"
UNCERTAINTIES = (0.5, 1 / 3, 0.5, 0.1, 1.0)  # many are alike


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    store = Store(tmp_path / "trainer.db")
    yield Parts.on(tmp_path, store)
    store.close()


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(parts, Gate("", "")))) as one:
        yield one


async def pages(client: Client, url: str, token: dict[str, Any]) -> AsyncIterator[list[str]]:
    """The ids of each page, each asked for with the token of the page before."""
    while True:
        answer = await client.post(url, json=token)
        assert answer.status == 200
        found = await answer.json()
        yield [one["id"] for one in found["results"]]
        token = found["token"]
        assert isinstance(token["continuation"], str)
        if not token["continuation"]:
            return


def stored(parts: Parts) -> tuple[str, list[str]]:
    """A project with 17 stored predictions."""
    project, ids = parts.projects.create(Wanted("p")).id, [str(uuid.uuid4()) for _ in range(17)]
    for nth, id_ in enumerate(ids):
        uncertainty = UNCERTAINTIES[nth % len(UNCERTAINTIES)]
        created = "2026-11-22T00:00:00.000000Z"
        parts.predictions.keep(Answered(id_, project, id_, id_, created, [], uncertainty), b"image")
    return project, ids


def suggested(parts: Parts) -> tuple[str, str, str, list[str]]:
    """A project, an iteration, a tag, and 17 untagged images the iteration suggests something for."""
    project = parts.projects.create(Wanted("p", kind="Multilabel")).id
    tag = parts.tags.create(project, "a", None, "Regular").id
    with parts.store.change() as change:
        ids = [str(uuid.uuid4()) for _ in range(22)]
        for id_ in ids:
            change.run(
                "INSERT INTO images (id, project, sha256, created, width, height) VALUES (?, ?, ?, '', 9, 9)",
                [id_, project, id_],
            )
        change.run_all("INSERT INTO image_tags VALUES (?, ?, '')", [(id_, tag) for id_ in ids[:5]])
    iteration = Ledger(parts.store, parts.files).begin(project, Order()).id
    with parts.store.change() as change:
        for nth, id_ in enumerate(ids[5:]):
            uncertainty = UNCERTAINTIES[nth % len(UNCERTAINTIES)]
            values = [iteration, id_, str(uuid.uuid4()), "", "[]", uncertainty]
            change.run("INSERT INTO suggestions VALUES (?, ?, ?, ?, ?, ?)", values)
    return project, iteration, tag, ids[5:]


@pytest.mark.parametrize("order", ORDERS)
async def test_predictions_that_are_deleted_page_by_page_are_all_seen(client: Client, parts: Parts, order: str) -> None:
    project, ids = stored(parts)
    seen: list[str] = []
    async for page in pages(client, f"{BASE}/{project}/predictions/query", {"maxCount": 4, "orderBy": order}):
        seen += page
        parts.predictions.delete(project, page)
    assert sorted(seen) == sorted(ids)
    assert order == "Suggested" or seen == (ids if order == "Oldest" else ids[::-1])


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("tagging", [True, False])
async def test_suggested_images_that_are_tagged_page_by_page_are_all_seen(
    client: Client, parts: Parts, sort: str, tagging: bool
) -> None:
    project, iteration, tag, ids = suggested(parts)
    seen: list[str] = []
    url = f"{BASE}/{project}/images/suggested?iterationId={iteration}"
    async for page in pages(client, url, {"maxCount": 4, "sortBy": sort}):
        seen += page
        if tagging:
            with parts.store.change() as change:
                change.run_all("INSERT INTO image_tags VALUES (?, ?, '')", [(id_, tag) for id_ in page])
    assert sorted(seen) == sorted(ids)
    uncertainties = dict(zip(ids, UNCERTAINTIES * 4, strict=False))
    assert [uncertainties[id_] for id_ in seen] == sorted(uncertainties.values(), reverse=sort.endswith("Descending"))


@pytest.mark.parametrize(
    "odd", ["50", "x", "é", "A", "\0", *(base64.b64encode(one).decode() for one in (b"nan 1", b"0.5 x y", b"\xff 1"))]
)
async def test_a_continuation_that_nobody_handed_out_is_refused(client: Client, parts: Parts, odd: str) -> None:
    project, iteration, _, _ = suggested(parts)
    for url in (f"{BASE}/{project}/predictions/query", f"{BASE}/{project}/images/suggested?iterationId={iteration}"):
        answer = await client.post(url, json={"continuation": odd})
        told = await answer.json()
        assert (answer.status, told["code"]) == (400, "BadRequestPredictionInvalidQueryParameters")
        assert "give back what the last answer said" in told["message"]
    of_predictions = base64.b64encode(b"0.5 7").decode()
    assert (await client.post(url, json={"continuation": of_predictions})).status == 400


async def test_the_settings_of_augmentation_are_kept_and_told(client: Client, parts: Parts) -> None:
    project = parts.projects.create(Wanted("p")).id
    assert "imageProcessingSettings" not in (await (await client.get(f"{BASE}/{project}")).json())["settings"]
    processing = {"augmentationMethods": {"rotation": False, "scaling": True}}
    changed = await client.patch(f"{BASE}/{project}", json={"settings": {"imageProcessingSettings": processing}})
    assert (await changed.json())["settings"]["imageProcessingSettings"] == processing
    await client.patch(f"{BASE}/{project}", json={"name": "q", "settings": {"imageProcessingSettings": None}})
    assert (await (await client.get(f"{BASE}/{project}")).json())["settings"]["imageProcessingSettings"] == processing
    assert parts.copies.copy(project, "copy").augmentation == processing["augmentationMethods"]
    for odd in (["rotation"], {"augmentationMethods": {"a": "yes"}}, {"augmentationMethods": {"a" * 300: True}}):
        refused = await client.patch(f"{BASE}/{project}", json={"settings": {"imageProcessingSettings": odd}})
        assert (refused.status, (await refused.json())["code"]) == (400, "BadRequestInvalid")


class Short(Room):
    """The room of a machine that has no memory left."""

    def of(self, size: int) -> NoReturn:
        raise MemoryError


async def test_an_image_there_is_no_memory_for_may_be_sent_again(parts: Parts) -> None:
    project = parts.projects.create(Wanted("p")).id
    short = dataclasses.replace(parts, uploads=Uploads(parts.store, parts.files, Short()))
    image = jpeg("green", 1)
    async with TestClient(TestServer(application(short, Gate("", "")))) as client:
        answer = await client.post(f"{BASE}/{project}/images", data=image, headers={"Content-Type": "image/jpeg"})
        assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
    async with TestClient(TestServer(application(parts, Gate("", "")))) as client:
        answer = await client.post(f"{BASE}/{project}/images", data=image, headers={"Content-Type": "image/jpeg"})
        assert (await answer.json())["images"][0]["status"] == "OK"
