"""What the labelling page looks like and says: sizes, colours, languages, and pictures of it to look at."""

import re
import string
from pathlib import Path
from typing import Any

import pytest

from retrain import label
from retrain.label.strings import LANGUAGES, choose, translator

HERE = Path(label.__file__).parent
TEXTS = translator("en").texts
TEXT, PART = 4.5, 3.0  # what WCAG AA asks of text, and of what else carries meaning
PAIRS = [
    *((ink, ground, TEXT) for ink in ("ink", "soft") for ground in ("paper", "card", "raised")),
    *((tone, ground, TEXT) for tone in ("good", "bad", "warn", "candidate") for ground in ("paper", "card")),
    ("on-candidate", "candidate", TEXT), ("ink", "tint", TEXT), ("warn", "raised", TEXT), ("bad", "raised", TEXT),
    *(("candidate", ground, PART) for ground in ("raised", "stage", "line")),
    *(("edge", ground, PART) for ground in ("paper", "raised", "card")),
]  # fmt: skip


def colours(style: str) -> list[dict[str, str]]:
    """The custom properties of each theme: light, then dark over light."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6});", block))
        for block in re.findall(r":root \{(.*?)\n *\}", style, re.S)
    )
    return [light, light | dark]


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground", "least"), PAIRS)
def test_colours_that_meet_keep_their_contrast(theme: int, ink: str, ground: str, least: float) -> None:
    found = colours((HERE / "static/look.css").read_text())[theme]
    lights = sorted(luminance(found[name]) for name in (ink, ground))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= least


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_says_the_same_things(language: str) -> None:
    texts = translator(language).texts
    assert texts.keys() == TEXTS.keys()

    def places(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}

    assert {key: places(text) for key, text in texts.items()} == {key: places(text) for key, text in TEXTS.items()}
    assert all(text.strip() for text in texts.values())


def test_what_pages_and_scripts_ask_for_is_there() -> None:
    pages = "".join(path.read_text() for path in (HERE / "templates").glob("*.html"))
    asked = set(re.findall(r"""\b_\(["']([a-z_]+\.[a-z_]+)["']""", pages))
    scripts = "".join(path.read_text() for path in (HERE / "static").glob("*.js"))
    asked |= {f"scripts.{name}" for name in re.findall(r"""\bsay\(["']([a-z_]+)["']""", scripts)}
    assert len(asked) > 100
    assert {key for key in asked if not key.endswith("_")} <= TEXTS.keys()


@pytest.mark.parametrize(
    ("cookie", "wishes", "language"),
    [
        (None, "", "en"),
        (None, "nb-NO,nb;q=0.9,en;q=0.8", "nb"),
        (None, "no", "nb"),
        (None, "nn-NO", "nb"),
        (None, "fr,nl-BE;q=0.5,en;q=0.1", "nl"),
        (None, "nl;q=0,en", "en"),
        (None, "en;q=0.2,nl;q=0.7", "nl"),
        (None, "x;q=ü,,;q=,*", "en"),
        ("nl", "nb", "nl"),
        ("../en", "nb", "nb"),
    ],
)
def test_the_language_is_the_chosen_one_else_the_browser_s(cookie: str | None, wishes: str, language: str) -> None:
    assert choose(cookie, wishes) == language


def test_nothing_in_a_page_is_inline() -> None:
    for path in (HERE / "templates").glob("*.html"):
        found = path.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\son\w+=|javascript:|https?://", found), path
    for path in (HERE / "static").glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|https?://", path.read_text()
        ), path


async def small(desk: Any) -> list[str]:
    """What a finger would miss."""
    found = await desk.page.evaluate("""() => [...document.querySelectorAll("button, select, input, summary, .top a")]
      .filter((one) => one.checkVisibility({ visibilityProperty: true }) && one.type !== "hidden")
      .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect()])
      .filter(([, box]) => box.height < 44 || box.width < 40)
      .map(([html, box]) => `${html} ${box.width}x${box.height}`)""")
    return list(found)


WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
PATHS = ("/label", "/grid", "/review")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_telephone_shows_all_without_scrolling_sideways(label_server, browsers):
    server = await label_server(
        12, retrain=("true",), tags=("unripe", "ripe", "overripe", "a tag with a rather long name indeed")
    )
    desk = await browsers.stranger(server, viewport={"width": 360, "height": 740}, device_scale_factor=2)
    await desk.page.goto(f"{server.url}/sign-in")
    assert await desk.page.evaluate(WIDE) == 0
    assert await small(desk) == []
    await desk.page.fill("#name", "Kari")
    await desk.page.click("main button.main")
    for path in PATHS:
        await desk.open(path)
        assert await desk.page.evaluate(WIDE) == 0, path
        assert await small(desk) == [], path
        await desk.shot(f"telephone{path.replace('/', '-')}")
    for path in ("/admin/retrain", "/nothing-here"):
        await desk.page.goto(server.url + path)
        assert await desk.page.evaluate(WIDE) == 0, path
    await desk.open()
    await desk.page.click("#filters summary")
    await desk.shot("telephone-filters")
    assert await desk.page.evaluate(WIDE) == 0
    await desk.page.keyboard.press("Escape")
    await desk.page.keyboard.press("?")
    await desk.shot("telephone-help")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("language", LANGUAGES)
async def test_on_a_telephone_every_button_says_what_it_does(label_server, browsers, language):
    server = await label_server(8)
    desk = await browsers.desk(server, viewport={"width": 390, "height": 844}, has_touch=True, locale=language)
    says = translator(language)
    for path, command, word in (
        ("/label", "zoom", "zoom"),
        ("/label", "contrast", "contrast"),
        ("/grid", "all", "all"),
    ):
        await desk.open(path)
        assert await desk.page.inner_text(f"[data-command={command}]") == says(f"label.{word}")
        assert await desk.page.evaluate(WIDE) == 0
    await desk.page.wait_for_selector(".tile")
    await desk.shot(f"telephone-words-{language}")


@pytest.mark.asyncio(loop_scope="module")
async def test_pages_beyond_the_edge_of_a_telephone_are_hinted_at(label_server, browsers):
    server = await label_server(2)
    desk = await browsers.desk(server, viewport={"width": 390, "height": 844}, has_touch=True)
    side = "(side) => getComputedStyle(document.querySelector('.top nav'), side).content"
    for path, before, after in (("/label", False, True), ("/mistakes", True, False)):
        await desk.page.goto(server.url + path)
        await desk.page.wait_for_selector(f".top nav[data-{'after' if after else 'before'}]")
        seen = [await desk.page.evaluate(side, name) != "none" for name in ("::before", "::after")]
        assert seen == [before, after], path
    wide = await browsers.desk(server)
    assert await wide.page.evaluate(side, "::after") == "none"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_tag_s_name_is_in_the_middle_of_its_button_where_nothing_is_below(label_server, browsers):
    server = await label_server(8, blind=1.0)
    desk = await browsers.desk(server, viewport={"width": 390, "height": 844}, has_touch=True)
    for path in ("/label", "/grid", "/review"):
        await desk.open(path)
        off = await desk.page.evaluate("""() => [...document.querySelectorAll(".tag")].map((tag) => {
          const [own, name] = [tag, tag.querySelector(".name")].map((one) => one.getBoundingClientRect());
          return Math.abs((own.top + own.bottom) / 2 - (name.top + name.bottom) / 2);
        })""")
        assert max(off) <= 3, (path, off)


@pytest.mark.asyncio(loop_scope="module")
async def test_without_an_image_no_answer_can_be_pressed(label_server, browsers):
    server = await label_server(1)
    desk = await browsers.desk(server, path="/review")
    await desk.page.wait_for_selector("#calm:not([hidden])")
    free = "() => [...document.querySelectorAll('.answers button, .view button')].filter((one) => !one.disabled).length"
    await desk.page.wait_for_function("() => document.querySelectorAll('.tag').length === 3")
    assert await desk.page.evaluate(free) == 0
    await desk.shot("review-empty")
    await desk.open("/label")
    await desk.press("1")
    await desk.sent()
    assert await desk.page.evaluate(free) == 1, "the answer can be taken back"
    await desk.page.click("[data-command=undo]")
    await desk.shows_image()
    assert await desk.page.evaluate(free) == 3 + 5 + 2


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_it_is_looked_at_on_a_desk(label_server, browsers, theme):
    server = await label_server(40, size=300, blind=0.0)
    desk = await browsers.desk(server, "Kari", color_scheme=theme)
    await desk.press("2")
    await desk.shows_image()
    await desk.sent()
    await desk.shot(f"label-{theme}")
    await desk.page.keyboard.press("?")
    await desk.shot(f"help-{theme}")
    await desk.page.keyboard.press("Escape")
    await desk.page.keyboard.press("t")
    await desk.shot(f"new-tag-{theme}")
    await desk.page.keyboard.press("Escape")
    await server.answer_as("Per", await desk.shows_image(), "overripe")
    await desk.press("1")
    await desk.page.locator(".note").wait_for()
    await desk.shot(f"quicker-{theme}")
    await desk.open("/grid")
    await desk.page.wait_for_selector(".tile")
    await desk.page.keyboard.press("ArrowRight")
    await desk.page.keyboard.press("Space")
    await desk.page.wait_for_function("() => [...document.querySelectorAll('.tile img')].every((one) => one.complete)")
    await desk.shot(f"grid-{theme}")
    stranger = await browsers.stranger(server, color_scheme=theme)
    await stranger.page.goto(f"{server.url}/sign-in")
    await stranger.shot(f"sign-in-{theme}")


@pytest.mark.asyncio(loop_scope="module")
async def test_a_large_screen_is_used(label_server, browsers):
    server = await label_server(6, size=300)
    desk = await browsers.desk(server, viewport={"width": 3840, "height": 2160})
    await desk.shows_image()
    await desk.shot("large")
    box = await desk.page.locator("#pane").bounding_box()
    assert box
    assert box["width"] > 3000
    assert box["height"] > 1900


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_moves_from_image_to_image(label_server, browsers):
    server = await label_server(12, blind=0.5)
    desk = await browsers.desk(server)
    where = """() => [...document.querySelectorAll("#pane, .tag, .other, .under, .view")]
      .map((one) => one.getBoundingClientRect()).map(({ x, y, width, height }) => [x, y, width, height].join(" "))
      .join("; ")"""
    places = set()
    for _ in range(8):
        await desk.press("1")
        await desk.shows_image()
        places.add(await desk.page.evaluate(where))
    assert len(places) == 1


@pytest.mark.asyncio(loop_scope="module")
async def test_a_page_speaks_the_language_that_was_chosen(label_server, browsers):
    server = await label_server(4)
    desk = await browsers.desk(server, locale="nb-NO")
    await desk.shows_image()
    assert await desk.page.get_attribute("html", "lang") == "nb"
    assert "Hopp over" in await desk.page.inner_text("#others")
    await desk.page.click(".menu:last-child summary")
    await desk.page.select_option("#lang", "nl")
    await desk.page.wait_for_selector("html[lang=nl]")
    await desk.ready()
    assert "Overslaan" in await desk.page.inner_text("#others")
    assert desk.page.url.endswith("/label")
    await desk.press("1")
    assert (await desk.page.inner_text("#told")).startswith("Gelabeld: unripe")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_keyboard_s_focus_is_seen_everywhere_and_everything_has_a_name(label_server, browsers):
    server = await label_server(6)
    for path in PATHS:
        desk = await browsers.desk(server, "Kari", path)
        stops = []
        for _ in range(40):
            await desk.page.keyboard.press("Tab")
            stop = await desk.page.evaluate("""() => {
              const one = document.activeElement, style = getComputedStyle(one);
              const name = one.getAttribute("aria-label") || one.labels?.[0]?.textContent || one.textContent;
              return one === document.body ? null : [one.tagName, name.trim(), style.outlineStyle, style.outlineWidth];
            }""")
            if stop is not None:  # else the browser's own bar has it
                stops.append(stop)
        assert len(stops) > 15, path
        assert [stop for stop in stops if not stop[1]] == [], path
        assert {(style, width) for _, _, style, width in stops} == {("solid", "3px")}, path


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_small_telephone_has_room_for_the_picture(label_server, browsers, language):
    long = "a tag with a rather long name indeed, longer than its button"
    server = await label_server(8, tags=("unripe", long, f"{long} too"))
    desk = await browsers.desk(
        server, "Kari Nordmann", has_touch=True, viewport={"width": 360, "height": 640}, locale=language
    )
    await desk.press("1")
    await desk.shows_image()
    await desk.shot(f"small-telephone-{language}")
    box = await desk.page.locator("#pane").bounding_box()
    assert box
    assert box["height"] >= 220
    assert await desk.page.evaluate(WIDE) == 0
    assert await small(desk) == []
    for command in ("skip", "undo", "junk"):  # in sight, whatever the tags are called
        button = await desk.page.locator(f"[data-command={command}]").bounding_box()
        assert button
        assert button["y"] + button["height"] <= 640
