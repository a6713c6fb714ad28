"""What one turn is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from retrain.judging.judge import Rule
from retrain.release import Plan as ReleasePlan
from retrain.settings import Hub
from retrain.turn.tag.tagging import Plan as TagPlan
from retrain.turn.train.exporting import HOUR
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import Order, TrainPolicy

Told = Callable[[str], None]
"""Hears each line of progress, for a person."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where the samples are, and in another container of the same account, or folder, the released packages."""

    address: str = field(repr=False)
    samples: str = "samples"
    models: str = "models"
    api_version: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """Where models are trained, and in which project (its id or name)."""

    endpoint: str
    key: str = field(repr=False)
    project: str


@dataclass(frozen=True, slots=True)
class Judging:
    """The rule; which verdicts but `better` are released as well; and what the first model of all must reach.

    `active`: the model that answers now, where no turn has released one yet. `first_accuracy`: the accuracy on the
    holdout that the first model has for sure (the low end of its interval), from which on it is released without a
    word; None: only with one.
    """

    rule: Rule = field(default_factory=Rule)
    accept: frozenset[str] = frozenset()
    first_accuracy: float | None = None
    active: Path | None = None
    fast: bool = True


@dataclass(frozen=True, slots=True)
class Packing:
    """What goes into the package beside the model, and who signs it: see `ripeloop package`."""

    key: Path | None = None
    golden: Path | None = None
    golden_images: int = 32
    wrong_unflagged: float = 0.02


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """All of one turn. Without a `hub` it ends with the package, and nothing is released.

    `work`: the folder that remembers; of the turns in it the files of the last `keep` stay. `keep_iterations`: never
    deleted to make room. Devices of the last ring that have not reported are waited for until `late_after`.
    """

    service: Service
    store: Store
    work: Path
    hub: Hub | None = None
    tagging: TagPlan = field(default_factory=TagPlan)
    policy: TrainPolicy = field(default_factory=TrainPolicy)
    order: Order = field(default_factory=Order)
    training: Pace = field(default_factory=Pace)
    exporting: Pace = HOUR
    int8: bool = False
    judging: Judging = field(default_factory=Judging)
    packing: Packing = field(default_factory=Packing)
    release: ReleasePlan | None = None
    late_after: timedelta = timedelta(days=3)
    keep: int = 5
    keep_iterations: frozenset[str] = frozenset()
    only_until: str = ""
    give_up: bool = False
    take_lease: bool = False
