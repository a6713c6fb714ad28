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
from ripeloop.uncertainty import reason_to_flag


class Busy(RipeloopError):
    """As many requests as may be held are under way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said of one image, and which model it was."""

    predictions: tuple[Prediction, ...]
    model: Model


@dataclass(frozen=True, slots=True)
class Sight:
    """When, how and by which camera an image was seen."""

    at: datetime
    dhash: str
    camera: str


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

        `camera` names the one it is from, if the sender said so. Raises BadImage, BadModel.
        """
        started, captured_at = time.perf_counter(), datetime.now(UTC)
        alone, serving = self._in_flight <= 1, self.live.serving
        loop = asyncio.get_running_loop()
        try:
            (predictions, looks), busy = await loop.run_in_executor(self._threads, _timed, serving.model, image, alone)
        except BadModel:
            serving.failed()
            raise
        answer, seconds = Answer(predictions, serving.model), time.perf_counter() - started
        serving.answered(predictions, busy, self._thresholds.of(serving.model))
        if keep and self._handoff is not None:
            sight = Sight(captured_at, looks, camera_name(camera))
            await self._flag(self._handoff, image, answer, sight)
        self._counts.answer(predictions, seconds, serving.model)
        if self.live.shadow is not None and serving is self.live.serving:  # else that model was swapped out meanwhile
            self.live.shadow.offer(Seen(image, predictions, busy, alone, lambda: self._in_flight, self._workers))
        return answer

    def refused(self) -> None:
        """Count a request that got no answer."""
        self._counts.refused += 1

    def close(self) -> None:
        """Let the worker threads go. None is waited for: an image may keep one for long, and the process has to end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _flag(self, handoff: Handoff, image: bytes, answer: Answer, sight: Sight) -> None:
        reason = reason_to_flag(answer.predictions, self._thresholds.of(answer.model), self._chance())
        if reason is None:
            return
        flagged = Flagged(
            id=image_id(image),
            captured_at=sight.at,
            reason=reason,
            predictions=brief(answer.predictions),
            model=answer.model.version,
            content_type=content_type(image),
            dhash=sight.dhash,
            camera=sight.camera,
        )
        await handoff.offer(flagged, image)


def _timed(model: Model, image: bytes, alone: bool) -> tuple[tuple[tuple[Prediction, ...], str], float]:
    started = time.perf_counter()
    return model.look(image, alone=alone), time.perf_counter() - started
