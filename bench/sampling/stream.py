"""What a camera sees in some days, and what is held out to measure with: drawn anew for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.sampling.pictures import Frame, Thing, View

ONE_FRAME = View()


@dataclass(frozen=True, slots=True)
class Scene:
    """What the camera sees. `shares` is how many of a tag's things come by, the most frequent tag first."""

    name: str
    says: str
    view: View = ONE_FRAME
    shares: tuple[float, ...] = (1.0,)

    @property
    def has_repeats(self) -> bool:
        """Whether a thing is seen in more than one image."""
        return self.view.frames > 1

    def share(self, rank: int) -> float:
        """Of the things of the tag of that rank."""
        return self.shares[min(rank, len(self.shares) - 1)]


_RARE = (1.0, 1.0, 0.4, 0.2)
ONCE = Scene("once", "each thing is seen in one image, and each tag as often")
STILL = Scene("still", "a thing lies still for 1 to 5 images, and two of the tags are rare", View(5), _RARE)
MOVING = Scene(
    "moving", "the same, but a thing moves by 0.6 % of the picture from image to image", View(5, 0.006), _RARE
)
SCENES = (ONCE, STILL, MOVING)


@dataclass(frozen=True, slots=True)
class Plan:
    """How many things of each tag are held out, and labelled at first; then the days, and the labels of each."""

    held_out: int = 20
    first: int = 5
    days: int = 5
    a_day: int = 5


@dataclass(frozen=True, slots=True)
class Season:
    """The images to measure with, the first labelled ones, and what is seen each day, in its order."""

    held_out: Sequence[Frame]
    first: Sequence[Frame]
    days: Sequence[Sequence[Frame]]


def season(things: Sequence[Thing], scene: Scene, plan: Plan, seed: int) -> Season:
    """One draw. No thing is in two parts of it; what is held out has every tag as often."""
    rng = np.random.default_rng(seed)
    tags = sorted({thing.tag for thing in things})
    rank = {tag: place for place, tag in enumerate(rng.permutation(tags).tolist())}  # the rare ones change, too
    held_out, first, passing = list[Frame](), list[Frame](), list[Thing]()
    for tag in tags:
        own = [thing for thing in things if thing.tag == tag]
        own = [own[place] for place in rng.permutation(len(own))]
        held_out += [thing.frames[0] for thing in own[: plan.held_out]]
        first += [thing.frames[0] for thing in own[plan.held_out : plan.held_out + plan.first]]
        rest = own[plan.held_out + plan.first :]
        passing += rest[: round(len(rest) * scene.share(rank[tag]))]
    passing = [passing[place] for place in rng.permutation(len(passing))]
    days = []
    for part in np.array_split(np.arange(len(passing)), plan.days):
        seen = [passing[place] for place in part]
        days.append([frame for thing in seen for frame in thing.frames[: rng.integers(1, scene.view.frames + 1)]])
    return Season(held_out, first, days)
