"""The trainer's page for a person: in both themes, and with a way on where there is nothing yet."""

from __future__ import annotations

import re

import pytest

from desks import Browsers, browsers, chromium
from trainer.api.page import page

__all__ = ["browsers", "chromium"]


def test_without_a_project_the_page_says_what_makes_one() -> None:
    told = page([])
    assert "ripeloop dataset import --from FOLDER --endpoint ADDRESS" in told
    assert "Custom Vision SDK" in told
    assert "--training-key" not in told  # flags are seen by everybody on the computer


def test_a_reader_in_the_dark_gets_a_dark_page() -> None:
    style = re.search(r"<style>(.*?)</style>", page([]), re.DOTALL)
    assert style
    light, dark = re.findall(r":root \{(.*?)\}", style[1], re.DOTALL)
    names = set(re.findall(r"--(\w+):", dark))
    assert names == set(re.findall(r"--(\w+):", light)) == set(re.findall(r"var\(--(\w+)\)", style[1]))
    assert not re.search(r"#[0-9a-f]{3,6}", re.sub(r":root \{.*?\}", "", style[1], flags=re.DOTALL))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_it_fits_a_telephone_and_a_desk(browsers: Browsers, theme: str, width: int) -> None:
    desk = await browsers.stranger(None, color_scheme=theme, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    await desk.page.set_content(page([]))
    assert await desk.page.evaluate("document.documentElement.scrollWidth") == width
    ground = await desk.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 27)"}[theme]
    await desk.shot(f"trainer-{width}-{theme}")
