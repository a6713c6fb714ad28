"""Whether a training is worth its price now, and which iterations give way to it: decided without asking anybody."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from retrain.iteration import Iteration, newest_completed
from ripeloop.errors import Refused, SettingsError

MOST_ITERATIONS = 20
"""What a project of the service may have, with those that failed."""
PERIOD = timedelta(days=30)
LEAST_PER_TAG = 5
MOST_HOURS = 96


@dataclass(frozen=True, slots=True)
class Order:
    """What to ask of the service: a regular training, or an advanced one of so many hours. Raises SettingsError.

    `force`: even if nothing changed since the last one.
    """

    advanced: bool = False
    hours: int = 0
    force: bool = False

    def __post_init__(self) -> None:
        if self.advanced and not 1 <= self.hours <= MOST_HOURS:
            raise SettingsError(f"an advanced training needs a budget: set --budget-hours to 1 to {MOST_HOURS}")
        if self.hours and not self.advanced:
            raise SettingsError("--budget-hours goes with --advanced: a regular training has no budget")


@dataclass(frozen=True, slots=True)
class TrainPolicy:
    """What makes a training worth it. Raises SettingsError.

    `min_new` labels since the last one and `min_tagged` images of each tag; `min_hours` between two, failed ones
    included; in 30 days at most `most_trainings` and `most_hours` of advanced budget. The default hours let a daily job
    begin a bit earlier.
    """

    min_new: int = 20
    min_tagged: int = LEAST_PER_TAG
    min_hours: float = 20.0
    most_trainings: int = 15
    most_hours: int = 24

    def __post_init__(self) -> None:
        if self.min_new < 0 or self.min_hours < 0 or self.most_hours < 0:
            raise SettingsError("what makes a training worth it is never below 0: look for a typing error")
        if self.min_tagged < LEAST_PER_TAG:
            raise SettingsError(f"--min-tagged {self.min_tagged}: the service takes no fewer than {LEAST_PER_TAG}")
        if not 1 <= self.most_trainings < MOST_ITERATIONS:
            raise SettingsError(
                f"--most-trainings {self.most_trainings}: say 1 to {MOST_ITERATIONS - 1}, for they are counted by the "
                f"iterations the project has, at most {MOST_ITERATIONS}"
            )


@dataclass(frozen=True, slots=True)
class Facts:
    """What is so: labels since the last training, images by tag, the project's kind and its trainings."""

    new_labels: int
    tags: Mapping[str, int]
    multilabel: bool
    iterations: Sequence[Iteration]


def worth_training(facts: Facts, policy: TrainPolicy, order: Order, now: datetime) -> str | None:
    """None if it is worth it; else why not, in a sentence with numbers."""
    reasons = (
        _few_labels(facts, policy),
        _few_images(facts, policy),
        _too_soon(facts, policy, now),
        _too_dear(facts, policy, order, now),
    )
    return next((reason for reason in reasons if reason), None)


def giving_way(
    iterations: Sequence[Iteration], keep: Collection[str] = (), most: int = MOST_ITERATIONS
) -> list[Iteration]:
    """Which iterations to delete that one more has room: the oldest, but none that anybody may need.

    Needed are those in `keep` (ids), published ones, those in training and the newest with a model. Raises Refused
    where only such are left.
    """
    surplus = len(iterations) - most + 1
    if surplus <= 0:
        return []
    newest = newest_completed(iterations)
    needed = {*keep} | ({newest.id} if newest else set())
    free = [one for one in iterations if not (one.published or one.running or one.id in needed)]
    if len(free) < surplus:
        raise Refused(
            f"the project has {len(iterations)} of {most} iterations, and all are published, released, in training or "
            "the newest: unpublish and delete one that nobody needs"
        )
    return sorted(free, key=lambda one: one.created)[:surplus]


def _few_labels(facts: Facts, policy: TrainPolicy) -> str:
    if facts.new_labels >= policy.min_new:
        return ""
    return f"{_count(facts.new_labels, 'new label')}, {policy.min_new} wanted"


def _few_images(facts: Facts, policy: TrainPolicy) -> str:
    least = 1 if facts.multilabel else 2
    if len(facts.tags) < least:
        return f"{_count(len(facts.tags), 'tag')}, {least} wanted"
    few = sorted((count, tag) for tag, count in facts.tags.items() if count < policy.min_tagged)
    if not few:
        return ""
    told = ", ".join(f"{tag!r} has {_count(count, 'image')}" for count, tag in few[:5])
    more = f" and {len(few) - 5} tags more" if len(few) > 5 else ""
    return f"{told}{more}, {policy.min_tagged} wanted of each tag: label more, or delete the tag"


def _too_soon(facts: Facts, policy: TrainPolicy, now: datetime) -> str:
    """One that failed counts, too: it costs the same. One under way does not: whoever asks waits for it."""
    last = max((one for one in facts.iterations if not one.running), key=lambda one: one.created, default=None)
    if last is None or now - last.created >= timedelta(hours=policy.min_hours):
        return ""
    hours = max(0.0, (now - last.created).total_seconds() / 3600)
    failed = " and failed" if last.failed else ""
    return f"the last training began {hours:.1f} hours ago{failed}, {policy.min_hours:g} wanted between two"


def _too_dear(facts: Facts, policy: TrainPolicy, order: Order, now: datetime) -> str:
    """Those that failed count, too: they cost the same."""
    recent = [one for one in facts.iterations if now - one.created < PERIOD]
    if len(recent) >= policy.most_trainings:
        return f"{_count(len(recent), 'training')} in {PERIOD.days} days, at most {policy.most_trainings} wanted"
    spent = sum(one.hours for one in recent if one.advanced)
    if order.advanced and spent + order.hours > policy.most_hours:
        return (
            f"{spent} hours of advanced training in {PERIOD.days} days and {order.hours} more, "
            f"at most {policy.most_hours} wanted"
        )
    return ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
