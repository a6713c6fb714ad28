"""Many look-alikes labelled with one key, in a real Chromium."""

import asyncio

import pytest

from desks import CONTAINER, GLANCE, Desk, Server, drawn, eventually, finals, text
from labelling import put
from retrain.labels import GRID, TAG
from ripeloop.blobs import FolderBlobs

pytestmark = pytest.mark.asyncio(loop_scope="module")
PEAR, APPLE = "5a" * 32, "0f" * 32  # looks


async def looks(desk: Desk) -> list[tuple[str, bool]]:
    """The tiles by the device each came from, and whether they are picked."""
    found = await desk.page.evaluate("""() => [...document.querySelectorAll(".tile")].map(
      (tile) => [tile.sample.device, tile.getAttribute("aria-selected") === "true"])""")
    return [(device, picked) for device, picked in found]


async def test_only_what_looks_like_the_first_is_picked(tmp_path, browsers):
    folder = FolderBlobs(tmp_path / CONTAINER)
    for nth, (device, look) in enumerate([("pear", PEAR), ("apple", APPLE)] * 2 + [("", "")]):
        await put(folder, nth, image=drawn(nth).jpeg, device=device or "strange", dhash=look)
    server = await Server(tmp_path, tags=("ripe", "unripe")).start()
    try:
        desk = await browsers.desk(server, path="/grid")
        await desk.sees_tiles()
        before = await looks(desk)
        first = before[0][0]
        assert len(before) == 5
        assert [device for device, picked in before if picked] == [first] * (1 if first == "strange" else 2)
        assert {device for device, picked in before if not picked} == {"pear", "apple", "strange"} - {first}
        words = await desk.page.locator(".others-words").bounding_box()
        tiles = [await tile.bounding_box() for tile in await desk.page.locator(".tile").all()]
        assert [box["y"] < words["y"] for box in tiles] == [picked for _, picked in before]
        await desk.shot("grid-others")
        await asyncio.sleep(GLANCE)
        await desk.page.keyboard.press("1")
        await desk.sent()
        assert finals(await server.labels()) == {(TAG, "ripe"): sum(picked for _, picked in before)}
        after = await looks(desk)
        assert first not in {device for device, _ in after}
        assert {device for device, picked in after if picked} == {after[0][0]}, "the next group is picked"
        await desk.page.keyboard.press("Backspace")
        undone = await looks(desk)
        assert [picked for _, picked in undone] == [device == first for device, _ in undone]
    finally:
        await server.stop()


async def test_arrows_go_up_and_down_over_rows_of_any_length(label_server, browsers):
    server = await label_server(30)
    desk = await browsers.desk(server, path="/grid")
    await desk.sees_tiles()
    at = "() => [...document.querySelectorAll('.tile')].indexOf(document.activeElement)"
    await desk.page.keyboard.press("ArrowDown")
    assert await desk.page.evaluate(at) == 1, "the first row has one"
    await desk.page.keyboard.press("ArrowRight")
    await desk.page.keyboard.press("ArrowUp")
    assert await desk.page.evaluate(at) == 0
    await desk.page.keyboard.press("ArrowUp")
    assert await desk.page.evaluate(at) == 0


async def test_a_group_is_labelled_with_one_key_without_the_odd_ones(label_server, browsers):
    server = await label_server(30)
    desk = await browsers.desk(server, path="/grid")
    await desk.sees_tiles()
    shown = await desk.page.locator(".tile").count()
    assert shown >= 6
    await desk.picks_all_tiles()
    await desk.page.keyboard.press("ArrowRight")
    await desk.page.keyboard.press("ArrowRight")
    await desk.page.keyboard.press("Space")
    await desk.page.locator(".tile").nth(3).click()
    assert await text(desk, "#group") == f"{shown - 2} of {shown} picked"
    await desk.shot("grid")
    await desk.page.keyboard.press("2")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): shown - 2}
    assert {answer.how for labels in await server.labels() for answer in labels.answers} == {GRID}
    assert await text(desk, "#group") == "1 of 2 picked", "the odd ones stay, for the next key"
    await desk.picks_all_tiles()
    await asyncio.sleep(GLANCE)
    await desk.page.keyboard.press("3")
    await desk.page.wait_for_function("() => document.querySelectorAll('.tile').length > 2")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): shown - 2, (TAG, "overripe"): 2}
    await desk.page.keyboard.press("Backspace")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): shown - 2}
    await asyncio.sleep(GLANCE)
    await desk.page.keyboard.press("1")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): shown - 2, (TAG, "unripe"): 2}


async def test_nobody_answers_for_images_below_the_fold(label_server, browsers):
    server = await label_server(20)
    desk = await browsers.desk(server, path="/grid", viewport={"width": 1366, "height": 300})
    await desk.page.wait_for_selector(".tile")
    shown = await desk.page.locator(".tile").count()
    await desk.page.keyboard.press("a")
    await desk.page.keyboard.press("1")
    assert await text(desk, "#group") == "There are more below: look at them first, then press again."
    assert await server.labels() == []

    async def labelled() -> bool:
        await desk.page.keyboard.press("1")
        return await desk.page.locator("#last").is_visible()

    await eventually(labelled)
    await desk.sent()
    assert len(await server.labels()) == shown
