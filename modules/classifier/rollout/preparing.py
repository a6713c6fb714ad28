"""One candidate on its way, beside the model that answers: brought, tried, compared in silence where that is wished."""

from __future__ import annotations

import asyncio
import logging
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from classifier.models.model import Model
from classifier.rollout.candidate import prepared
from classifier.rollout.compared import Compared
from classifier.rollout.fetch import FetchLimits
from classifier.rollout.live import Live, Serving
from classifier.rollout.memory import SHADOWING, Memory, Outcome
from classifier.rollout.news import News
from classifier.rollout.shadow import Shadow
from classifier.rollout.shelf import Remembering
from classifier.rollout.start import Sources
from classifier.rollout.trial import SETTLED
from classifier.rollout.wanted import ShadowWish, Wanted
from ripeloop.errors import BadModel, Refused, RipeloopError
from ripeloop.prediction import format_time

log = logging.getLogger(__name__)

# what nobody has thought of ends the candidate alone: the twin would bring it back at every start of the process
_UNFORESEEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Ready:
    """The candidate may take over. `shadow` is how it compared, where that was wished, and `beside` with which."""

    wanted: Wanted
    model: Model
    shadow: Compared | None = None
    beside: Serving | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The candidate must not take over; where the package is not the cause, the same may be tried `again`."""

    wanted: Wanted
    reason: str
    shadow: Compared | None = None
    beside: Serving | None = None
    again: bool = False


class Preparing:
    """Prepares one candidate at a time; each ends with a Ready or a Failed for `done`, unless it is stopped.

    It changes no model and, but for how often the loading was tried, remembers nothing. `tell` has each state.
    """

    def __init__(
        self,
        live: Live,
        sources: Sources,
        remembered: Remembering,
        news: News,
        tell: Callable[[Outcome], None],
        done: Callable[[Ready | Failed], None],
    ) -> None:
        self._live = live
        self._sources = sources
        self._remembered = remembered
        self._news = news
        self._tell = tell
        self._done = done
        self._task: asyncio.Task[None] | None = None
        self._prepared: Model | None = None

    @property
    def on_its_way(self) -> bool:
        """Whether there is one, or one whose end was not taken note of."""
        return self._task is not None

    def start(self, wanted: Wanted, limits: FetchLimits, tasks: asyncio.TaskGroup) -> None:
        """Bring a candidate up, after `stop`."""
        self._task = tasks.create_task(self._prepare(wanted, limits))

    def is_outdated(self, end: Ready | Failed) -> bool:
        """Whether the candidate was compared with a model that does not answer any more."""
        return end.beside is not None and end.beside is not self._live.serving

    def compare_anew(self, wanted: Wanted, limits: FetchLimits, tasks: asyncio.TaskGroup) -> None:
        """Forget how the candidate compared, and compare it with the model that answers now."""
        log.info("model %s is compared anew: the model it was compared with answers no more", wanted.version)
        self._task = tasks.create_task(self._prepare(wanted, limits, self._prepared))

    async def stop(self) -> None:
        """No candidate is on its way when this returns."""
        task, self._task, self._prepared = self._task, None, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _prepare(self, wanted: Wanted, limits: FetchLimits, model: Model | None = None) -> None:
        compared: Compared | None = None
        beside: Serving | None = None

        def tell(state: str, reason: str = "") -> None:
            self._tell(Outcome(state, reason, wanted.version, now()))

        async def about_to_load() -> None:
            await self._remembered.commit(lambda memory: memory.loading(wanted))

        try:
            model = self._prepared = model or await prepared(wanted, self._sources, limits, tell, about_to_load)
            if wanted.shadow is not None:
                compared, beside, reason = await self._compared(wanted, wanted.shadow, model)
                if reason:
                    raise BadModel(reason)
        except OSError as error:
            self._done(Failed(wanted, self._remembered.unusable(error), again=True))
        except RipeloopError as error:
            again = isinstance(error, Refused) or isinstance(error.__cause__, OSError | MemoryError)
            self._done(Failed(wanted, str(error), compared, beside, again))
        except _UNFORESEEN as error:
            log.exception("model %s cannot be prepared", wanted.version)
            reason = f"it cannot be prepared ({type(error).__name__}); the log tells more"
            self._done(Failed(wanted, reason, compared, again=isinstance(error, MemoryError)))
        else:
            self._done(Ready(wanted, model, compared, beside))

    async def _compared(self, wanted: Wanted, wish: ShadowWish, model: Model) -> tuple[Compared, Serving, str]:
        """How the candidate compared, with which, and why it must not take over, or nothing; told by then."""

        def tell(compared: Compared) -> None:
            self._tell(Outcome(SHADOWING, "", wanted.version, now(), compared))

        shadow = self._live.shadow = Shadow(model, wish)
        settling = asyncio.create_task(self._settle())
        try:
            reason = await shadow.run(tell)
        finally:
            beside, self._live.shadow = self._live.serving, None
            settling.cancel()
            await asyncio.wait({settling})
        log.info("model %s, compared in silence: %s", wanted.version, shadow.compared.to_reported())
        await self._news.told()
        return shadow.compared, beside, reason

    async def _settle(self) -> None:
        await asyncio.sleep(SETTLED)
        await self._remembered.keep(Memory.withstood)


def now() -> str:
    """The moment, as it is reported."""
    return format_time(datetime.now(UTC))
