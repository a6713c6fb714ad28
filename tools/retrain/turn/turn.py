"""One turn of the loop: tag, train, export, judge, package, release; killed anywhere, it goes on with the next run."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from retrain.customvision import CustomVision
from retrain.devices.sas import HubKey
from retrain.judging.holdout import images_in
from retrain.package.signing import private_key
from retrain.store import no_container, opened
from retrain.turn import past
from retrain.turn.lease import only_here, only_one
from retrain.turn.outcome import GIVEN_UP, NOTHING, OVERTAKEN, reopens
from retrain.turn.releasing import check_storage
from retrain.turn.settings import Told, TurnSettings
from retrain.turn.state import State, Turn
from retrain.turn.steps import STEPS, too_few_to_judge
from retrain.turn.tag.facts import Fact, is_held
from retrain.turn.tag.heldout import is_held_out
from retrain.turn.tag.tagged import NEGATIVE
from retrain.turn.train.training import facts_of, find_project
from retrain.turn.train.worth import Facts, worth_training
from retrain.turn.work import Step, Work
from ripeloop.blobs import Blobs, is_there
from ripeloop.errors import SettingsError
from ripeloop.prediction import format_time

STATE = "turns.db"


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the next run would do: go on with a turn at a step, or begin one, and whether that would train."""

    turn: int | None
    step: str
    new_samples: int
    why_not: str

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"turn": self.turn, "step": self.step, "newlyLabelled": self.new_samples, "whyNotTrain": self.why_not}


async def run_turn(settings: TurnSettings, told: Told = lambda _: None, steps: Mapping[str, Step] = STEPS) -> Turn:
    """Go on with the turn that is open, or begin one, until it ends or `settings.only_until` is done; the turn then.

    Raises Refused (of kind `leased`: another run is at it), Offline (also Unfinished), NotFound, SettingsError,
    OSError: the turn stays open, and the next run goes on with it.
    """
    check(settings)
    await check_storage(settings)
    async with _samples(settings) as samples:
        with only_here(settings.work), State.open(settings.work / STATE, _now) as state:
            async with only_one(samples, state, take=settings.take_lease) as lease:
                service = CustomVision(settings.service.endpoint, settings.service.key, before=lease.check)
                with closing(service):
                    project = await asyncio.to_thread(find_project, service, settings.service.project)
                    turn = _turn_to_do(state, settings, project, told)
                    work = Work(settings, state, turn.number, project, service, samples, told)
                    turn = await _done(work, steps)
            past.prune(state.turns(), settings.work, settings.keep)
            return turn


async def look_ahead(settings: TurnSettings) -> Ahead:
    """What `run_turn` would do; nothing is changed, and nobody is kept from working. Raises as `run_turn`."""
    check(settings)
    await check_storage(settings)
    ahead = _goes_on(settings)
    async with _samples(settings) as samples:
        facts = [fact async for blob in samples.list() if (fact := Fact.of(blob)) is not None]
    fresh = [fact for fact in facts if fact.labelled and fact.use is None]
    if ahead is not None:
        return Ahead(*ahead, len(fresh), "")
    service = CustomVision(settings.service.endpoint, settings.service.key)
    with closing(service):
        project = await asyncio.to_thread(find_project, service, settings.service.project)
        there = await facts_of(service, project)
    why_not = "" if settings.order.force else _why_not(settings, facts, there)
    return Ahead(None, next(iter(STEPS)), len(fresh), why_not)


def _why_not(settings: TurnSettings, samples: Sequence[Fact], there: Facts) -> str:
    """Why it would not be worth training once all labelled samples are where they belong; empty where it would."""
    share = settings.tagging.holdout_share
    labelled = [fact for fact in samples if fact.labelled]
    held = [fact for fact in labelled if is_held(fact) or (fact.use is None and is_held_out(fact.id, share))]
    to_train = [fact for fact in labelled if fact.use is None and not is_held_out(fact.id, share)]
    tags = Counter(there.tags) + Counter(tag for fact in to_train for tag in fact.wanted(NEGATIVE))
    then = replace(there, new_labels=there.new_labels + len(to_train), tags=tags)
    counts = Counter(tag for fact in held for tag in fact.wanted(NEGATIVE))
    reason = worth_training(then, settings.policy, settings.order, datetime.now(UTC))
    return reason or too_few_to_judge(settings.judging, len(held), counts, tags)


def check(settings: TurnSettings) -> None:
    """Return if nothing in the settings can stop the turn half way. Raises SettingsError."""
    if settings.packing.key is not None:
        private_key(settings.packing.key)
    if settings.packing.golden is not None:
        images_in(settings.packing.golden)
    if settings.hub is not None and settings.release is None:
        raise SettingsError("say where the model goes first: --ring canary, or --device and its id")
    if settings.hub is not None:
        HubKey.from_connection_string(settings.hub.connection_string)
    if settings.only_until and settings.only_until not in STEPS:
        raise SettingsError(f"--only-until names one of {', '.join(STEPS)}")


async def _done(work: Work, steps: Mapping[str, Step]) -> Turn:
    """The turn after each step that was left to do."""
    for name, step in steps.items():
        turn = work.turn
        if turn.result(name) is None:
            work.state.start(work.number, name)
            done = await step(work)
            turn = work.state.done(work.number, name, done.result, done.outcome, done.why)
            work.told(f"{name}: {done.words}")
        if turn.outcome == NOTHING:
            past.forget(work.settings.work, work.number)
            work.state.forget(work.number)
        if turn.outcome or name == work.settings.only_until:
            return turn
    return work.turn


def _turn_to_do(state: State, settings: TurnSettings, project: str, told: Told) -> Turn:
    """The turn that is open or is opened again, or else a new one. Raises SettingsError for one of another project."""
    turn = state.open_turn()
    if turn is not None and settings.give_up:
        state.end(turn.number, GIVEN_UP, "it was given up with --give-up")
        told(f"turn {turn.number} is given up")
        turn = None
    if turn is None and (last := next(iter(state.turns()), None)) is not None:
        step = reopens(last.outcome, settings.judging.accept, has_hub=settings.hub is not None)
        if step and settings.give_up and last.outcome == OVERTAKEN:
            state.end(last.number, GIVEN_UP, "it was given up with --give-up")
        elif step and not settings.give_up:
            turn = state.reopen(last.number, step)
    if turn is None:
        turn = state.begin(past.newest_folder(settings.work))
        told(f"turn {turn.number} begins")
        return turn
    other = (turn.result("tag") or {}).get("project", project)
    if other != project:
        raise SettingsError(
            f"turn {turn.number} is about project {other} and has not ended: name that one, or end the turn with "
            "--give-up"
        )
    told(f"turn {turn.number} goes on; done already: {', '.join(_names(turn.steps.values())) or 'nothing'}")
    return turn


def _goes_on(settings: TurnSettings) -> tuple[int, str] | None:
    """The turn that would go on, and the step it would go on with."""
    path = settings.work / STATE
    if not path.is_file():
        return None
    with State.open(path, _now) as state:
        turn, last = state.open_turn(), next(iter(state.turns()), None)
    if turn is not None:
        left = [name for name in STEPS if turn.result(name) is None]
        return None if settings.give_up else (turn.number, left[0])
    if last is None or settings.give_up:
        return None
    step = reopens(last.outcome, settings.judging.accept, has_hub=settings.hub is not None)
    return (last.number, step) if step else None


def _names(steps: Any) -> Sequence[str]:
    return [step.name for step in steps if step.done]


@asynccontextmanager
async def _samples(settings: TurnSettings) -> AsyncIterator[Blobs]:
    """The container, which must be there: of one that is mistyped nothing is made, and no night looks like a good one.

    Wrong settings of the service are told before: they do not mend themselves, and a missing container may.
    """
    store, service = settings.store, settings.service
    async with opened(store.address, store.samples, store.api_version) as blobs:
        if not await is_there(blobs):
            with closing(CustomVision(service.endpoint, service.key)) as asked:
                project = await asyncio.to_thread(find_project, asked, service.project)
                await asyncio.to_thread(asked.about, project)
            raise no_container(store.address, store.samples)
        yield blobs


def _now() -> str:
    return format_time(datetime.now(UTC))
