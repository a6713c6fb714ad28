"""What the seasons showed: means with their intervals, a table, a picture, and a sentence that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.curves import Curve, Curves, Panel, Point
from bench.sampling.learning import Course
from bench.sampling.stream import Plan, Scene
from bench.table import Table

OURS, WITHOUT, CHANCE = "unsure and unlike others (the sampler)", "unsure alone", "by chance"
CHOICES = (OURS, WITHOUT, CHANCE)
_RESAMPLED = 10_000

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over the seasons, and where it lies with a confidence of 95 % (by resampling them)."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Numbers) -> Mean:
        """Of one number a season."""
        rng = np.random.default_rng(0)
        means = values[rng.integers(0, len(values), (_RESAMPLED, len(values)))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return cls(float(values.mean()), float(low), float(high))

    def points(self) -> str:
        """In percentage points, with its sign."""
        value, low, high = (round(share * 100, 1) + 0.0 for share in (self.value, self.low, self.high))  # no -0.0
        return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


@dataclass(frozen=True, slots=True)
class Shown:
    """The courses of one scene, by choice; the same place is the same season."""

    scene: Scene
    courses: Mapping[str, Sequence[Course]]
    images_a_day: float

    def accuracy(self, choice: str) -> Numbers:
        """[seasons, turns]."""
        return np.array([[turn.accuracy for turn in course.turns] for course in self.courses[choice]])

    def labels(self, choice: str) -> Numbers:
        """[seasons, turns]."""
        return np.array([[turn.labels for turn in course.turns] for course in self.courses[choice]], np.float64)

    def things(self, choice: str) -> Numbers:
        """[seasons, turns]."""
        return np.array([[turn.things for turn in course.turns] for course in self.courses[choice]], np.float64)

    def gain(self, over: str = CHANCE) -> Mean:
        """How much more often the sampler's model is right, over the days of a season."""
        return Mean.of((self.accuracy(OURS) - self.accuracy(over))[:, 1:].mean(axis=1))

    def gain_at_last(self, over: str = CHANCE) -> Mean:
        """The same after the last day."""
        return Mean.of((self.accuracy(OURS) - self.accuracy(over))[:, -1])

    def verdict(self) -> str:
        """What the gain says."""
        gain = self.gain()
        if gain.low > 0:
            return "better than chance"
        return "**worse than chance**" if gain.high < 0 else "**no difference to be seen**"

    def in_words(self) -> str:
        """The gain and what it says."""
        return f"{self.gain().points()} points over chance: {self.verdict().strip('*')}"

    def table(self) -> Table:
        """After each training."""
        labels, things = self.labels(OURS).mean(axis=0), {one: self.things(one).mean(axis=0) for one in CHOICES}
        rows = []
        for turn in range(labels.size):
            means = {choice: Mean.of(self.accuracy(choice)[:, turn]) for choice in CHOICES}
            gain = Mean.of((self.accuracy(OURS) - self.accuracy(CHANCE))[:, turn])
            rows.append(
                [
                    f"{labels[turn]:.0f}",
                    *(f"{means[choice].value:.1%}" for choice in CHOICES),
                    gain.points() if turn else "the same model",
                    " / ".join(f"{things[choice][turn]:.0f}" for choice in CHOICES),
                ]
            )
        return Table(["labels", *CHOICES, "sampler less chance, points", "things shown by them"], rows, numbers=0)

    def panel(self) -> Panel:
        """The lines."""
        curves = []
        for choice in CHOICES:
            labels = self.labels(choice).mean(axis=0)
            means = [Mean.of(column) for column in self.accuracy(choice).T]
            points = [Point(at, m.value, m.low, m.high) for at, m in zip(labels.tolist(), means, strict=True)]
            curves.append(Curve(choice, points))
        return Panel(f"{self.scene.name}", curves)


@dataclass(frozen=True, slots=True)
class Told:
    """About the whole experiment, for its page."""

    plan: Plan
    seasons: int
    images: int
    tags: Sequence[str]
    near: Mapping[str, float]
    """By scene: the share of a thing's later images that the default rule takes for near-duplicates of its first."""


def picture(shown: Sequence[Shown], told: Told) -> str:
    """The SVG."""
    return Curves(
        "Accuracy against labels",
        f"{told.images} photographs of recycling, {len(told.tags)} tags; mean of {told.seasons} seasons, "
        "the bands hold the mean with 95 % confidence",
        [one.panel() for one in shown],
        "labels",
    ).svg()


def page(by_plan: Mapping[Plan, Sequence[Shown]], told: Told, *, picture_file: str, machine: str) -> str:
    """The report in Markdown. The plan that is `told` is shown in full."""
    plan, shown = told.plan, by_plan[told.plan]
    return f"""# What the sampler is for

Labels cost people's time. The classifier flags what it is unsure of, and the sampler keeps the most useful of that
within its budget: the unsurest, and of images that look alike one. Does a model learn more from those than from as many
images taken by chance? `make bench PART=sampling REPORT=docs` asked that and wrote this page, whatever came out.

![Accuracy against labels]({picture_file})

The bands are wide because seasons differ: what is held out, and the first labels. The tables compare within a season.

{_summary(by_plan)}

## How it was asked

- **Images.** {told.images} real photographs, tags {", ".join(told.tags)}: phone pictures of single things on a white
  board (trashnet, MIT, © 2017 Gary Thung). That is few: {plan.held_out} of each tag are held out, never labelled, and
  the others are all that a camera can see. A real line sees thousands of images a day for the same labels: there is
  more to choose from.
- **A season.** It begins with a model from {plan.first} labelled images of each tag, taken by chance. Then come
  {plan.days} days with new things on each. At the end of a day what was chosen is labelled, always rightly, and a
  model is trained from all labels so far; it judges the next day's images. Its accuracy is the share of the held-out
  images it has right; among those, each tag is as frequent.
- **The choices.** *The sampler*: the modules' own code with default settings (`reason_to_flag`, `Judge`, the index),
  with a budget a day ({plan.a_day} in picture and tables); the audit's 2 % come on top. *Unsure alone*: the same
  without the rule for near-duplicates. *By chance*: in the same season, each day as many images as the sampler kept.
- **Training** is the trainer's: EfficientNet-Lite0's features, then its head with its own cross-validation.
- **{told.seasons} seasons**, each with other things held out, labelled first and seen, in another order. The intervals
  (95 %, by resampling the seasons) say how sure the means are for *these* photographs, and nothing of others. Scenes
  and budgets were settled on after short trials with the same photographs.

{_scenes(shown, told)}

{machine}
"""


def _summary(by_plan: Mapping[Plan, Sequence[Shown]]) -> str:
    """A line for each scene and plan."""
    rows = [
        [one.scene.name, str(plan.a_day), one.gain().points(), one.gain_at_last().points(),
         one.gain(WITHOUT).points() if one.scene.has_repeats else "no repeats", one.verdict()]
        for plan, shown in by_plan.items()
        for one in shown
    ]  # fmt: skip
    heading = ["scene", "labels a day", "sampler less chance, over the days", "after the last day",
               "what the near-duplicates' rule adds", "so"]  # fmt: skip
    scenes = "\n".join(f"- **{one.scene.name}**: {one.scene.says}." for one in next(iter(by_plan.values())))
    return f"Points of accuracy, with 95 % intervals:\n\n{Table(heading, rows, numbers=6).markdown()}\n\n{scenes}"


def _scenes(shown: Sequence[Shown], told: Told) -> str:
    parts = []
    for one in shown:
        words = f"{one.scene.says[0].upper()}{one.scene.says[1:]}. A day has {one.images_a_day:.0f} images."
        if one.scene.name in told.near:
            share = told.near[one.scene.name]
            words += f" To the rule, {share:.0%} of a thing's later images are near-duplicates of its first."
        last = f"After the last day: {one.gain_at_last().points()} points over chance."
        if one.scene.has_repeats:
            last += f" The rule for near-duplicates adds {one.gain(WITHOUT).points()} points over the days."
        parts.append(f"## Scene “{one.scene.name}”\n\n{words}\n\n{one.table().markdown()}\n\n{last}")
    return "\n\n".join(parts)
