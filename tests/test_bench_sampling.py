"""What the sampler is for, asked in miniature: fair draws, real choices, and words that follow from the numbers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench.curves import Curve, Curves, Panel, Point
from bench.sampling.choosing import Chance, unsure_alone, unsure_and_unlike
from bench.sampling.command import IMAGES, experiment
from bench.sampling.learning import Course, Turn
from bench.sampling.pictures import Frame, Thing, View
from bench.sampling.report import CHANCE, CHOICES, OURS, WITHOUT, Shown, Told, page, picture
from bench.sampling.stream import MOVING, ONCE, STILL, Plan, Scene, Season, season
from ripeloop.prediction import Prediction

TAGS = ("glass", "metal", "paper", "plastic")
TINY = Plan(held_out=2, first=3, days=2, a_day=2)


def frame(thing: str, number: int, tag: str = "glass") -> Frame:
    """A frame whose looks are its thing's, but for as many bits as its number."""
    name = f"{tag}/{thing}"
    looks = int(hashlib.sha256(name.encode()).hexdigest(), 16) ^ (2**number - 1)
    id_ = hashlib.sha256(f"{name} {number}".encode()).hexdigest()
    return Frame(id_, name, tag, b"\xff\xd8\xff", np.zeros((2, 4), np.float16), f"{looks:064x}")


def things(each: int, frames: int = 1) -> list[Thing]:
    return [
        Thing(f"{tag}/{n}", tag, [frame(str(n), number, tag) for number in range(frames)])
        for tag in TAGS
        for n in range(each)
    ]


def ids(drawn: Season) -> list[list[str]]:
    return [[frame.id for frame in part] for part in (drawn.held_out, drawn.first, *drawn.days)]


def sure(share: float) -> list[Prediction]:
    return [Prediction("glass", share), Prediction("metal", 1 - share)]


def test_no_thing_is_in_two_parts_of_a_season_and_every_season_is_another() -> None:
    plan = Plan(held_out=4, first=2, days=3)
    drawn = season(things(20, 5), STILL, plan, seed=1)
    parts = [drawn.held_out, drawn.first, *drawn.days]
    names = [{frame.thing for frame in part} for part in parts]
    assert sum(map(len, names)) == len(set().union(*names))
    assert {tag: sum(frame.tag == tag for frame in drawn.held_out) for tag in TAGS} == dict.fromkeys(TAGS, 4)
    seen = sorted(sum(frame.thing.startswith(tag) for frame in {f.thing: f for d in drawn.days for f in d}.values())
                  for tag in TAGS)  # fmt: skip
    assert seen == [3, 6, 14, 14]  # of 14 each: rare ones are rare
    again, other = season(things(20, 5), STILL, plan, seed=1), season(things(20, 5), STILL, plan, seed=2)
    assert ids(again) == ids(drawn)
    assert ids(other) != ids(drawn)


def test_where_each_thing_is_seen_once_a_day_has_no_repeats() -> None:
    drawn = season(things(20), ONCE, Plan(held_out=4, first=2, days=3), seed=1)
    assert sum(map(len, drawn.days)) == 4 * 14


def test_the_sampler_takes_the_unsurest_within_its_budget_and_what_is_sure_stays() -> None:
    frames = [frame(str(n), 0) for n in range(6)]
    answers = [sure(share) for share in (0.99, 0.62, 0.55, 0.78, 0.51, 0.98)]
    with unsure_and_unlike(2) as sampler:
        chosen = sampler.of_day(0, frames, answers, Never())
        assert {one.id for one in chosen} == {frames[2].id, frames[4].id}
        more = [frame(str(n), 0) for n in range(10, 13)]
        later = sampler.of_day(1, more, [sure(0.6)] * 3, Never())
    assert len(later) == 2, "the next day has a budget of its own"


def test_of_one_things_frames_the_sampler_takes_one_and_without_its_rule_all() -> None:
    frames = [frame("1", number) for number in range(4)]
    answers = [sure(0.6)] * 4
    with unsure_and_unlike(4) as sampler:
        assert len(sampler.of_day(0, frames, answers, Never())) == 1
    with unsure_alone(4) as sampler:
        assert len(sampler.of_day(0, frames, answers, Never())) == 4


class Never(np.random.Generator):
    """Draws no audit sample."""

    def __init__(self) -> None:
        super().__init__(np.random.PCG64(0))

    def random(self, *_: object, **__: object) -> float:  # type: ignore[override]
        return 0.99


def test_chance_takes_as_many_as_it_is_told_each_day() -> None:
    frames = [frame(str(n), 0) for n in range(9)]
    chance = Chance([3, 20])
    rng = np.random.default_rng(0)
    assert len({one.id for one in chance.of_day(0, frames, [], rng)}) == 3
    assert len(chance.of_day(1, frames, [], rng)) == 9


def shown(gain: float, noise: float = 0.0, scene: Scene = ONCE) -> Shown:
    """Twelve seasons in which the sampler is better by `gain`, more or less."""
    rng = np.random.default_rng(0)

    def course(better: float) -> Course:
        return Course([Turn(20, 20, 0.6), Turn(30, 29, 0.65 + better), Turn(40, 38, 0.7 + better)], [10, 10])

    courses = {OURS: [course(gain + noise * rng.normal()) for _ in range(12)]}
    courses |= {choice: [course(0)] * 12 for choice in (WITHOUT, CHANCE)}
    return Shown(scene, courses, 28.0)


@pytest.mark.parametrize(
    ("gain", "noise", "said"),
    [(0.05, 0.01, "better than chance"), (-0.05, 0.01, "worse than chance"), (0.001, 0.05, "no difference to be seen")],
)
def test_whatever_comes_out_is_said(gain: float, noise: float, said: str) -> None:
    one = shown(gain, noise)
    assert said in one.in_words()
    told = Told(TINY, 12, 240, TAGS, {"once": 0.4})
    text = page({TINY: [one]}, told, picture_file="experiment.svg", machine="a machine")
    assert f"{said}" in text
    assert "| 40 |" in text
    assert "40% of a thing's later images are near-duplicates" in text
    assert "12 seasons" in text


def test_the_picture_has_a_line_and_a_band_for_each_choice_and_tells_them_in_words() -> None:
    told = Told(TINY, 12, 240, TAGS, {})
    svg = picture([shown(0.05, 0.01), shown(0.0, 0.01, MOVING)], told)
    root = ElementTree.fromstring(svg)
    kinds = [element.get("class") or "" for element in root.iter("{http://www.w3.org/2000/svg}path")]
    assert sum("band" in kind for kind in kinds) == 2 * len(CHOICES)
    assert "once: " in (root.get("aria-label") or "")
    assert "moving: " in (root.get("aria-label") or "")


def test_points_of_a_panel_lie_where_their_values_are() -> None:
    curve = Curve("a", [Point(10, 0.5, 0.4, 0.6), Point(20, 0.6, 0.5, 0.7)])
    svg = Curves("t", "n", [Panel("p", [curve])], "labels").svg()
    line = next(part for part in svg.splitlines() if 'class="c0 line" d="M90' in part)
    (x0, y0), (x1, y1) = (map(float, pair.split()) for pair in line.partition('d="M')[2].partition('"')[0].split("L"))
    assert x0 < x1
    assert y0 > y1  # more is further up
    assert y0 - y1 == pytest.approx(260 / 3, abs=0.1)  # a tenth of a scale from 40 % to 70 %


@pytest.mark.skipif(not IMAGES.is_dir(), reason="needs ../shared/images/recycling")
def test_the_whole_experiment_runs_on_a_few_photographs(tmp_path: Path) -> None:
    scene = Scene("still", "a thing lies still for two images", View(2))
    said: list[str] = []
    found, told = experiment(IMAGES, [TINY], [0, 1], scenes=[scene], most=9, cache=tmp_path, say=said.append)
    (one,) = found[TINY]
    assert (told.images, told.seasons, tuple(told.tags)) == (36, 2, TAGS)
    assert told.near["still"] > 0.5
    for choice in CHOICES:
        assert one.accuracy(choice).shape == (2, 3)
        assert (one.labels(choice)[:, 0] == 12).all()
    assert (one.labels(OURS) == one.labels(CHANCE)).all()
    assert (one.accuracy(OURS)[:, 0] == one.accuracy(CHANCE)[:, 0]).all(), "all begin with the same model"
    assert (one.things(OURS) <= one.labels(OURS)).all()
    assert said[-1].startswith("still, 2 labels a day: ")
