"""A new model on its way: fetched, verified, loaded, compared, swapped in, watched, and undone if it is worse.

One task decides, in the order of the events: what the twin wants, a candidate that is ready or failed, the judgement
of the watch, the method `rollback`. Two tasks work for it: one prepares a candidate, one watches the active model.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from classifier.candidate import Terms, prepared
from classifier.freed import give_back
from classifier.live import Live
from classifier.memory import ACTIVE, FAILED, Kept, Memory, Outcome
from classifier.model import Model
from classifier.shelf import Remembering
from classifier.start import Sources
from classifier.wanted import Wanted, from_desired
from classifier.watch import Figures, Rules, unjudged, worse
from ripeloop.errors import BadModel, Refused, RipeloopError
from ripeloop.hub import Hub
from ripeloop.prediction import format_time

log = logging.getLogger(__name__)

BY_HAND = "by the method rollback"
MAX_REASON = 300  # characters; reported properties are small
LAST_REQUEST = 1.0  # seconds after which no request has the old model any more, as a rule
SETTLED = 60.0  # seconds after which an end of the process is not the new model's doing


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """What is asked of a candidate; how long an active model is watched, in seconds, and what is worse."""

    terms: Terms = field(default_factory=Terms)
    watch_seconds: float = 600.0
    rules: Rules = field(default_factory=Rules)


@dataclass(frozen=True, slots=True)
class _Desired:
    section: object


@dataclass(frozen=True, slots=True)
class _Ready:
    wanted: Wanted
    model: Model


@dataclass(frozen=True, slots=True)
class _Failed:
    wanted: Wanted
    reason: str


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
        self._outcome = memory.outcome
        self._wanted: Wanted | None = None
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._news = asyncio.Event()
        self._preparing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tasks = asyncio.TaskGroup()

    @property
    def _memory(self) -> Memory:
        return self._remembered.memory

    def status(self) -> dict[str, Any]:
        """What is reported: `version` and `sha256` of the model that answers, `state` and `reason` of `wanted`."""
        previous = self._memory.previous
        return {
            "version": self._live.model.version,
            "sha256": self._memory.active.sha256 or None,
            "state": self._outcome.state,
            "reason": self._outcome.reason[:MAX_REASON] or None,
            "since": self._outcome.since or None,
            "wanted": self._outcome.wanted or None,
            "previous": previous.version if previous else None,
        }

    async def rollback(self, _: Any = None) -> tuple[int, Any]:
        """The direct method: let the model before answer, and stop what is on its way."""
        event = _Rollback(asyncio.get_running_loop().create_future())
        self._events.put_nowait(event)
        return await event.answer

    async def run(self, hub: Hub) -> None:
        """Follow the twin, for ever."""
        try:
            async with self._tasks as tasks:
                tasks.create_task(self._report(hub))
                tasks.create_task(self._listen(hub))
                if not self._outcome.since:
                    self._outcome = Outcome(ACTIVE, since=_now())
                self._news.set()
                if self._memory.trial:
                    self._watch(self._memory.trial.before)
                while True:
                    await self._handle(await self._events.get())
        finally:
            self._remembered.close()
            self._sources.thread.shutdown(wait=False, cancel_futures=True)

    async def _listen(self, hub: Hub) -> None:
        async for desired in hub.desired():
            self._events.put_nowait(_Desired(desired.get("model")))

    async def _report(self, hub: Hub) -> None:
        last: dict[str, Any] = {}
        while True:
            await self._news.wait()
            self._news.clear()
            news = self.status() | {"tags": len(self._live.model.tags)}
            if news != last:
                await hub.report({"model": news})
                last = news

    async def _handle(self, event: Any) -> None:
        match event:
            case _Desired(section):
                await self._want(section)
            case _Ready(wanted, model) if wanted == self._wanted:
                await self._activate(wanted, model)
            case _Failed(wanted, reason) if wanted == self._wanted:
                await self._fail(wanted, reason)
            case _Judged(active, verdict, remark) if active == self._memory.active:
                if verdict:
                    await self._undo(verdict)
                else:
                    await self._remembered.keep(lambda memory: memory.passed(remark, _now()))
                    self._settle()
            case _Rollback(answer):
                if not answer.done():
                    answer.set_result(await self._roll_back())

    async def _want(self, section: object) -> None:
        try:
            wanted = from_desired(section)
        except Refused as error:
            await self._stop_preparing()
            self._wanted = None
            self._tell(Outcome(FAILED, str(error), "", _now()))
            return
        if wanted is not None and wanted == self._wanted:
            return  # the twin was told again
        await self._stop_preparing()
        self._wanted = wanted
        memory = self._memory
        if wanted is None or memory.refuses(wanted):
            self._settle()
        elif wanted.sha256 == memory.active.sha256:
            if memory.confirmed("") != memory:
                await self._remembered.keep(lambda memory: memory.confirmed(_now()))
            self._settle()
        elif memory.ends_the_process(wanted):
            await self._fail(wanted, f"the process ended {memory.tries} times while the model was loaded")
        else:
            log.info("model %s is wanted: %s", wanted.version, wanted.place)
            await self._remembered.tidy(wanted)
            self._preparing = self._tasks.create_task(self._prepare(wanted))

    async def _prepare(self, wanted: Wanted) -> None:
        """Bring a candidate up beside the active model; ends with an event, and changes nothing else."""

        def tell(state: str, reason: str = "") -> None:
            self._tell(Outcome(state, reason, wanted.version, _now()))

        async def about_to_load() -> None:
            await self._remembered.commit(lambda memory: memory.loading(wanted))

        try:
            model = await prepared(wanted, self._sources, self._settings.terms, tell, about_to_load)
        except OSError as error:
            self._events.put_nowait(_Failed(wanted, self._remembered.unusable(error)))
        except RipeloopError as error:
            self._events.put_nowait(_Failed(wanted, str(error)))
        else:
            self._events.put_nowait(_Ready(wanted, model))

    async def _activate(self, wanted: Wanted, model: Model) -> None:
        self._preparing = None
        before = self._live.serving.figures
        try:
            await self._remembered.commit(lambda memory: memory.activated(wanted, before, _now()))
        except OSError as error:
            await self._fail(wanted, self._remembered.unusable(error))
            return
        self._live.swap(model)
        log.info("model %s answers now, on trial", wanted.version)
        self._settle()
        await self._remembered.tidy()
        self._tasks.create_task(self._give_back())
        trial = self._memory.trial
        self._watch(trial.before if trial else before)

    async def _fail(self, wanted: Wanted, reason: str) -> None:
        self._preparing = None
        log.error("model %s failed: %s", wanted.version, reason)
        await self._remembered.keep(lambda memory: memory.failed(wanted, reason[:MAX_REASON], _now()))
        await self._remembered.tidy()
        self._settle()

    def _watch(self, before: Figures) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._watching = self._tasks.create_task(self._watch_over(before))

    async def _watch_over(self, before: Figures) -> None:
        """Judge the active model until the window ends, which begins with its first image."""
        loop, active, serving = asyncio.get_running_loop(), self._memory.active, self._live.serving
        window, rules = self._settings.watch_seconds, self._settings.rules
        started, first = loop.time(), None
        settled = False
        while True:
            await asyncio.sleep(min(1.0, window / 10))
            now, figures = loop.time(), serving.figures
            if verdict := worse(before, figures, rules):
                self._events.put_nowait(_Judged(active, verdict))
                return
            if first is None and (figures.seen or not window):
                first = now
            if first is not None and now - first >= window:
                self._events.put_nowait(_Judged(active, None, unjudged(before, figures, rules)))
                return
            if not settled and now - started > SETTLED:
                settled = True
                await self._remembered.keep(Memory.settled)

    async def _roll_back(self) -> tuple[int, Any]:
        """Undo the newest step: what is on its way is stopped, else the model before answers again."""
        on_its_way = self._wanted if self._preparing else None
        if on_its_way is not None:
            await self._stop_preparing()
            self._wanted = None
            await self._remembered.keep(lambda memory: memory.stopped(on_its_way, BY_HAND, _now()))
            self._settle()
        elif self._memory.previous is None:
            return 409, {"reason": "there is no model before this one: name another in the twin's model"}
        elif trouble := await self._undo(BY_HAND):
            return 500, {"reason": trouble}
        return 200, self.status()

    async def _undo(self, reason: str) -> str:
        """The model before answers again, else that of --model; where neither can, why not."""
        bad, previous = self._memory.active.version, self._memory.previous or Kept()
        model, to, trouble = await self._sources.beside(self._older, previous)
        if model is None:
            log.error("model %s should be undone (%s), but none can take its place: %s", bad, reason, trouble)
            remark = f"{reason}; but no other can be loaded: {trouble}"[:MAX_REASON]
            await self._remembered.keep(lambda memory: memory.passed(remark, _now()))
            self._settle()
            return trouble
        if self._watching is not None:
            self._watching.cancel()
        log.warning("model %s is undone, %s answers: %s", bad, model.version, reason)
        older = Kept(model.version, to.sha256)
        await self._remembered.keep(lambda memory: memory.undone(older, reason, _now()))
        self._live.swap(model)
        self._settle()
        await self._remembered.tidy()
        self._tasks.create_task(self._give_back())
        return ""

    def _older(self, previous: Kept) -> tuple[Model | None, Kept, str]:
        troubles = []
        for kept in dict.fromkeys((previous, Kept())):
            try:
                return self._sources.open(kept), kept, ""
            except BadModel as error:
                troubles.append(str(error))
        return None, previous, "; ".join(troubles)

    async def _stop_preparing(self) -> None:
        task, self._preparing = self._preparing, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _give_back(self) -> None:
        await asyncio.sleep(LAST_REQUEST)
        await self._sources.beside(give_back)

    def _settle(self) -> None:
        """Tell how it stands, unless a candidate is on its way and tells."""
        if self._preparing is None:
            self._tell(self._memory.outcome)

    def _tell(self, outcome: Outcome) -> None:
        now = self._outcome
        if (now.state, now.reason, now.wanted) != (outcome.state, outcome.reason, outcome.wanted):
            self._outcome = outcome
        self._news.set()


def _now() -> str:
    return format_time(datetime.now(UTC))
