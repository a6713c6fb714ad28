"""The life of one image in this module: predicted in a thread, judged by the policy, handed over if uncertain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import SystemRandom
from typing import NamedTuple

from classifier.models.model import Model
from classifier.numbers.summary import Counts
from classifier.numbers.thresholds import Thresholds
from classifier.pixels.decoding import content_type
from classifier.rollout.live import Live
from classifier.rollout.shadow import Seen
from classifier.serving.brief import brief
from classifier.serving.handoff import Handoff
from ripeloop.errors import BadModel, RipeloopError
from ripeloop.prediction import Flagged, Prediction, camera_name, image_id
from ripeloop.uncertainty import Policy, reason_to_flag


class Busy(RipeloopError):
    """As many requests as may be held are under way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of one image, and which model it was."""

    predictions: tuple[Prediction, ...]
    model: Model


@dataclass(frozen=True, slots=True)
class _Posted:
    """An image, when it came and from which camera; `judged_by` is None where it is not kept in any case."""

    image: bytes
    at: datetime
    camera: str
    alone: bool
    judged_by: Policy | None
    chance: float


class Classifier:
    """Answers images, a bounded number at once, and hands over those the model is unsure of."""

    def __init__(
        self,
        live: Live,
        counts: Counts,
        thresholds: Thresholds,
        handoff: Handoff | None = None,
        *,
        workers: int = 1,
        max_in_flight: int = 64,
        chance: Callable[[], float] = SystemRandom().random,
    ) -> None:
        self.live = live
        self._counts = counts
        self._thresholds = thresholds
        self._handoff = handoff
        self._chance = chance
        self._threads = ThreadPoolExecutor(workers, "model")
        self._workers = workers
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    @property
    def model(self) -> Model:
        """The model that answers the next request."""
        return self.live.model

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for images, until the block ends. Raises Busy."""
        self.check_place()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def check_place(self) -> None:
        """Raises Busy where no place is left now."""
        if not self.has_place:
            raise Busy(f"{self._in_flight} images are under way: post this one again in a moment")

    @property
    def in_flight(self) -> int:
        """The images that hold a place now."""
        return self._in_flight

    @property
    def has_place(self) -> bool:
        """Whether one more image would be taken now."""
        return self._in_flight < self._max_in_flight

    async def classify(self, image: bytes, *, keep: bool = True, camera: str = "") -> Answer:
        """The model's answer. Where `keep`, an uncertain image is in the spool by then if the disk is quick.

        `camera` names the one it is from, if the sender said so. Raises BadImage, BadModel, MemoryError.
        """
        serving, started = self.live.serving, time.perf_counter()
        policy = self._thresholds.of(serving.model)
        judged_by = policy if keep and self._handoff is not None else None
        posted = _Posted(image, datetime.now(UTC), camera, self._in_flight <= 1, judged_by, self._chance())
        loop = asyncio.get_running_loop()
        try:
            done = await loop.run_in_executor(self._threads, _answered, serving.model, posted)
        except BadModel:
            serving.failed()
            self._counts.failed += 1
            raise
        seconds = time.perf_counter() - started
        serving.answered(done.predictions, done.seconds, policy)
        if self._handoff is not None and done.flagged is not None:
            await self._handoff.offer(done.flagged, image)
        self._counts.answer(done.predictions, seconds, serving.model)
        if self.live.shadow is not None and serving is self.live.serving:  # else that model was swapped out meanwhile
            seen = Seen(image, done.predictions, done.seconds, posted.alone, lambda: self._in_flight, self._workers)
            self.live.shadow.offer(seen)
        return Answer(done.predictions, serving.model)

    def refused(self) -> None:
        """Count an image that got no answer."""
        self._counts.refused += 1

    def close(self) -> None:
        """Let the worker threads go. None is waited for: an image may keep one for long, and the process has to end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _Done(NamedTuple):
    """The worker's part: what the model said in so many seconds, and the record of an image that is flagged."""

    predictions: tuple[Prediction, ...]
    flagged: Flagged | None
    seconds: float


def _answered(model: Model, posted: _Posted) -> _Done:
    """In a worker thread. How an image looks is found out for the flagged ones alone."""
    started = time.perf_counter()
    tensor = model.prepared(posted.image)
    predictions = model.answer(tensor, alone=posted.alone)
    seconds = time.perf_counter() - started
    reason = None if posted.judged_by is None else reason_to_flag(predictions, posted.judged_by, posted.chance)
    if reason is None:
        return _Done(predictions, None, seconds)
    flagged = Flagged(
        id=image_id(posted.image),
        captured_at=posted.at,
        reason=reason,
        predictions=brief(predictions),
        model=model.version,
        content_type=content_type(posted.image),
        dhash=model.looks(tensor),
        camera=camera_name(posted.camera),
    )
    return _Done(predictions, flagged, seconds)
