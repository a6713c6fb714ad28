"""Answers that come to another server than showed the image, that another tab left, or whose image is gone."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from desks import away, eventually, finals, text
from labelling import labelling, labels_in, person, put
from retrain.label.answering.journal import UNKNOWN
from retrain.label.container.cache import Cache
from retrain.label.container.rows import key_of
from retrain.label.container.scan import Scan
from retrain.labels import TAG
from ripeloop.blobname import Blob
from ripeloop.blobs import Blobs, FolderBlobs

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSENT = "() => Object.keys(localStorage).filter((name) => name.startsWith('ripeloop/')).length"
IS_LISTED = "async (key) => (await fetch(`/api/sample/${key}`)).status === 200"
BACK = "() => dispatchEvent(new Event('online'))"
SIGN_OUT = 'form[action="/sign-out"] button'


def fields(sample: dict[str, Any], id_: str = "answer-1") -> dict[str, Any]:
    return {"id": id_, "key": sample["key"], "blob": sample["blob"], "kind": "tag", "tags": ["ripe"]}


async def test_a_server_that_has_not_listed_an_image_takes_its_answer(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    async with labelling(blobs, tmp_path / "two") as (_, two), person(two, "Kari") as there:
        key = await put(blobs, 1)
        async with labelling(blobs, tmp_path / "one") as (_, one), person(one, "Kari") as here:
            (sample,) = await here.next()
        status, told = await there.post("/api/answer", fields(sample))
        assert (status, told["outcome"]) == (200, "written")
        final = (await labels_in(blobs))[key].final
        assert final is not None
        assert (final.tags, final.by) == (("ripe",), "Kari")


async def test_an_answer_that_names_no_blob_waits_for_a_listing_that_began_after_it(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    async with labelling(blobs, tmp_path / "state") as (parts, url), person(url, "Kari") as kari:
        key = await put(blobs, 1)
        unnamed = {"id": "answer-1", "key": key, "kind": "tag", "tags": ["ripe"]}
        gone = unnamed | {"id": "answer-2", "key": "0" * 32}
        for path, sent in (("answer", unnamed), ("answer", gone), ("undo", {"id": "undo-0001", "key": gone["key"]})):
            status, told = await kari.post(f"/api/{path}", sent)
            assert (status, told["later"]) == (404, True), path
        await parts.scan.once()
        assert (await kari.post("/api/answer", unnamed))[0] == 200
        assert (await kari.post("/api/answer", gone))[1]["later"] is False
        assert (await labels_in(blobs))[key].final is not None


@pytest.mark.parametrize("name", ["line-1/nothing.bin", "../../etc/passwd", "", 7])
async def test_a_blob_that_is_no_sample_gets_no_answer(tmp_path: Path, name: object) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    await blobs.put("line-1/nothing.bin", b"x", {}, "application/octet-stream")
    async with labelling(blobs, tmp_path / "state") as (parts, url), person(url, "Kari") as kari:
        sent = fields({"key": key_of(str(name)), "blob": name})
        assert (await kari.post("/api/answer", sent))[0] == 404
        assert await parts.journal.found("Kari", "answer-1") is None
    assert all(not labels.answers for labels in (await labels_in(blobs)).values())


class Slow:
    """The folder, whose listing ends when it may."""

    def __init__(self, blobs: FolderBlobs) -> None:
        self.blobs, self.begun, self.may = blobs, asyncio.Event(), asyncio.Event()

    async def list(self) -> AsyncIterator[Blob]:
        """All blobs, at last."""
        self.begun.set()
        await self.may.wait()
        async for blob in self.blobs.list():
            yield blob


async def test_a_listing_that_had_begun_before_says_nothing_of_what_is_sought(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path / "blobs")
    await put(blobs, 1)
    cache, slow = Cache(tmp_path / "cache.db"), Slow(blobs)
    scan = Scan(cast("Blobs", slow), cache, 0.0, 60.0)
    running = asyncio.create_task(scan.once())
    await slow.begun.wait()
    assert scan.may_come("key")
    slow.may.set()
    await running
    assert scan.may_come("key")
    await scan.once()
    assert not scan.may_come("key")
    cache.close()


@pytest.mark.parametrize("path", ["/label", "/grid"])
async def test_an_answer_to_an_image_that_was_deleted_stays_in_the_journal(label_server, browsers, path):
    server = await label_server(1)
    desk = await browsers.desk(server, path=path)
    [blob] = [blob async for blob in server.blobs.list()]
    if path == "/grid":
        await desk.sees_tiles()
    else:
        await desk.shows_image()
    [key] = await desk.page.evaluate(
        "async () => (await (await fetch('/api/samples')).json()).samples.map((s) => s.key)"
    )
    await server.blobs.delete(blob.name)

    async def is_forgotten() -> bool:
        return not await desk.page.evaluate(IS_LISTED, key)

    await eventually(is_forgotten)
    while await desk.page.locator(".note").count() == 0:  # a press right after the picture came is refused
        await desk.page.keyboard.press("2")
        await asyncio.sleep(0.05)
    await desk.sent()
    await desk.page.wait_for_selector(".note >> text=no longer there")
    with sqlite3.connect(server.folder / "state" / "answers.db") as journal:
        assert journal.execute("SELECT blob, outcome FROM entries").fetchall() == [(blob.name, UNKNOWN)]
    journal.close()


async def test_what_another_tab_left_is_sent_by_one_that_is_open(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.shows_image()
    beside = await desk.page.context.new_page()
    await beside.goto(f"{server.url}/label")
    await beside.wait_for_selector(".frame.shown")
    async with away(server):
        for key in "231":
            await desk.press(key)
        await beside.wait_for_function("() => document.getElementById('unsent').textContent === '3'")
        await desk.page.close()
    await beside.evaluate(BACK)
    await beside.wait_for_function("() => document.getElementById('unsent').textContent === '0'")
    found = await server.labels()
    assert finals(found) == {(TAG, "unripe"): 1, (TAG, "ripe"): 1, (TAG, "overripe"): 1}
    assert await beside.evaluate(UNSENT) == 0


async def test_what_two_open_tabs_send_is_there_once(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.shows_image()
    beside = await desk.page.context.new_page()
    await beside.goto(f"{server.url}/progress")
    sent = list[str]()

    def arrived(request: Any) -> None:
        if request.url.endswith(("/api/answer", "/api/answers")):
            sent.append(request.post_data)

    desk.page.context.on("requestfinished", arrived)
    async with away(server):
        for key in "231":
            await desk.press(key)
        await desk.page.wait_for_selector("#offline:not([hidden])")
    await asyncio.gather(desk.page.evaluate(BACK), beside.evaluate(BACK))
    await desk.sent()
    assert await desk.page.evaluate(UNSENT) == 0
    assert [len(labels.answers) for labels in await server.labels()] == [1] * 3
    assert len(set(re.findall(r'"id":"(\w+)"', "".join(sent)))) == 3, "sent twice it is the same one"


@pytest.mark.parametrize("path", ["/progress", "/quality"])
async def test_a_page_without_a_desk_sends_what_waits(label_server, browsers, path):
    server = await label_server(8)
    desk = await browsers.desk(server)
    await desk.page.route("**/api/answer", lambda route: route.abort())
    await desk.press("2")
    await desk.page.goto("about:blank")
    await desk.page.unroute("**/api/answer")
    await desk.page.goto(f"{server.url}{path}")
    await desk.page.wait_for_function(UNSENT.replace("() =>", "() => !"))
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


async def test_signing_out_asks_where_answers_wait(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    await desk.page.route("**/api/answer", lambda route: route.abort())
    await desk.press("2")
    asked, yes = list[str](), False

    async def says(dialog: Any) -> None:
        asked.append(dialog.message)
        await (dialog.accept() if yes else dialog.dismiss())

    desk.page.on("dialog", says)
    await desk.page.click(f"details.menu:has({SIGN_OUT}) summary")
    await desk.page.click(SIGN_OUT)
    assert asked[0].startswith("1 of your answers")
    assert await text(desk, "#unsent") == "1"
    yes = True
    await desk.page.click(SIGN_OUT)
    await desk.page.wait_for_url("**/sign-in")
    assert await desk.page.evaluate(UNSENT) == 1
