"""Is the model at work worse where it went first? The devices' own counters, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from classifier.rollout.watch import Figures
from retrain.devices.fleet import Fleet, Twin
from ripeloop.errors import NotFound, Offline, Refused

MOST_ASKED = 20  # devices; a few tell enough, and each is a call
AT_ONCE = 5
SECONDS = 10

Counted = Mapping[str, Mapping[str, Any]]
"""By device since the start of its process: images answered, those its model failed on, those flagged, by which policy.

What a device refused for another reason is not the model's doing: a broken image, a wrong key.
"""


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


def compared(before: Counted, since: Counted, now: Counted) -> tuple[Figures, Figures]:
    """The figures of what answered `before`, and of what answered between `since` and `now`.

    Of devices that told all three alone, and of what they flag only where one policy flagged it.
    """
    old, new = Figures(), Figures()
    for device in sorted(before.keys() & since.keys() & now.keys()):
        fair = before[device]["policy"] == now[device]["policy"]
        old = _added(old, before[device], {}, fair=fair)
        new = _added(new, now[device], since[device], fair=fair)
    return old, new


def _added(figures: Figures, now: Mapping[str, Any], since: Mapping[str, Any], *, fair: bool) -> Figures:
    """`figures` and what one device counted; after a restart it counts from nothing."""
    names = ("answered", "failed", "flagged")
    again = any(now.get(name, 0) < since.get(name, 0) for name in names)
    answered, failed, flagged = (now.get(name, 0) - (0 if again else since.get(name, 0)) for name in names)
    return Figures(
        figures.answered + answered,
        figures.failed + failed,
        figures.judged + (answered if fair else 0),
        figures.flagged + (flagged if fair else 0),
    )


def _counters(status: Any) -> dict[str, Any] | None:
    """What the method `status` tells, or None where it is another module's."""
    try:
        return {
            "answered": int(status["answered"]),
            "failed": int(status.get("failed", 0)),  # older modules do not tell them apart
            "flagged": sum(int(count) for count in status["flagged"].values()),
            "policy": status.get("sampling"),
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
