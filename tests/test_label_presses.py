"""One press is one answer: keys held down, keys and clicks that bounce, focus that stays, arrows beside the digits."""

import asyncio

import pytest

from desks import GLANCE, NOW, away, eventually, finals, text
from retrain.labels import TAG, Labels
from ripeloop.prediction import format_time

pytestmark = pytest.mark.asyncio(loop_scope="module")

PRESS = """({ key, code }) =>
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, code, bubbles: true, cancelable: true }))"""
BUSY = "() => { for (const end = performance.now() + 300; performance.now() < end; ); }"


async def test_enter_held_down_on_a_tag_is_one_answer(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.shows_image()
    await asyncio.sleep(GLANCE)
    await desk.page.locator(".tag").nth(1).focus()
    for _ in range(6):  # down again without up: it repeats
        await desk.page.keyboard.down("Enter")
        await asyncio.sleep(GLANCE)
    await desk.page.keyboard.up("Enter")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


async def test_a_click_leaves_no_focus_that_the_next_key_would_press(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.shows_image()
    await asyncio.sleep(GLANCE)
    await desk.page.locator(".tag").nth(1).click()
    await asyncio.sleep(GLANCE)
    await desk.press("Space")
    await desk.press("Shift+Digit1")
    await desk.page.keyboard.press("Shift+Digit3")
    await desk.page.keyboard.press("Enter")
    await desk.sent()
    both = ("overripe", "unripe")
    assert sorted(labels.final.says[1] for labels in await server.labels()) == [both, ("ripe",)]


async def test_enter_sends_what_was_chosen_also_from_a_tag(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.desk(server)
    await desk.press("Shift+Digit1")
    await desk.page.keyboard.press("Shift+Digit3")
    await desk.page.locator(".tag").nth(1).focus()
    await desk.page.keyboard.press("Enter")
    await desk.sent()
    assert [labels.final.says[1] for labels in await server.labels()] == [("overripe", "unripe")]


async def test_an_arrow_beside_the_digits_is_no_tag(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.desk(server)
    first = await desk.shows_image()
    await asyncio.sleep(GLANCE)
    await desk.page.evaluate(PRESS, {"key": "ArrowDown", "code": "Numpad2"})
    assert await desk.shows_image() == first
    await desk.page.evaluate(PRESS, {"key": "2", "code": "Numpad2"})
    await desk.next_after(first)
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


@pytest.mark.parametrize("opens", ["t", "?"])
async def test_a_key_right_after_a_dialog_was_closed_is_not_lost_in_it(label_server, browsers, opens):
    server = await label_server(4)
    desk = await browsers.desk(server)
    image = await desk.press("Shift+Digit2")
    await desk.page.keyboard.press(opens)
    await desk.page.wait_for_selector("dialog[open] :is(input, button):focus")
    busy = asyncio.create_task(desk.page.evaluate(BUSY))  # so that the page is not drawn between the two keys
    await asyncio.sleep(0.1)
    await asyncio.gather(desk.page.keyboard.press("Escape"), desk.page.keyboard.press("Enter"), busy)
    await desk.next_after(image)
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


async def test_a_key_that_bounces_answers_once(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    first = await desk.shows_image()
    await asyncio.sleep(GLANCE)
    twice = {"key": "2", "code": "Digit2"}
    await desk.page.evaluate(f"(press) => {{ ({PRESS})(press); ({PRESS})(press); }}", twice)
    await desk.next_after(first)
    assert await text(desk, "#told") == "That was too quick for this image. Nothing was labelled."
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


async def test_a_double_click_is_one_answer(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.shows_image()
    await asyncio.sleep(GLANCE)
    box = await desk.page.locator(".tag").nth(1).bounding_box()
    await desk.page.mouse.move(box["x"] + 40, box["y"] + 20)
    for count in (1, 2):
        await desk.page.mouse.down(click_count=count)
        await desk.page.mouse.up(click_count=count)
        await asyncio.sleep(0.25)
    await desk.shows_image()
    await asyncio.sleep(GLANCE)
    await desk.page.locator(".tag").nth(0).click()
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1, (TAG, "unripe"): 1}


async def test_a_group_s_odd_ones_are_not_labelled_by_a_key_that_bounces(label_server, browsers):
    server = await label_server(20)
    desk = await browsers.desk(server, path="/grid")
    await desk.sees_tiles()
    shown = await desk.page.locator(".tile").count()
    await desk.picks_all_tiles()
    await desk.page.locator(".tile").nth(2).click()
    await asyncio.sleep(GLANCE)
    twice = {"key": "2", "code": "Digit2"}
    await desk.page.evaluate(f"(press) => {{ ({PRESS})(press); ({PRESS})(press); }}", twice)
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): shown - 1}


async def test_who_takes_back_what_does_not_stand_is_told(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    key = await desk.press("2")
    await desk.sent()
    blob = await server.blob_of(key)
    taken_back = Labels.of(blob.metadata).undone("Ola", format_time(NOW))
    await server.blobs.mark(blob.name, taken_back.into(blob.metadata), blob.etag)
    await desk.page.keyboard.press("Backspace")
    await desk.page.wait_for_selector(".note >> text=Nothing was taken back")


async def test_answers_to_images_not_listed_yet_wait_in_their_order(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    listing, asked = True, list[str]()

    async def lists(route) -> None:
        asked.append(route.request.url.rsplit("/", 1)[-1])
        if not listing:
            return await route.continue_()
        given = route.request.post_data_json.get("answers")
        unknown = {"outcome": "unknown", "later": True, "status": 404}
        told = {"outcomes": [unknown] * len(given)} if given else unknown
        return await route.fulfill(status=200 if given else 404, json=told)

    for path in ("answer", "answers", "undo"):
        await desk.page.route(f"**/api/{path}", lists)
    first = await desk.press("2")
    await desk.press("3")
    await desk.page.keyboard.press("Backspace")
    await asyncio.sleep(2)
    assert await text(desk, "#unsent") == "3"
    assert "undo" not in asked, "it goes after its answer"
    assert len(asked) < 10
    listing = False
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}
    assert (await server.labels_of(first)).final.tags == ("ripe",)


async def test_a_name_with_a_slash_is_nobody_elses(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server, "Kari/Ola")
    await desk.shows_image()
    async with away(server):
        await desk.press("2")
        await desk.page.wait_for_selector("#offline:not([hidden])")
        await desk.page.goto("about:blank")
    await desk.page.context.clear_cookies()

    async def sign_in(name: str) -> None:
        await desk.page.goto(f"{server.url}/sign-in")
        await desk.page.fill("#name", name)
        await desk.page.click("main button.main")
        await desk.ready()

    await sign_in("Kari")
    assert await text(desk, "#unsent") == "0"
    assert await server.labels() == []
    await desk.page.context.clear_cookies()
    await sign_in("Kari/Ola")

    async def has() -> bool:
        return [labels.final.by for labels in await server.labels()] == ["Kari/Ola"]

    await eventually(has)
