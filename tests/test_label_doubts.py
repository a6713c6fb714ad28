"""Likely mistakes, and the judge's report, in a real Chromium."""

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest

from containers import Container, said, usual
from desks import Server, eventually
from holdouts import coloured, seeing
from labelling import sample_of
from retrain.label.container.samples import key_of
from retrain.labels import BLIND, REVIEW, Labels
from ripeloop.blobs import FolderBlobs

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def doubted(folder: Path, **settings: object) -> Server:
    """A server over labels of which the devices doubt three."""
    container = Container(folder)
    await usual(container)
    for red in (0.99, 0.97, 0.95):
        await container.put(said("green", "ola"), red=red)
    container.cache.close()
    return await Server(folder, tags=("red", "green", "blue"), **settings).start()


async def mistaken(folder: Path, **settings: object) -> Server:
    """A server over labels that the devices' model agrees with; the last is wrong, which only its picture tells."""
    blobs = FolderBlobs(folder / "samples")
    colours = [*["red", "green"] * 5, "red"]
    for nth, (colour, label) in enumerate(zip(colours, [*colours[:-1], "green"], strict=True)):
        sample, image = sample_of(nth, image=coloured(colour, nth), predictions=[(label, 0.9), ("blue", 0.1)])
        await blobs.put(sample.blob, image, Labels().with_answer(said(label)).into(sample.metadata()))
    return await Server(folder, tags=("red", "green", "blue"), **settings).start()


async def said_of(server: Server, keys: Iterable[str]) -> list[tuple[tuple[str, ...], str]]:
    labels = {key_of(blob.name): (await server.labels_of(key_of(blob.name))) async for blob in server.blobs.list()}
    return [(final.tags, final.how) for key in keys if (final := labels[key].final) is not None]


async def test_one_key_keeps_a_label_or_takes_the_models_and_undo_brings_it_back(tmp_path, browsers):
    server = await doubted(tmp_path)
    try:
        desk = await browsers.desk(server, "Eva", "/mistakes")
        await desk.page.wait_for_selector(".doubt")
        assert "99 %" in await desk.page.inner_text("#opinion")
        first = await desk.press("m")
        second = await desk.press("k")
        third = await desk.press("3")
        await desk.sent()
        assert await said_of(server, (first, second, third)) == [
            (("red",), REVIEW),
            (("green",), REVIEW),
            (("blue",), REVIEW),
        ]
        await desk.page.wait_for_selector("#calm:not([hidden])")
        await desk.shot("mistakes-done")
        await desk.page.keyboard.press("Backspace")
        assert await desk.shows_image() == third

        async def back() -> bool:
            return await said_of(server, [third]) == [(("green",), BLIND)]

        await eventually(back)
        await desk.shot("mistakes")
    finally:
        await server.stop()


async def test_nobody_decides_about_a_picture_that_never_came(tmp_path, browsers):
    server = await doubted(tmp_path)
    try:
        desk = await browsers.desk(server, "Eva", "/mistakes")
        await desk.page.route("**/image/**", lambda route: route.abort())
        await desk.page.reload()
        await desk.page.wait_for_selector(".doubt")
        await desk.page.wait_for_selector("text=This image cannot be shown now")
        before = await desk.page.inner_text("#facts")
        for key in ("m", "k", "3", "n"):
            await desk.page.keyboard.press(key)
        assert await desk.page.inner_text("#facts") == before
        assert await desk.page.inner_text("#unsent") == "0"
        await desk.page.unroute("**/image/**")
        await server.stop()
        await desk.page.wait_for_selector("text=The server is away")
        await server.start()
        key = await desk.press("m")  # the picture came with the server
        await desk.sent()
        assert await said_of(server, (key,)) == [(("red",), REVIEW)]
    finally:
        await server.stop()


async def test_the_pages_of_numbers_fit_a_telephone_and_break_no_rule_of_their_own(tmp_path, browsers):
    server = await doubted(tmp_path)
    try:
        desk = await browsers.desk(server, "Kari", "/mistakes", viewport={"width": 360, "height": 740}, locale="nb-NO")
        for path in ("/progress", "/quality"):
            await desk.page.goto(server.url + path)
            assert await desk.page.evaluate("document.documentElement.scrollWidth") <= 360
            off = await desk.page.evaluate("""() => [...document.querySelectorAll("table.wide td, table.wide .pill")]
              .map((one) => one.getBoundingClientRect().right).filter((right) => right > innerWidth)""")
            assert off == [], path
            loaded = "() => [...document.images].every((one) => one.complete && one.naturalWidth > 0)"
            await desk.page.wait_for_function(loaded)
            await desk.shot(f"narrow{path.replace('/', '-')}")
    finally:
        await server.stop()


async def test_a_telephone_shows_both_ways_out_of_a_doubt(tmp_path, browsers):
    version = "6b0c2a2e-51c2-4bd0-9e0f-0d4d5a1c77aa"
    server = await mistaken(tmp_path, model=seeing(tmp_path / "new.zip", version))
    try:

        async def asked() -> bool:
            with closing(sqlite3.connect(tmp_path / "state" / "predicted.db")) as kept:
                return bool(kept.execute("SELECT count(*) = 11 FROM predicted").fetchone()[0])

        await eventually(asked, 30)
        desk = await browsers.desk(server, "Eva", "/mistakes", viewport={"width": 390, "height": 844})
        await desk.page.wait_for_selector(".doubt")
        assert "The newer model says" in await desk.page.inner_text("#opinion")
        assert version not in await desk.page.inner_text("body"), "an id tells a person nothing"
        assert await desk.page.locator(".doubt").last.get_attribute("title") == version
        boxes = [await desk.page.locator(f"[data-command={name}]").bounding_box() for name in ("keep", "take", "undo")]
        assert await desk.page.locator("[data-command=take]").evaluate("""(one) => {
          const box = one.getBoundingClientRect();
          return document.elementFromPoint(box.x + box.width / 2, box.y + box.height - 4).closest("button") === one;
        }""")
        assert all(box["y"] + box["height"] <= 844 for box in boxes)
        await desk.shot("telephone-mistakes")
    finally:
        await server.stop()


async def test_a_judges_report_has_no_script_and_no_part_in_the_session(tmp_path, browsers):
    work = tmp_path / "work"
    work.mkdir()
    side = '{"version": "v", "accuracy": {"share": 1, "low": 0, "high": 1}, "tags": [], "confusion": []}'
    (work / "judged.json").write_text(
        f'{{"verdict": "same", "because": [], "images": 1, "active": {side}, "candidate": {side}}}'
    )
    (work / "report.html").write_text("<title>before</title><script>document.title = 'after'</script>")
    server = await doubted(tmp_path, report=work)
    try:
        desk = await browsers.desk(server, "Eva", "/mistakes")
        stranger = await desk.page.context.new_page()
        await stranger.goto(server.url + "/report")
        await asyncio.sleep(0.2)
        assert await stranger.title() == "before"
        assert await stranger.evaluate("() => self.origin") == "null"
    finally:
        await server.stop()
