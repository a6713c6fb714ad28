"""A training at the service, begun once however often it is asked for, and followed to its end by its id."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass

from retrain.customvision import CustomVision
from retrain.iteration import Iteration, newest_completed
from retrain.turn.train.waiting import Pace, at_most
from retrain.turn.train.worth import Facts, Order, giving_way
from ripeloop.errors import NotFound, Offline, Refused, TrainingFailed

log = logging.getLogger(__name__)

TRIES = 5
SAY_SECONDS = 300.0

_NOT_NEEDED = ("BadRequestTrainingNotNeeded", "BadRequestTrainingNotNeededButTrainingPipelineUpdated")
NO_ITERATION = "NotFoundIteration"
_BUSY = "BadRequestTrainingAlreadyInProgress"

Told = Callable[[Iteration, float], None]
"""Hears how a training stands, and for how many seconds it has been followed."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The iteration that has the model, whether it was there already, and how many seconds it was followed."""

    iteration: Iteration
    already: bool = False
    seconds: float = 0.0


def _nobody(*_: object) -> None:
    """Nobody listens."""


def find_project(service: CustomVision, name_or_id: str) -> str:
    """The project's id. Raises NotFound, and Refused where several have that name."""
    try:
        return str(uuid.UUID(name_or_id))
    except ValueError:
        found = service.projects(name_or_id)
    if not found:
        words = f"the service has no project called {name_or_id!r}: look for a typing error, or give its id"
        raise NotFound(words, kind="project")
    if len(found) > 1:
        raise Refused(f"there are {len(found)} projects called {name_or_id!r}: say which by its id")
    return found[0]


async def facts_of(service: CustomVision, project: str) -> Facts:
    """What the service itself knows about whether a training is worth it."""
    about = await asyncio.to_thread(service.about, project)
    counts = await asyncio.to_thread(service.tag_counts, project)
    iterations = await asyncio.to_thread(service.iterations, project)
    last = newest_completed(iterations)
    new = await asyncio.to_thread(service.labelled_since, project, last.created if last else None)
    negative = {tag.name for tag in about.tags if tag.kind == "Negative"}
    tags = {tag: count for tag, count in counts.items() if count or tag not in negative}
    return Facts(new, tags, about.multilabel, tuple(iterations))


async def train(
    service: CustomVision,
    project: str,
    order: Order = Order(),
    *,
    keep: Collection[str] = (),
    ours: str = "",
    began: Callable[[str], None] = _nobody,
    told: Told = _nobody,
    pace: Pace = Pace(),
) -> Trained:
    """Train the project as it is now, once: killed and called again, this finds the same iteration.

    `began` hears the iteration's id as soon as the service tells it; given back as `ours`, no other is begun. Without
    it, a training that is under way is waited for, and another begun only if images changed since. `keep`: ids of
    iterations that never give way to this one.

    Raises TrainingFailed with the service's reason, Unfinished where it lasts too long, Refused, NotFound, Offline.
    """
    started = time.monotonic()
    async with at_most(pace, "the training"):
        if ours and (remembered := await _remembered(service, project, ours)):
            done = await _followed(service, project, remembered, told, pace)
            return Trained(_with_model(done), not remembered.running, time.monotonic() - started)
        fresh = any(one.completed for one in await _settled(service, project, told, pace))
        while True:
            try:
                # one that was under way was trained on what there is now, unless the service says that this changed
                begun = await _begun(service, project, order, keep, force=order.force and not fresh)
            except Refused as error:
                if error.kind in _NOT_NEEDED:
                    return Trained(await _the_same(service, project, error), already=True)
                if error.kind != _BUSY:
                    raise
                fresh = all(one.completed for one in await _settled(service, project, told, pace))
                await asyncio.sleep(pace.first)
                continue
            began(begun.id)
            log.info("training %s (%s)", begun.name, begun.id)
            done = await _followed(service, project, begun, told, pace)
            return Trained(_with_model(done), seconds=time.monotonic() - started)


async def settled(service: CustomVision, project: str, told: Told = _nobody, pace: Pace = Pace()) -> list[Iteration]:
    """Wait for what is in training; those iterations at their end, and none where nothing was. Raises as `train`."""
    async with at_most(pace, "the training that is under way"):
        return await _settled(service, project, told, pace)


async def _settled(service: CustomVision, project: str, told: Told, pace: Pace) -> list[Iteration]:
    running = [one for one in await asyncio.to_thread(service.iterations, project) if one.running]
    for one in running:
        log.info("%s (%s) is in training already: waiting for its end", one.name, one.id)
    return [await _followed(service, project, one, told, pace) for one in running]


async def _remembered(service: CustomVision, project: str, id_: str) -> Iteration | None:
    """None where somebody deleted it."""
    try:
        return await asyncio.to_thread(service.iteration, project, id_)
    except NotFound as error:
        if error.kind == NO_ITERATION:
            log.warning("iteration %s, begun earlier, is no longer there: training again", id_)
            return None
        raise


async def _begun(
    service: CustomVision, project: str, order: Order, keep: Collection[str], *, force: bool
) -> Iteration:  # fmt: skip
    """A new iteration in training. Where the answer was lost, it is found by not having been there before."""
    iterations = await asyncio.to_thread(service.iterations, project)
    await _make_room(service, project, giving_way(iterations, keep))
    known = {one.id for one in iterations}
    pauses = Pace(2.0, 30.0).pauses()
    for nth in range(1, TRIES + 1):
        try:
            return await asyncio.to_thread(service.train, project, advanced_hours=order.hours, force=force)
        except Offline:
            for one in await asyncio.to_thread(service.iterations, project):
                if one.id not in known:
                    return one
            if nth == TRIES:
                raise
        await asyncio.sleep(next(pauses))
    raise AssertionError("the last try returns or raises")


async def _make_room(service: CustomVision, project: str, surplus: Collection[Iteration]) -> None:
    for one in surplus:
        log.info("deleting iteration %s (%s, %s) to make room", one.name, one.id, one.status)
        try:
            await asyncio.to_thread(service.delete_iteration, project, one.id)
        except NotFound:
            log.info("iteration %s is gone already", one.id)


async def _followed(service: CustomVision, project: str, found: Iteration, told: Told, pace: Pace) -> Iteration:
    """The iteration at its end, whichever that is."""
    started = said = time.monotonic()
    for pause in pace.pauses():
        seconds = time.monotonic() - started
        told(found, seconds)
        if not found.running:
            break
        if time.monotonic() - said >= SAY_SECONDS:
            said = time.monotonic()
            log.info("%s is in training for %.0f minutes now", found.name, seconds / 60)
        await asyncio.sleep(pause)
        found = await asyncio.to_thread(service.iteration, project, found.id)
    log.info("%s (%s): %s", found.name, found.id, found.status)
    return found


def _with_model(iteration: Iteration) -> Iteration:
    if iteration.completed:
        return iteration
    raise TrainingFailed(_failure(iteration))


async def _the_same(service: CustomVision, project: str, error: Refused) -> Iteration:
    """The iteration that was trained on what is there now. Raises TrainingFailed where that training failed."""
    iterations = await asyncio.to_thread(service.iterations, project)
    found = newest_completed(iterations)
    if found is None:
        raise error
    later = [one for one in iterations if one.failed and one.created > found.created]
    if later and await asyncio.to_thread(service.labelled_since, project, found.created) > 0:
        last = max(later, key=lambda one: one.created)
        raise TrainingFailed(f"{_failure(last)}; nothing changed since: change images, or train with --force")
    log.info("nothing changed since %s (%s) was trained", found.name, found.id)
    return found


def _failure(iteration: Iteration) -> str:
    return f"{iteration.name} ({iteration.id}) has failed: {iteration.why or 'the service gives no reason'}"
