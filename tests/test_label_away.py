"""The page while its server is away or its person is: no key press is lost, doubled, or taken for somebody else's."""

from typing import Any

import pytest

from desks import away, eventually, fill, finals, text
from retrain.labels import TAG

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNSENT = "() => Object.keys(localStorage).filter((name) => name.startsWith('ripeloop/')).length"


async def test_a_server_that_is_away_is_shown_and_loses_no_key_press(label_server, browsers):
    server = await label_server(20)
    desk = await browsers.desk(server)
    images = [await desk.press("2")]
    await desk.sent()
    await desk.shows_image()
    async with away(server):
        images += [await desk.press(key) for key in "2132"]
        await desk.page.wait_for_selector("#offline:not([hidden])")
        assert "The server is away" in await text(desk, "#offline")
        assert await text(desk, "#unsent") == "4"
        await desk.shot("offline")
    await desk.sent()
    await desk.page.wait_for_selector("#offline", state="hidden")
    found = await server.labels()
    assert finals(found) == {(TAG, "unripe"): 1, (TAG, "ripe"): 3, (TAG, "overripe"): 1}
    assert [len(labels.answers) for labels in found] == [1] * 5, "exactly once"
    await desk.press("1")
    await desk.sent()
    assert len(set(images)) == 5
    assert len(await server.labels()) == 6


async def test_who_has_labelled_all_that_was_fetched_waits_for_the_server(label_server, browsers, tmp_path):
    server = await label_server(3)
    desk = await browsers.desk(server)
    await desk.shows_image()
    async with away(server):
        for key in "123":
            await desk.press(key)
        await desk.page.wait_for_selector("text=Waiting for the server")
        await fill(tmp_path, 2, start=50)
    await desk.press("2")
    await desk.press("2")
    await desk.sent()
    await desk.page.wait_for_selector("text=Nothing left to label here")
    assert finals(await server.labels()) == {(TAG, "unripe"): 1, (TAG, "ripe"): 3, (TAG, "overripe"): 1}


async def test_a_closed_tab_keeps_what_was_not_sent(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.shows_image()
    async with away(server):
        for key in "231":
            await desk.press(key)
        assert await desk.page.evaluate(UNSENT) == 3
        await desk.page.close()
    desk.page = await browsers.contexts[-1].new_page()
    await desk.open()
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "unripe"): 1, (TAG, "ripe"): 1, (TAG, "overripe"): 1}
    assert await desk.page.evaluate(UNSENT) == 0


async def test_an_answer_whose_receipt_was_lost_is_there_once(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    lost = 2

    async def loses(route: Any) -> None:
        nonlocal lost
        lost -= 1
        if lost < 0:
            await route.continue_()
            return
        await route.fetch()  # it arrives, and its receipt does not
        await route.abort()

    await desk.page.route("**/api/answer", loses)
    await desk.press("3")
    await desk.sent()
    assert lost < 0
    [labels] = await server.labels()
    assert [answer.says for answer in labels.answers] == [(TAG, ("overripe",))]


async def test_who_was_signed_out_signs_in_again_and_nothing_is_lost(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    await desk.shows_image()
    await desk.page.context.clear_cookies()
    await desk.press("1")
    await desk.press("2")
    note = desk.page.locator(".note")
    await note.wait_for()
    assert "You are signed out" in await note.inner_text()
    await note.get_by_role("link", name="Sign in").click()
    await desk.page.fill("#name", "Kari")
    await desk.page.click("main button.main")
    await desk.ready()
    assert await server.labels() == [], "another person does not send them as their own"
    await desk.page.context.clear_cookies()
    await desk.page.goto(f"{server.url}/sign-in")
    await desk.page.fill("#name", "Ola")
    await desk.page.click("main button.main")
    await desk.ready()
    await desk.sent()
    await eventually(lambda: has(server, 2))
    assert finals(await server.labels()) == {(TAG, "unripe"): 1, (TAG, "ripe"): 1}


async def has(server: Any, answers: int) -> bool:
    return len(await server.labels()) == answers


async def test_who_signs_in_beside_somebody_sends_nothing_of_theirs(label_server, browsers):
    server = await label_server(8)
    ola = await browsers.desk(server, "Ola")
    await ola.shows_image()
    beside = await ola.page.context.new_page()

    async def sign_in(name: str) -> None:
        await ola.page.context.clear_cookies()
        await beside.goto(f"{server.url}/sign-in")
        await beside.fill("#name", name)
        await beside.click("main button.main")
        await beside.wait_for_selector(".tag")

    await sign_in("Kari")
    await ola.press("2")
    await ola.page.wait_for_selector("text=You are signed out")
    assert await server.labels() == []
    await sign_in("Ola")
    await ola.page.evaluate("() => dispatchEvent(new Event('online'))")
    await ola.sent()
    [labels] = await server.labels()
    assert labels.final.by == "Ola"
