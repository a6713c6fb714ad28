"""Is the model at work worse where it went first? The devices' own counters, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from classifier.rollout.watch import Figures, Rules, worse
from retrain.devices.fleet import Fleet, Twin
from ripeloop.errors import NotFound, Offline, Refused

MOST_ASKED = 20  # devices; a few tell enough, and each is a call
AT_ONCE = 5
SECONDS = 10

Counted = Mapping[str, Mapping[str, Any]]
"""By device: images answered, refused and flagged since the start of its process, and the policy that flagged them."""


async def ask(fleet: Fleet, twins: Iterable[Twin], module: str) -> dict[str, dict[str, Any]]:
    """The counters of devices that are connected, of so many at most; one that does not answer is left out."""
    asked = sorted(twin.device for twin in twins if twin.connected)[:MOST_ASKED]
    few = asyncio.Semaphore(AT_ONCE)

    async def one(device: str) -> dict[str, Any] | None:
        async with few:
            try:
                return _counters(await fleet.invoke(device, module, "status", seconds=SECONDS))
            except (Offline, Refused, NotFound):
                return None

    async with asyncio.TaskGroup() as tasks:
        answers = {device: tasks.create_task(one(device)) for device in asked}
    return {device: found for device, task in answers.items() if (found := task.result()) is not None}


def verdict(before: Counted, since: Counted, now: Counted, rules: Rules = Rules()) -> str:
    """Why what answered between `since` and `now` is worse than what did `before`; empty where nothing says so.

    Only devices that told all three are compared, and what they flag only where one policy flagged it.
    """
    old, new = Figures(), Figures()
    for device in sorted(before.keys() & since.keys() & now.keys()):
        fair = before[device]["policy"] == now[device]["policy"]
        old = _added(old, before[device], {}, fair=fair)
        new = _added(new, now[device], since[device], fair=fair)
    return worse(old, new, rules) or ""


def _added(figures: Figures, now: Mapping[str, Any], since: Mapping[str, Any], *, fair: bool) -> Figures:
    """`figures` and what one device counted; after a restart it counts from nothing."""
    again = now["answered"] < since.get("answered", 0) or now["refused"] < since.get("refused", 0)
    answered, refused, flagged = (
        now[name] - (0 if again else since.get(name, 0)) for name in ("answered", "refused", "flagged")
    )
    return Figures(
        figures.answered + answered,
        figures.failed + refused,
        figures.judged + (answered if fair else 0),
        figures.flagged + (flagged if fair else 0),
    )


def _counters(status: Any) -> dict[str, Any] | None:
    """What the method `status` tells, or None where it is another module's."""
    try:
        return {
            "answered": int(status["answered"]),
            "refused": int(status["refused"]),
            "flagged": sum(int(count) for count in status["flagged"].values()),
            "policy": status.get("sampling"),
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
