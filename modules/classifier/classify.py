"""The life of one image in this module: predicted in a thread, judged by the policy, handed over if uncertain."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from random import SystemRandom

from classifier.handoff import Handoff
from classifier.imaging import content_type
from classifier.model import Model
from classifier.summary import Counts
from classifier.thresholds import Thresholds
from ripeloop.errors import RipeloopError
from ripeloop.prediction import Flagged, Prediction, image_id
from ripeloop.uncertainty import reason_to_flag


class Busy(RipeloopError):
    """As many requests as may be held are under way."""


class Classifier:
    """Answers images, a bounded number at once, and hands over those the model is unsure of."""

    def __init__(
        self,
        model: Model,
        counts: Counts,
        thresholds: Thresholds,
        handoff: Handoff | None = None,
        *,
        workers: int = 1,
        max_in_flight: int = 64,
        chance: Callable[[], float] = SystemRandom().random,
    ) -> None:
        self.model = model
        self._counts = counts
        self._thresholds = thresholds
        self._handoff = handoff
        self._chance = chance
        self._workers = ThreadPoolExecutor(workers, "model")
        self._max_in_flight = max_in_flight
        self._in_flight = 0

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
        if self._in_flight >= self._max_in_flight:
            raise Busy(f"{self._in_flight} images are under way: post this one again in a moment")

    async def classify(self, image: bytes, *, keep: bool = True) -> tuple[Prediction, ...]:
        """The model's answer. Where `keep`, an uncertain image is in the spool by then if the disk is quick.

        Raises BadImage, BadModel.
        """
        started, captured_at = time.perf_counter(), datetime.now(UTC)
        alone = self._in_flight <= 1
        loop = asyncio.get_running_loop()
        predictions = await loop.run_in_executor(self._workers, lambda: self.model.predict(image, alone=alone))
        self._counts.seconds.append(time.perf_counter() - started)
        if keep and self._handoff is not None:
            await self._flag(self._handoff, image, predictions, captured_at)
        self._counts.answered += 1
        return predictions

    def refused(self) -> None:
        """Count a request that got no answer."""
        self._counts.refused += 1

    def close(self) -> None:
        """Let the worker threads go, once what they are at is done."""
        self._workers.shutdown(cancel_futures=True)

    async def _flag(
        self, handoff: Handoff, image: bytes, predictions: tuple[Prediction, ...], captured_at: datetime
    ) -> None:
        reason = reason_to_flag(predictions, self._thresholds.policy, self._chance())
        if reason is None:
            return
        flagged = Flagged(
            id=image_id(image),
            captured_at=captured_at,
            reason=reason,
            predictions=predictions,
            model=self.model.version,
            content_type=content_type(image),
        )
        await handoff.offer(flagged, image)
