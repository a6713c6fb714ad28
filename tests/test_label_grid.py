"""Many look-alikes labelled with one key, in a real Chromium."""

import asyncio

import pytest

from desks import GLANCE, eventually, finals, text
from retrain.labels import GRID, TAG

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_group_is_labelled_with_one_key_without_the_odd_ones(label_server, browsers):
    server = await label_server(30)
    desk = await browsers.desk(server, path="/grid")
    await desk.sees_tiles()
    shown = await desk.page.locator(".tile").count()
    assert shown >= 6
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
    assert await text(desk, "#group") == "2 of 2 picked", "the odd ones stay, for the next key"
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
    await desk.page.keyboard.press("1")
    assert await text(desk, "#group") == "There are more below: look at them first, then press again."
    assert await server.labels() == []

    async def labelled() -> bool:
        await desk.page.keyboard.press("1")
        return await desk.page.locator("#last").is_visible()

    await eventually(labelled)
    await desk.sent()
    assert len(await server.labels()) == shown
