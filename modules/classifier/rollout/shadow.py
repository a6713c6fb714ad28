"""A candidate answers in silence beside the live model: how alike the two are is known before it takes over.

No answer waits for it: an image is taken after its answer, one at a time, on a thread of its own, and only while a
worker is idle. What it says is compared and forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from random import SystemRandom

from classifier.models.model import Model
from classifier.rollout.compared import Compared, too_different
from classifier.rollout.wanted import ShadowWish
from ripeloop.errors import RipeloopError
from ripeloop.prediction import Prediction

LET_GO = 0.005  # seconds in which the answer leaves before the candidate begins
TELL_EVERY = 10.0  # seconds; reported properties are few
LONGEST = 60.0  # seconds for one image: a candidate that takes longer has stopped


@dataclass(frozen=True, slots=True)
class Seen:
    """An image after its answer: what was said, the worker's seconds, and whether it had all cores (`alone`).

    `under_way` tells how many images the `workers` have now.
    """

    image: bytes
    predictions: tuple[Prediction, ...]
    seconds: float
    alone: bool
    under_way: Callable[[], int]
    workers: int


class Shadow:
    """Compares `model` with what was answered. Touched by the event loop's thread alone."""

    def __init__(self, model: Model, wish: ShadowWish, chance: Callable[[], float] = SystemRandom().random) -> None:
        self.compared = Compared()
        self._model = model
        self._wish = wish
        self._chance = chance
        self._first = asyncio.Event()
        self._next: asyncio.Queue[Seen] = asyncio.Queue(1)
        self._end = 0.0  # of the wish's seconds, on the loop's clock, once there was an image
        self._at_work = False
        self._outdated = False
        self._tell: Callable[[Compared], None] | None = None

    def begin_anew(self) -> None:
        """Another model answers now: forget what was said beside the one before, the image at work included."""
        self.compared = Compared()
        self._first.clear()
        self._outdated = self._at_work
        if self._tell is not None:
            self._tell(self.compared)

    def offer(self, seen: Seen) -> None:
        """Compare this image if it is its turn, or count it as skipped. Never waits."""
        if not self._first.is_set():
            self._first.set()
            self._end = asyncio.get_running_loop().time() + self._wish.seconds
        if self._chance() >= self._wish.share:
            return
        if self._at_work:
            self._skip()
            return
        self._at_work = True
        self._next.put_nowait(seen)

    async def run(self, tell: Callable[[Compared], None]) -> str:
        """Compare until the wish is fulfilled; why the candidate must not take over, or nothing.

        The seconds of the wish begin with the first image answered. `tell` has the figures now and then and at the end.
        """
        thread = ThreadPoolExecutor(1, "shadow")
        self._tell = tell
        try:
            tell(self.compared)
            return await self._until_fulfilled(thread, tell)
        finally:
            tell(self.compared)
            thread.shutdown(wait=False, cancel_futures=True)

    async def _until_fulfilled(self, thread: ThreadPoolExecutor, tell: Callable[[Compared], None]) -> str:
        loop = asyncio.get_running_loop()
        told = loop.time()
        while self.compared.images < self._wish.images:
            await self._first.wait()
            try:
                async with asyncio.timeout_at(self._end):
                    seen = await self._next.get()
            except TimeoutError:
                if self._first.is_set() and loop.time() >= self._end:
                    break
                continue  # it began anew meanwhile
            await asyncio.sleep(LET_GO)
            if seen.under_way() < seen.workers:
                if reason := await self._compare(thread, seen):
                    return reason
            elif not self._outdated:
                self._skip()
            self._at_work = self._outdated = False
            if loop.time() - told >= TELL_EVERY:
                told = loop.time()
                tell(self.compared)
        return too_different(self.compared, self._wish.agreement)

    async def _compare(self, thread: ThreadPoolExecutor, seen: Seen) -> str:
        """Ask the candidate; why it failed on an image that the live model answered, or nothing."""
        alone = seen.alone and not seen.under_way()
        work = asyncio.get_running_loop().run_in_executor(thread, _timed, self._model, seen.image, alone)
        try:
            async with asyncio.timeout(LONGEST):
                predictions, seconds = await work
        except TimeoutError:
            return self._failed(f"no answer in {LONGEST:.0f} seconds")
        except (RipeloopError, MemoryError) as error:
            return self._failed(str(error) or type(error).__name__)
        if self._outdated:
            return ""
        self.compared = self.compared.answered(seen.predictions, predictions)
        if alone == seen.alone:
            self.compared = self.compared.took(seen.seconds, seconds)
        return ""

    def _failed(self, why: str) -> str:
        self.compared = replace(self.compared, errors=self.compared.errors + 1)
        return f"it failed on an image that the model that answers managed, after {self.compared.images} others: {why}"

    def _skip(self) -> None:
        self.compared = replace(self.compared, skipped=self.compared.skipped + 1)


def _timed(model: Model, image: bytes, alone: bool) -> tuple[tuple[Prediction, ...], float]:
    started = time.perf_counter()
    return model.predict(image, alone=alone), time.perf_counter() - started
