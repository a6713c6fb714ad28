"""The plot of the demo's page: words a person can read on a telephone, none cut off and none on another."""

from __future__ import annotations

import re

import pytest

from demo.plot import WIDE, lines
from demo.report import _MORE
from desks import Browsers, browsers, chromium
from retrain.judging.report.style import STYLE

__all__ = ["browsers", "chromium"]


def drawn() -> str:
    """Four turns and the day after, as the demo names them."""
    places = [("turn 1", "day"), ("turn 2", "night"), ("turn 3", "both"), ("turn 4", "both"), ("after", "both")]
    plot = lines(places, {"right": [0.6, 0.8, 0.7, 0.9, 1.0], "flagged": [0.5, 0.3, 0.4, 0.35, 0.2]})
    head = '<!doctype html><meta name="viewport" content="width=device-width, initial-scale=1">'
    return f"{head}<style>{STYLE}{_MORE}</style><main>{plot}</main>"


def test_the_plot_says_itself_in_words() -> None:
    assert 'aria-label="right: 60 %, 80 %' in drawn()
    assert f'viewBox="0 0 {WIDE} ' in drawn()
    assert len(re.findall("<circle", drawn())) == 10


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("width", [390, 1280])
async def test_its_words_are_large_enough_and_keep_apart(browsers: Browsers, width: int) -> None:
    desk = await browsers.stranger(None, viewport={"width": width, "height": 800})  # type: ignore[arg-type]
    await desk.page.set_content(drawn())
    await desk.shot(f"demo-plot-{width}")
    told = await desk.page.evaluate("""() => {
      const svg = document.querySelector(".plot"), edge = svg.getBoundingClientRect();
      const scale = edge.width / svg.viewBox.baseVal.width;
      const boxes = [...svg.querySelectorAll("text")].map((one) => [one, one.getBoundingClientRect()]);
      const meet = (one, other) => one.left < other.right && other.left < one.right && one.top + 2 < other.bottom &&
        other.top + 2 < one.bottom;
      return {
        size: Math.min(...boxes.map(([one]) => parseFloat(getComputedStyle(one).fontSize) * scale)),
        cut: boxes.filter(([, box]) => box.left < edge.left || box.right > edge.right).map(([one]) => one.textContent),
        met: boxes.flatMap(([one, box], nth) => boxes.slice(nth + 1).filter(([, other]) => meet(box, other))
          .map(([other]) => `${one.textContent} / ${other.textContent}`)),
      };
    }""")
    assert told["size"] >= 9.5
    assert (told["cut"], told["met"]) == ([], [])
