"""A new model on its way: fetched, verified, loaded, compared, swapped in, watched, and undone if it is worse.

One task decides, in the order of the events: what the twin wants, a candidate that is ready or failed, the judgement
of the watch, the method `rollback`. Two tasks work for it: one prepares a candidate, one watches the active model.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

from classifier.rollout.fetch import FetchLimits
from classifier.rollout.live import Live
from classifier.rollout.memory import ACTIVE, FAILED, Kept, Memory, Outcome, Trial
from classifier.rollout.news import News, plain
from classifier.rollout.preparing import Failed, Preparing, Ready, now
from classifier.rollout.shelf import Remembering
from classifier.rollout.start import Sources
from classifier.rollout.trial import judged
from classifier.rollout.wanted import Wanted, from_desired
from classifier.rollout.watch import Rules
from ripeloop.errors import Refused
from ripeloop.hub import Hub

log = logging.getLogger(__name__)

BY_HAND = "by the method rollback"


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """What a package may cost to fetch; how long an active model is watched, in seconds, and what is worse."""

    limits: FetchLimits = field(default_factory=FetchLimits)
    watch_seconds: float = 600.0
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class _Desired:
    section: object


@dataclass(frozen=True, slots=True)
class _Judged:
    active: Kept
    verdict: str | None
    remark: str = ""


@dataclass(frozen=True, slots=True)
class _Rollback:
    answer: asyncio.Future[tuple[int, Any]]


class Rollout:
    """Keeps the model that answers in step with the twin. Use `run` once; `status` and `rollback` at any time."""

    def __init__(
        self, live: Live, sources: Sources, memory: Memory, settings: RolloutSettings = RolloutSettings()
    ) -> None:
        self._live = live
        self._sources = sources
        self._remembered = Remembering(sources.shelf, memory)
        self._settings = settings
        self._news = News(live, self._remembered)
        self._wanted: Wanted | None = None
        self._unwanted = False  # the twin asks for nothing
        self._malformed: Outcome | None = None  # what it asks for is no wish
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._preparing = Preparing(live, sources, self._remembered, self._news, self._tell, self._events.put_nowait)
        self._watching: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    @property
    def _memory(self) -> Memory:
        return self._remembered.memory

    def status(self) -> dict[str, Any]:
        """How it stands; see News."""
        return self._news.status()

    async def rollback(self, _: Any = None) -> tuple[int, Any]:
        """The direct method: let the model before answer, and stop what is on its way."""
        event = _Rollback(asyncio.get_running_loop().create_future())
        self._events.put_nowait(event)
        return await event.answer

    async def run(self, hub: Hub) -> None:
        """Follow the twin, for ever."""
        try:
            async with self._tasks as tasks:
                tasks.create_task(self._news.report(hub))
                tasks.create_task(self._listen(hub))
                outcome = self._news.outcome
                self._news.tell(outcome if outcome.since else Outcome(ACTIVE, since=now()))
                self._watch()
                while True:
                    await self._handle(await self._events.get())
        finally:
            self._remembered.close()
            self._sources.thread.shutdown(wait=False, cancel_futures=True)

    async def _listen(self, hub: Hub) -> None:
        async for desired in hub.desired():
            self._events.put_nowait(_Desired(desired.get("model")))

    async def _handle(self, event: Any) -> None:
        match event:
            case _Desired(section):
                await self._want(section)
            case Ready(wanted) | Failed(wanted) if wanted == self._wanted and self._preparing.is_outdated(event):
                self._preparing.compare_anew(wanted, self._settings.limits, self._tasks)
            case Ready(wanted) if wanted == self._wanted:
                await self._preparing.stop()
                await self._activate(event)
            case Failed(wanted) if wanted == self._wanted:
                await self._preparing.stop()
                await self._fail(event)
            case _Judged(active, verdict, remark) if active.sha256 == self._memory.active.sha256:  # its name may change
                await (self._undo(verdict) if verdict else self._pass(remark))
            case _Rollback(answer):
                if not answer.done():
                    answer.set_result(await self._roll_back())

    async def _want(self, section: object) -> None:
        try:
            wanted = from_desired(section)
        except Refused as error:
            await self._preparing.stop()
            self._wanted, self._unwanted = None, False
            self._malformed = Outcome(FAILED, str(error), "", now())
            self._settle()
            return
        if wanted is not None and wanted == self._wanted:
            return  # the twin was told again
        await self._preparing.stop()
        self._wanted, self._unwanted, self._malformed = wanted, wanted is None, None
        memory = self._memory
        if wanted is None:
            self._settle()
        elif memory.refuses(wanted):
            await self._refuse(wanted)
        elif wanted.sha256 == memory.active.sha256:
            await self._confirm(wanted)
        elif memory.ends_the_process(wanted):
            await self._fail(Failed(wanted, f"the process ended {memory.tries} times while the model was loaded"))
        else:
            log.info("model %s is wanted: %s", wanted.version, wanted.place)
            await self._remembered.tidy(wanted)
            self._preparing.start(wanted, self._settings.limits, self._tasks)

    async def _activate(self, ready: Ready) -> None:
        wanted, serving = ready.wanted, self._live.serving
        trial = Trial(serving.figures, serving.judged_by)
        try:
            await self._remembered.commit(lambda memory: memory.activated(wanted, trial, now(), ready.shadow))
        except OSError as error:
            await self._fail(Failed(wanted, self._remembered.unusable(error), ready.shadow, again=True))
            return
        self._live.swap(ready.model, self._memory.trial.terms if self._memory.trial else None)
        log.info("model %s answers now, on trial", wanted.version)
        self._settle()
        await self._remembered.tidy()
        self._tasks.create_task(self._sources.give_back())
        self._watch()

    async def _fail(self, failed: Failed) -> None:
        wanted, reason = failed.wanted, plain(failed.reason)
        log.error("model %s failed: %s", wanted.version, reason)
        await self._remembered.keep(
            lambda memory: memory.failed(wanted, reason, now(), failed.shadow, again=failed.again)
        )
        await self._remembered.tidy()
        self._settle()
        self._tasks.create_task(self._sources.give_back())

    async def _refuse(self, wanted: Wanted) -> None:
        """What is wanted was tried before, to no good end, maybe as another version."""
        if self._memory.refused_as(wanted) != self._memory:
            await self._remembered.keep(lambda memory: memory.refused_as(wanted))
        self._settle()

    async def _confirm(self, wanted: Wanted) -> None:
        """What is wanted answers already; its signature and its version may be new here."""
        try:
            await self._sources.beside(self._sources.sign, wanted)
        except OSError as error:
            log.error("%s", self._remembered.unusable(error))
        if self._memory.confirmed(wanted, "") != self._memory:
            await self._remembered.keep(lambda memory: memory.confirmed(wanted, now()))
            self._live.model.version = wanted.version
        self._settle()

    def _watch(self) -> None:
        """Watch the active model if it is on trial, from its beginning."""
        if self._watching is not None:
            self._watching.cancel()
        if (trial := self._memory.trial) is not None:
            self._live.serving.terms = trial.terms
            self._watching = self._tasks.create_task(self._watch_over(trial))

    async def _watch_over(self, trial: Trial) -> None:
        active, settings = self._memory.active, self._settings

        async def settled() -> None:
            await self._remembered.keep(Memory.settled)

        verdict, remark = await judged(
            self._live.serving, trial.before, settings.watch_seconds, settings.rules, settled
        )
        self._events.put_nowait(_Judged(active, verdict, remark))

    async def _pass(self, remark: str) -> None:
        """The trial is over, and the active model stays."""
        self._live.serving.terms = None
        await self._remembered.keep(lambda memory: memory.passed(remark, now()))
        self._settle()

    async def _roll_back(self) -> tuple[int, Any]:
        """Undo the newest step: what is on its way is stopped, else the model before answers again."""
        on_its_way = self._wanted if self._preparing.on_its_way else None
        if on_its_way is not None:
            await self._preparing.stop()
            self._wanted = None
            await self._remembered.keep(lambda memory: memory.stopped(on_its_way, BY_HAND, now()))
            self._settle()
        elif self._memory.previous is None:
            return 409, {"reason": "there is no model before this one: name another in the twin's model"}
        elif trouble := await self._undo(BY_HAND):
            return 500, {"reason": trouble}
        return 200, self.status()

    async def _undo(self, reason: str) -> str:
        """The model before answers again, else that of --model; where neither can, why not."""
        bad, previous = self._memory.active.version, self._memory.previous or Kept()
        model, to, trouble = await self._sources.beside(self._sources.older, previous)
        trouble = plain(trouble)
        if model is None:
            log.error("model %s should be undone (%s), but none can take its place: %s", bad, reason, trouble)
            await self._pass(f"{reason}; but no other can be loaded: {trouble}")
            return trouble
        if self._watching is not None:
            self._watching.cancel()
        log.warning("model %s is undone, %s answers: %s", bad, model.version, reason)
        older = replace(to, version=model.version)
        await self._remembered.keep(lambda memory: memory.undone(older, reason, now()))
        self._live.swap(model)
        self._malformed = None  # that it was undone is the newer news
        self._settle()
        await self._remembered.tidy(self._wanted if self._preparing.on_its_way else None)
        self._tasks.create_task(self._sources.give_back())
        return ""

    def _settle(self) -> None:
        """Tell how it stands; while a candidate is on its way, that is about the candidate, whoever answers by now."""
        if self._preparing.on_its_way:
            self._tell(self._news.outcome)
        else:
            memory = self._memory
            self._tell(self._malformed or (memory.unwanted(now()) if self._unwanted else memory.outcome))

    def _tell(self, outcome: Outcome) -> None:
        self._news.tell(outcome)
