"""Labelling in a real Chromium, image by image: by key, mouse and finger, alone and with others."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from desks import GLANCE, eventually, finals, text
from retrain.label.container.samples import key_of
from retrain.labels import JUNK, NONE, REVIEW, TAG, UNSURE

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = {"1": "unripe", "2": "ripe", "3": "overripe"}


async def test_twenty_images_are_labelled_by_keyboard_alone(label_server, browsers):
    server = await label_server(24)
    desk = await browsers.desk(server)
    answered = {}
    for nth in range(20):
        key = "123"[nth % 3]
        answered[await desk.press(key)] = KEYS[key]
    await desk.shows_image()
    await desk.sent()
    assert len(answered) == 20
    labels = {key: (await server.labels_of(key)).final for key in answered}
    assert {key: final.tags[0] for key, final in labels.items()} == answered
    assert {final.by for final in labels.values()} == {"Ola"}
    await desk.page.wait_for_function("() => document.getElementById('today').textContent === '20'")
    assert await text(desk, "#left") == "4"
    took = sorted(await desk.page.evaluate("() => performance.getEntriesByName('next image').map((e) => e.duration)"))
    assert took[len(took) // 2] < 50, took  # milliseconds from the press to the next image, painted


async def test_every_answer_has_its_key(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    for key in ("n", "u", "j", "s"):
        await desk.press(key)
    both = await desk.press("Shift+Digit1")
    await desk.page.keyboard.press("Shift+Digit2")
    assert await desk.page.locator(".tag.chosen").count() == 2
    await desk.page.keyboard.press("Enter")
    await desk.next_after(both)
    named = await desk.press("t")
    await desk.page.fill("#naming-name", " stickered  e\u0301")  # written as \u00e9
    await desk.page.keyboard.press("Enter")
    await desk.page.wait_for_selector("dialog:not([open])", state="attached")
    await desk.next_after(named)
    await desk.press("4")  # the new tag has the next key
    await desk.sent()
    assert finals(await server.labels()) == {
        (NONE,): 1, (UNSURE,): 1, (JUNK,): 1, (TAG, "ripe", "unripe"): 1, (TAG, "stickered \u00e9"): 2,
    } or finals(await server.labels()) == {
        (NONE,): 1, (UNSURE,): 1, (JUNK,): 1, (TAG, "unripe", "ripe"): 1, (TAG, "stickered \u00e9"): 2,
    }  # fmt: skip


async def test_undo_goes_back_image_by_image(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    images = [await desk.press("1") for _ in range(3)]
    await desk.shows_image()
    assert await text(desk, "#last") == "unripe"
    back = []
    for _ in range(2):
        await desk.page.keyboard.press("Backspace")
        back.append(await desk.shows_image())
    assert back == images[:0:-1]
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "unripe"): 1}
    assert await desk.press("3") == images[1]
    assert await desk.press("2") == images[2], "what was undone before comes next again"
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "unripe"): 1, (TAG, "ripe"): 1, (TAG, "overripe"): 1}
    for _ in range(5):
        await desk.page.keyboard.press("Backspace")
    assert await text(desk, "#told") == "Nothing to undo"


async def test_what_is_typed_into_a_field_labels_nothing(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.desk(server)
    first = await desk.press("t")
    await desk.page.wait_for_selector("#naming[open] input:focus")
    await desk.page.keyboard.type("junk 123")
    await desk.page.keyboard.press("Escape")
    await desk.page.wait_for_selector("#naming:not([open])", state="attached")
    await desk.page.keyboard.press("?")
    await desk.page.wait_for_selector("#help[open]")
    await desk.page.keyboard.press("1")
    await desk.page.keyboard.press("Escape")
    await desk.page.wait_for_selector("#help:not([open])", state="attached")
    await desk.page.keyboard.press("Control+c")
    assert await desk.shows_image() == first
    assert await server.labels() == []


async def test_nobody_answers_for_an_image_that_is_not_there_yet(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.stranger(server)
    await desk.page.route("**/image/**", lambda route: route.abort())
    await desk.page.goto(f"{server.url}/sign-in")
    await desk.page.fill("#name", "Ola")
    await desk.page.click("main button.main")
    await desk.page.wait_for_selector(".frame.shown", state="attached")
    await desk.page.keyboard.press("1")
    assert await text(desk, "#told") == "The image is still loading. Nothing was labelled."
    await desk.page.unroute("**/image/**")
    await desk.press("2")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


async def test_a_damaged_file_is_junk_and_never_a_tag(label_server, browsers, tmp_path):
    server = await label_server(0)
    await server.blobs.put("line-1/2026/11/22/" + "0" * 64 + ".jpg", b"\xff\xd8\xff no picture", {}, "image/jpeg")
    await server.stop()
    await server.start()
    desk = await browsers.desk(server)
    await desk.page.wait_for_selector(".frame.shown")
    await desk.page.reload()
    await desk.page.wait_for_selector("text=This file is damaged")
    await asyncio.sleep(GLANCE)
    await desk.page.keyboard.press("1")
    await desk.page.keyboard.press("j")
    await desk.sent()
    assert finals(await server.labels()) == {(JUNK,): 1}


async def test_two_people_on_one_queue_never_see_the_same_image(label_server, browsers):
    server = await label_server(24)
    kari, ola = await asyncio.gather(browsers.desk(server, "Kari"), browsers.desk(server, "Ola"))
    seen = {"Kari": set[str](), "Ola": set[str]()}
    for _ in range(9):
        one, other = await asyncio.gather(kari.press("1"), ola.press("2"))
        seen["Kari"].add(one)
        seen["Ola"].add(other)
    await kari.sent()
    await ola.sent()
    assert seen["Kari"] & seen["Ola"] == set()
    assert finals(await server.labels()) == {(TAG, "unripe"): 9, (TAG, "ripe"): 9}


async def test_who_was_slower_is_told_and_can_look_again(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server)
    raced = await desk.shows_image()
    await server.answer_as("Per", raced, "overripe")
    await desk.press("1")
    note = desk.page.locator(".note")
    await note.wait_for()
    assert "was quicker and said “overripe”. Your “unripe” was not needed." in await note.inner_text()
    assert (await server.labels_of(raced)).final.tags == ("overripe",)
    await note.get_by_role("button", name="Look again").click()
    await desk.page.wait_for_function("() => document.getElementById('opinion').textContent.includes('overripe')")
    assert await desk.press("2") == raced
    await desk.sent()
    labels = await server.labels_of(raced)
    assert labels.final.says == (TAG, ("ripe",))
    assert [answer.how for answer in labels.answers][-1] == REVIEW
    assert len(labels.answers) == 2, "nothing was lost"


async def test_a_disagreement_is_decided_with_both_words_in_sight(label_server, browsers):
    server = await label_server(6)
    key = key_of([blob async for blob in server.blobs.list()][3].name)
    await server.answer_as("Per", key, "overripe")
    await server.answer_as("Ida", key, "ripe")
    kari = await browsers.desk(server, "Kari", "/review")
    assert await kari.shows_image() == key
    assert await text(kari, "#opinion") == "Per: overripe\n\nIda: ripe"
    await kari.shot("review")
    ola = await browsers.desk(server, "Ola", "/review")
    await ola.page.wait_for_selector("text=Nobody disagrees")
    await kari.press("2")
    await kari.sent()
    assert (await server.labels_of(key)).final.says == (TAG, ("ripe",))
    await kari.page.wait_for_selector("text=Nobody disagrees")


async def test_only_an_admin_deletes_and_is_asked_first(label_server, browsers):
    server = await label_server(4)
    ola = await browsers.desk(server, "Ola")
    await ola.press("Delete")
    assert await ola.page.locator("dialog[open], [data-command=delete]").count() == 0
    await ola.page.close()
    kari = await browsers.desk(server, "Kari")
    key = await kari.press("Delete")
    await kari.page.keyboard.press("Enter")
    await kari.press("Delete")
    assert await kari.shows_image() == key, "Enter goes back"
    await kari.page.click("#deleting [value=delete]")
    await kari.next_after(key)
    assert key not in {key_of(blob.name) async for blob in server.blobs.list()}
    await kari.press("Delete")
    await kari.page.keyboard.press("Escape")
    await kari.press("1")
    await kari.sent()
    assert len([blob async for blob in server.blobs.list()]) == 3, "what was said before counts no more"


async def test_a_hidden_suggestion_is_nowhere_in_the_page(label_server, browsers):
    server = await label_server(4, blind=1.0)
    desk = await browsers.desk(server)
    await desk.shows_image()
    assert await text(desk, "#opinion") == "No suggestion: your eye counts"
    assert "%" not in await desk.page.inner_text("#tags")
    parts = await desk.page.eval_on_selector_all(
        ".tag", "(all) => all.map((one) => one.style.getPropertyValue('--part'))"
    )
    assert set(parts) == {"0"}


async def test_a_suggestion_is_shown_with_its_probabilities(label_server, browsers):
    server = await label_server(4, blind=0.0)
    desk = await browsers.desk(server)
    await desk.shows_image()
    assert (await text(desk, "#opinion")).startswith("The model says ")
    assert (await desk.page.inner_text("#tags")).count("%") == 3


async def until(holds: Callable[[], Awaitable[bool]], gesture: Callable[[], Awaitable[None]]) -> None:
    """Make the gesture; a browser that is busy may take one for something slower, so again when nothing came of it."""
    for _ in range(4):
        await gesture()
        with suppress(TimeoutError):
            return await eventually(holds, 3)
    raise AssertionError("nothing came of the gesture")


async def test_a_finger_labels_looks_closely_and_swipes(label_server, browsers):
    server = await label_server(8)
    desk = await browsers.desk(server, has_touch=True, viewport={"width": 360, "height": 740})
    first = await desk.shows_image()
    await asyncio.sleep(GLANCE)
    await desk.page.locator(".tag").nth(1).tap()
    second = await desk.next_after(first)
    session = await desk.page.context.new_cdp_session(desk.page)

    async def fingers(kind: str, *points: tuple[int, int]) -> None:
        touches = [{"x": x, "y": y, "id": nth} for nth, (x, y) in enumerate(points)]
        await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    async def pinch() -> None:
        await fingers("touchStart", (160, 250), (200, 250))
        await fingers("touchMove", (120, 250), (240, 250))
        await fingers("touchEnd")

    async def swipe(start: int, end: int) -> None:
        await fingers("touchStart", (start, 250))
        await fingers("touchMove", (end, 255))
        await fingers("touchEnd")

    async def zoomed() -> bool:
        return await desk.page.get_attribute("[data-command=zoom]", "aria-pressed") == "true"

    async def not_zoomed() -> bool:
        return not await zoomed()

    async def moved() -> bool:
        return await desk.shows_image() != second

    async def back() -> bool:
        return await desk.shows_image() == second

    await until(zoomed, pinch)
    assert await desk.shows_image() == second
    await until(not_zoomed, desk.page.locator("[data-command=zoom]").tap)
    await until(moved, lambda: swipe(260, 120))  # a swipe to the left skips
    await until(back, lambda: swipe(100, 240))  # a swipe to the right goes back
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "ripe"): 1}


async def test_the_wheel_zooms_where_it_points_and_a_drag_moves(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.desk(server)
    await desk.shows_image()
    transform = "() => document.getElementById('frames').style.transform"
    await desk.page.mouse.move(300, 300)
    await desk.page.mouse.wheel(0, -400)
    await desk.page.wait_for_function("() => document.getElementById('frames').style.transform.includes('scale')")
    before = await desk.page.evaluate(transform)
    await desk.page.mouse.down()
    await desk.page.mouse.move(330, 310)
    await desk.page.mouse.up()
    assert await desk.page.evaluate(transform) != before
    await desk.page.keyboard.press("c")
    assert await desk.page.locator("#pane.light-strong").count() == 1
    await desk.press("1")
    assert await desk.page.evaluate(transform) == "", "the next image is whole again"


async def test_filters_stand_in_the_address_and_narrow_the_queue(label_server, browsers):
    server = await label_server(12)
    desk = await browsers.desk(server)
    await desk.page.click("#filters summary")
    await desk.page.select_option("[name=device]", "line-2")
    await desk.page.select_option("[name=order]", "newest")
    await desk.page.click("#filters button.main")
    await desk.ready()
    assert "device=line-2" in desk.page.url
    assert "reason" not in desk.page.url
    assert await text(desk, "#filters-count") == "2"
    for _ in range(4):
        await desk.press("1")
    await desk.page.wait_for_selector("text=Nothing left to label here")
    await desk.sent()
    assert finals(await server.labels()) == {(TAG, "unripe"): 4}
