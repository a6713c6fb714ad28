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

from ripeloop.errors import SpoolFull, TooLarge
from ripeloop.hub import Hub
from ripeloop.prediction import Prediction, format_time

log = logging.getLogger(__name__)

OUTPUT = "summary"
LATENCIES = 10_000  # per summary; more would not move a percentile


@dataclass(slots=True)
class Counts:
    """The numbers of one module life. Touched by the event loop's thread alone.

    `tags` counts the images by the tag the model found likeliest, `confidence` adds up how likely it was. Once nothing
    is under way, the flagged images are as many as the stored and the dropped ones.
    """

    answered: int = 0
    refused: int = 0
    stored: int = 0
    confidence: float = 0.0
    tags: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))

    def answer(self, predictions: Sequence[Prediction], seconds: float) -> None:
        """Count one image that was answered after so many seconds."""
        self.answered += 1
        self.seconds.append(seconds)
        best = max(predictions, key=lambda p: p.probability)
        self.tags[best.tag] += 1
        self.confidence += best.probability

    def copy(self) -> Counts:
        """The numbers as they are now."""
        return self.since(Counts())

    def since(self, before: Counts) -> Counts:
        """What was counted after `before`; the latencies are those since the last summary."""
        return Counts(
            answered=self.answered - before.answered,
            refused=self.refused - before.refused,
            stored=self.stored - before.stored,
            confidence=self.confidence - before.confidence,
            tags=self.tags - before.tags,
            flagged=self.flagged - before.flagged,
            dropped=self.dropped - before.dropped,
            seconds=self.seconds.copy(),
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers in the words of `status` and of the summary."""
        return {
            "answered": self.answered,
            "refused": self.refused,
            "flagged": dict(self.flagged),
            "dropped": dict(self.dropped),
        }


def summary(before: Counts, now: Counts, since: datetime, until: datetime, model: str) -> dict[str, Any]:
    """What happened between two moments.

    `tags` counts the images by their likeliest tag, `confidence` is the mean probability of that tag, `latency` is in
    milliseconds; the last two are absent where nothing was answered.
    """
    period = now.since(before)
    body: dict[str, Any] = {"from": format_time(since), "to": format_time(until), "model": model} | period.to_json()
    body["tags"] = dict(period.tags)
    if period.answered:
        body["confidence"] = round(period.confidence / period.answered, 4)
    if period.seconds:
        body["latency"] = {"p50": _percentile(period.seconds, 0.5), "p99": _percentile(period.seconds, 0.99)}
    return body


async def post_summaries(hub: Hub, counts: Counts, version: Callable[[], str], every: float) -> None:
    """Post one summary to the hub every so many seconds, for ever; none where nothing was asked.

    `version` tells which model answers now.
    """
    before, since = counts.copy(), datetime.now(UTC)
    while True:
        await asyncio.sleep(every)
        until, model = datetime.now(UTC), version()
        body = summary(before, counts, since, until, model)
        asked = body["answered"] + body["refused"] > 0
        counts.seconds.clear()
        before, since = counts.copy(), until
        if asked:
            try:
                await hub.post(OUTPUT, json.dumps(body).encode(), {"model": model})
            except (SpoolFull, TooLarge) as error:
                log.warning("a summary is lost: %s", error)


def status(
    counts: Counts, model: Mapping[str, Any], spool: tuple[int, int], policy: Mapping[str, Any]
) -> dict[str, Any]:
    """The answer to the direct method `status`; `spool` is the bytes and the images waiting."""
    waiting = {"bytes": spool[0], "images": spool[1]}
    return {"model": dict(model)} | counts.to_json() | {"spool": waiting, "policy": dict(policy)}


def _percentile(seconds: deque[float], share: float) -> float:
    ordered = sorted(seconds)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000, 1)
