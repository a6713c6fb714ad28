"""The command `ripeloop train`: what it is told, and how it ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console

from retrain.customvision import CustomVision
from retrain.ending import told
from retrain.iteration import Iteration, newest_completed
from retrain.settings import NOT_WORTH_IT, endpoint_options, json_option, project_option
from retrain.turn.train.training import Trained, facts_of, find_project, settled, train
from retrain.turn.train.waiting import Pace
from retrain.turn.train.worth import LEAST_PER_TAG, MOST_HOURS, MOST_ITERATIONS, Order, TrainPolicy, worth_training
from ripeloop.errors import SettingsError

ENDS = f"Ends with 0: there is a model of what the project holds now; 1: the training failed or was refused; 2: wrong \
usage or settings; 3: the service cannot be reached, or is not done in time; {NOT_WORTH_IT}: a training is not worth \
it now. Do the same again to wait on: nothing is trained twice."


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """The service, what to ask of it, when that is worth it, the iterations to keep, and how long to wait."""

    endpoint: str
    key: str = field(repr=False)
    project: str
    order: Order
    policy: TrainPolicy
    keep: frozenset[str]
    pace: Pace


@dataclass(frozen=True, slots=True)
class NotWorthIt:
    """Why a training is not worth it now, and the newest iteration with a model."""

    reason: str
    newest: Iteration | None


def _option(flag: str, envvar: str, help_: str, **more: Any) -> Callable[[Any], Any]:
    return click.option(flag, envvar=f"RIPELOOP_{envvar}", show_envvar=True, help=help_, **more)


def policy_options(command: Any) -> Any:
    """Add what makes a training worth it: --min-new, --min-tagged, --min-hours, --most-trainings, --most-hours."""
    usual = TrainPolicy()
    for option in (
        _option("--most-hours", "MOST_HOURS", "At most so many hours of advanced budget in 30 days.",
                default=usual.most_hours, type=click.IntRange(0)),
        _option("--most-trainings", "MOST_TRAININGS", "At most so many trainings in 30 days.",
                default=usual.most_trainings, type=click.IntRange(1, MOST_ITERATIONS - 1)),
        _option("--min-hours", "MIN_HOURS", "At least so many hours between two trainings.",
                default=usual.min_hours, type=click.FloatRange(0)),
        _option("--min-tagged", "MIN_TAGGED", "At least so many images of each tag.",
                default=usual.min_tagged, type=click.IntRange(LEAST_PER_TAG)),
        _option("--min-new", "MIN_NEW", "At least so many images labelled since the last training.",
                default=usual.min_new, type=click.IntRange(0)),
    ):  # fmt: skip
        command = option(command)
    return command


def order_options(command: Any) -> Any:
    """Add the kind of training: --advanced and --budget-hours."""
    hours = _option("--budget-hours", "BUDGET_HOURS", "What an advanced training may take; the service bills hours.",
                    default=0, type=click.IntRange(0, MOST_HOURS))  # fmt: skip
    advanced = _option("--advanced", "ADVANCED", "An advanced training: longer, dearer, often better.", is_flag=True)
    return advanced(hours(command))


@click.command("train", epilog=ENDS)
@endpoint_options
@project_option
@order_options
@policy_options
@_option("--force", "TRAIN_FORCE", "Train although it is not worth it, and even if nothing changed.", is_flag=True)
@_option("--keep", "KEEP_ITERATIONS", "An iteration's id that is never deleted to make room, as one that devices run; "
         "may be given more than once.", multiple=True, metavar="ID")  # fmt: skip
@_option("--wait-hours", "TRAIN_WAIT_HOURS", "Wait for so many hours.", default=6.0, type=click.FloatRange(0))
@json_option
def train_command(
    endpoint: str, training_key: str, project: str, advanced: bool, budget_hours: int, min_new: int, min_tagged: int,
    min_hours: float, most_trainings: int, most_hours: int, force: bool, keep: tuple[str, ...], wait_hours: float,
    as_json: bool,
) -> None:  # fmt: skip
    """Train the project if it is worth it, and wait for the end.

    A project has 20 iterations at most: the oldest is deleted for the new one, never a published one, never the newest.

    \b
    Example:
      export RIPELOOP_ENDPOINT=http://127.0.0.1:8088 RIPELOOP_TRAINING_KEY=…
      ripeloop train --project fruit
      ripeloop train --project fruit --advanced --budget-hours 2 --min-new 100 --json
    """
    try:
        settings = TrainSettings(
            endpoint, training_key, project, Order(advanced, budget_hours, force),
            TrainPolicy(min_new, min_tagged, min_hours, most_trainings, most_hours), frozenset(keep),
            Pace(seconds=wait_hours * 3600),
        )  # fmt: skip
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    with Console(stderr=True).status("looking at the project") as spinner:

        def shown(iteration: Iteration, seconds: float) -> None:
            spinner.update(f"{iteration.name}: {iteration.status} for {seconds:.0f} s")

        done = told(_worthwhile(settings, shown))
    if as_json:
        click.echo(json.dumps(to_json(done), indent=2))
    elif isinstance(done, NotWorthIt):
        click.echo(f"not worth a training: {done.reason} (--force trains all the same)")
        if done.newest:
            click.echo(f"the newest model is {done.newest.name}; its id is {done.newest.id}")
    else:
        _show(done)
    if isinstance(done, NotWorthIt):
        sys.exit(NOT_WORTH_IT)


def to_json(done: Trained | NotWorthIt) -> dict[str, Any]:
    """What a program may want to know of a training, or of the newest there is."""
    if isinstance(done, NotWorthIt):
        return {"reason": done.reason, "iteration": None} | (_about(done.newest) if done.newest else {})
    return _about(done.iteration) | {"already": done.already, "seconds": round(done.seconds, 1)}


def _about(one: Iteration) -> dict[str, Any]:
    trained = one.trained.astimezone(UTC).isoformat() if one.trained else None
    return {"iteration": one.id, "name": one.name, "trained": trained, "advanced": one.advanced}


async def _worthwhile(settings: TrainSettings, shown: Callable[[Iteration, float], None]) -> Trained | NotWorthIt:
    """The training, or why there is none. One that is under way is this one, if nothing was labelled since it began."""
    with closing(CustomVision(settings.endpoint, settings.key)) as service:
        project = await asyncio.to_thread(find_project, service, settings.project)
        under_way = {one.id for one in await settled(service, project, shown, settings.pace)}
        facts = await facts_of(service, project)
        last = newest_completed(facts.iterations)
        if last is not None and last.id in under_way and not facts.new_labels:
            return Trained(last, already=True)
        if not settings.order.force:
            reason = worth_training(facts, settings.policy, settings.order, datetime.now(UTC))
            if reason:
                return NotWorthIt(reason, last)
        return await train(
            service, project, settings.order, keep=settings.keep, told=shown, pace=settings.pace
        )  # fmt: skip


def _show(done: Trained) -> None:
    one = done.iteration
    how = "was trained already" if done.already else f"is trained after {done.seconds:.0f} s"
    click.echo(f"{one.name} {how}; its id is {one.id}")
    click.echo(f"next: ripeloop export --iteration {one.id} --out {one.name.replace(' ', '-').lower()}.zip")
