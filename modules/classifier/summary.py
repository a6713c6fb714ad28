"""What the classifier did: counted here, asked for by the method `status`, told the cloud every minute."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

from ripeloop.errors import SpoolFull, TooLarge
from ripeloop.hub import Hub
from ripeloop.prediction import format_time

log = logging.getLogger(__name__)

OUTPUT = "summary"
LATENCIES = 10_000  # per summary; more would not move a percentile


@dataclass(slots=True)
class Counts:
    """The numbers of one module life. Touched by the event loop's thread alone.

    Once nothing is under way, the flagged images are as many as the stored and the dropped ones.
    """

    answered: int = 0
    refused: int = 0
    stored: int = 0
    flagged: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES))

    def copy(self) -> Self:
        """The numbers as they are now."""
        return type(self)(
            self.answered, self.refused, self.stored, self.flagged.copy(), self.dropped.copy(), self.seconds.copy()
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
    """What happened between two moments; `latency` in milliseconds, absent where nothing was answered."""
    period = Counts(
        answered=now.answered - before.answered,
        refused=now.refused - before.refused,
        flagged=now.flagged - before.flagged,
        dropped=now.dropped - before.dropped,
    )
    body = {"from": format_time(since), "to": format_time(until), "model": model} | period.to_json()
    if now.seconds:
        body["latency"] = {"p50": _percentile(now.seconds, 0.5), "p99": _percentile(now.seconds, 0.99)}
    return body


async def post_summaries(hub: Hub, counts: Counts, model: str, every: float) -> None:
    """Post one summary to the hub every so many seconds, for ever; none where nothing was asked."""
    before, since = counts.copy(), datetime.now(UTC)
    while True:
        await asyncio.sleep(every)
        until = datetime.now(UTC)
        body = summary(before, counts, since, until, model)
        asked = counts.answered + counts.refused > before.answered + before.refused
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
