"""`python -m bench sampling`: accuracy against the number of labels, with the sampler's choice and by chance."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from bench.machine import this_machine
from bench.sampling.choosing import Chance, unsure_alone, unsure_and_unlike
from bench.sampling.learning import Course, course
from bench.sampling.pictures import Thing, bits_between, read_things
from bench.sampling.report import CHANCE, OURS, WITHOUT, Shown, Told, page, picture
from bench.sampling.stream import SCENES, Plan, Scene, season
from ripeloop.process import option
from sampler.keeping.keep import Rules
from trainer.learning.backbone import build_backbone
from trainer.learning.cache import FeatureCache
from trainer.learning.features import Extractor
from trainer.learning.weights import lite0_weights

PAGE, PICTURE = "EXPERIMENT.md", "experiment.svg"
IMAGES = Path(__file__).parents[3] / "shared" / "images" / "recycling"
CACHE = Path(__file__).parents[2] / ".cache" / "experiment"

Say = Callable[[str], None]


@click.command()
@option("--images", type=click.Path(file_okay=False, path_type=Path), default=IMAGES,
              show_default="../shared/images/recycling", help="Photographs, one folder a tag.")  # fmt: skip
@option("--seasons", default=40, type=click.IntRange(2), help="Repetitions, each with its seed.")
@option("--budget", multiple=True, default=(10, 5), type=click.IntRange(1),
        help="Labels a day; may be given more than once, and the first is shown in full.")  # fmt: skip
@option("--most", default=1000, type=click.IntRange(1), help="Photographs of a tag at most.")
@option("--report", type=click.Path(file_okay=False, path_type=Path),
        help=f"The folder to write {PAGE} and {PICTURE} into.")  # fmt: skip
def command(images: Path, seasons: int, budget: tuple[int, ...], most: int, report: Path | None) -> None:
    """Compare what a model learns from the sampler's choice of images with what it learns from chance.

    \b
    Example:
      python -m bench sampling --seasons 10 --report docs
    """
    if not images.is_dir():
        click.echo(f"error: there are no photographs at {images}; name a folder with --images", err=True)
        sys.exit(2)
    plans = [Plan(a_day=a_day) for a_day in budget]
    shown, told = experiment(
        images, plans, range(seasons), most=most, cache=CACHE, say=lambda line: click.echo(line, err=True)
    )
    for one in shown[plans[0]]:
        click.echo(f"{one.scene.name}: {one.in_words()}\n{one.table().plain()}\n")
    if report is not None:
        machine = f"{datetime.now(UTC):%Y-%m-%d}, {this_machine(()).processor}: the numbers do not depend on its speed."
        (report / PAGE).write_text(page(shown, told, picture_file=PICTURE, machine=machine))
        (report / PICTURE).write_text(picture(shown[plans[0]], told))
        click.echo(f"written: {report / PAGE}, {report / PICTURE}")


def experiment(
    images: Path,
    plans: Sequence[Plan],
    seeds: Sequence[int],
    *,
    scenes: Sequence[Scene] = SCENES,
    most: int,
    cache: Path,
    say: Say = lambda _line: None,
) -> tuple[dict[Plan, list[Shown]], Told]:
    """Every scene under every plan, a season a seed; features are looked up in the folder `cache`."""
    extractor = Extractor(build_backbone(lite0_weights()))
    shown: dict[Plan, list[Shown]] = {plan: [] for plan in plans}
    near: dict[str, float] = {}
    things: list[Thing] = []
    for scene in scenes:
        say(f"{scene.name}: looking at the photographs")
        with FeatureCache(cache) as features:
            things = read_things(images, extractor, scene.view, most=most, cache=features, told=lambda _done, _of: None)
        if bits := bits_between(things):
            near[scene.name] = sum(distance <= Rules().near_distance for distance in bits) / len(bits)
        for plan in plans:
            found = _courses(things, scene, plan, seeds)
            shown[plan].append(found)
            say(f"{scene.name}, {plan.a_day} labels a day: {found.in_words()}")
    told = Told(plans[0], len(seeds), len(things), sorted({thing.tag for thing in things}), near)
    return shown, told


def _courses(things: Sequence[Thing], scene: Scene, plan: Plan, seeds: Sequence[int]) -> Shown:
    courses: dict[str, list[Course]] = {OURS: [], WITHOUT: [], CHANCE: []}
    seen = []
    for seed in seeds:
        drawn = season(things, scene, plan, seed)
        seen += [len(day) for day in drawn.days]
        with unsure_and_unlike(plan.a_day) as sampler:
            ours = course(drawn, sampler, seed)
        with unsure_alone(plan.a_day) as sampler:
            courses[WITHOUT].append(course(drawn, sampler, seed))
        courses[OURS].append(ours)
        courses[CHANCE].append(course(drawn, Chance(ours.chosen), seed))
    return Shown(scene, courses, sum(seen) / len(seen))
