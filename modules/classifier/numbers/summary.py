"""What the classifier did: counted here, asked for by the method `status`, told the cloud every minute."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from weakref import WeakKeyDictionary

from classifier.models.model import Model
from classifier.numbers.drift import Drift, Window, measured, why_none
from ripeloop.errors import SpoolFull, TooLarge
from ripeloop.hub import Hub
from ripeloop.prediction import Prediction, format_time
from ripeloop.sampling import reported
from ripeloop.uncertainty import Policy

log = logging.getLogger(__name__)

OUTPUT = "summary"
LATENCIES = 10_000  # per summary; more would not move a percentile


@dataclass(slots=True)
class Counts:
    """The numbers of one module life. Touched by the event loop's thread alone.

    Images that got no answer are `refused`; on `failed` of these the model itself failed. `tags` counts the images by
    the tag the model found likeliest, `confidence` adds up how likely it was. Once nothing is under way, the flagged
    images are as many as the stored and the dropped ones. `windows` hold the newest answers of each model that is still
    about, for its drift.
    """

    answered: int = 0
    refused: int = 0
    failed: int = 0
    stored: int = 0
    confidence: float = 0.0
    tags: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))
    windows: WeakKeyDictionary[Model, Window] = field(default_factory=WeakKeyDictionary, repr=False)

    def answer(self, predictions: Sequence[Prediction], seconds: float, model: Model) -> None:
        """Count one image that `model` answered after so many seconds."""
        self.answered += 1
        self.seconds.append(seconds)
        best = max(predictions, key=lambda p: p.probability)
        self.tags[best.tag] += 1
        self.confidence += best.probability
        self.window(model).add(best.tag, best.probability)

    def window(self, model: Model) -> Window:
        """The newest answers of `model`."""
        window = self.windows.get(model)
        if window is None:
            window = self.windows[model] = Window()
        return window

    def drift(self, model: Model) -> Drift | None:
        """How far they are from what `model` said when it was validated; None where that cannot be told."""
        window = self.window(model)
        if model.validation is None or why_none(model.validation, window):
            return None
        return measured(model.validation, window)

    def copy(self) -> Counts:
        """The numbers as they are now."""
        return self.since(Counts())

    def since(self, before: Counts) -> Counts:
        """What was counted after `before`; the latencies are those since the last summary."""
        return Counts(
            answered=self.answered - before.answered,
            refused=self.refused - before.refused,
            failed=self.failed - before.failed,
            stored=self.stored - before.stored,
            confidence=self.confidence - before.confidence,
            tags=self.tags - before.tags,
            flagged=self.flagged - before.flagged,
            dropped=self.dropped - before.dropped,
            seconds=self.seconds.copy(),
            windows=self.windows,
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers in the words of `status` and of the summary."""
        return {
            "answered": self.answered,
            "refused": self.refused,
            "failed": self.failed,
            "flagged": dict(self.flagged),
            "dropped": dict(self.dropped),
        }


def summary(before: Counts, now: Counts, since: datetime, until: datetime, model: Model) -> dict[str, Any]:
    """What happened between two moments, at the end of which `model` answers.

    `tags` counts the images by their likeliest tag, `confidence` is the mean probability of that tag, `latency` is in
    milliseconds; the last two are absent where nothing was answered. `drift` is that of the model's newest answers,
    however old they are, and absent where there is no score.
    """
    period = now.since(before)
    body = {"from": format_time(since), "to": format_time(until), "model": model.version} | period.to_json()
    body["tags"] = dict(period.tags)
    if period.answered:
        body["confidence"] = round(period.confidence / period.answered, 4)
    if period.seconds:
        body["latency"] = {"p50": _percentile(period.seconds, 0.5), "p99": _percentile(period.seconds, 0.99)}
    if drifted := now.drift(model):
        body["drift"] = drifted.to_json()
    return body


async def post_summaries(hub: Hub, counts: Counts, model: Callable[[], Model], every: float) -> None:
    """Post one summary to the hub every so many seconds, for ever; none where nothing happened.

    What no summary could tell, as the hub had no room, the next one tells. `model` tells which model answers now.
    """
    before, since = counts.copy(), datetime.now(UTC)
    while True:
        await asyncio.sleep(every)
        until, now = datetime.now(UTC), counts.copy()
        body = summary(before, now, since, until, model())
        if any(body[name] for name in now.to_json()):
            try:
                await hub.post(OUTPUT, json.dumps(body).encode(), {"model": body["model"]})
            except SpoolFull as error:
                log.warning("a summary has to wait: %s", error)
                continue
            except TooLarge as error:
                log.warning("a summary is lost: %s", error)  # the next one would be larger still
        for _ in now.seconds:
            counts.seconds.popleft()
        before, since = now, until


def status(
    counts: Counts, model: Model, about: Mapping[str, Any], spool: tuple[int, int], policy: Policy
) -> dict[str, Any]:
    """The answer to the direct method `status`: `about` the model and its rollout; bytes and images in `spool`.

    `drift` tells the score, or the reason why there is none.
    """
    drifted = counts.drift(model)
    nothing = {"reason": why_none(model.validation, counts.window(model))}
    return {
        "model": dict(about),
        **counts.to_json(),
        "spool": {"bytes": spool[0], "images": spool[1]},
        "sampling": reported(policy),
        "drift": drifted.to_json() if drifted else nothing,
    }


def _percentile(seconds: deque[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 1)
