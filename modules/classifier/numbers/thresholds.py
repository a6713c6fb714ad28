"""The policy in force: set at the start, calibrated by a model's package, steered live by the twin; the last wins."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from classifier.models.model import Model
from ripeloop import sampling
from ripeloop.errors import Refused
from ripeloop.hub import Hub
from ripeloop.sampling import AUDIT_RATE, THRESHOLDS, Sampling
from ripeloop.uncertainty import Policy

log = logging.getLogger(__name__)

SECTION = "sampling"
FIELDS = (*THRESHOLDS, AUDIT_RATE, "tags")
MAX_REASON = 500  # characters; reported properties are small
LOOK_SECONDS = 1.0  # between looks whether another model answers

Refusals = str | dict[str, str | None]
"""As reported: why the whole section was refused, or per field why, None where it is fine."""


class Thresholds:
    """The policy for each model's answers. Touched by the event loop's thread alone.

    What the twin says holds for every model; what it leaves out is as the model's package says, then as `start` does.
    `refused` is what of the twin's newest word is not obeyed.
    """

    def __init__(self, start: Policy) -> None:
        self._start = start
        self._steered = Sampling()
        self.refused: Refusals = dict.fromkeys(FIELDS)
        self._policies: WeakKeyDictionary[Model, Policy] = WeakKeyDictionary()

    def of(self, model: Model) -> Policy:
        """The policy in force for what `model` answers."""
        policy = self._policies.get(model)
        if policy is None:
            policy = self._policies[model] = self._steered.over(model.thresholds.over(self._start))
        return policy

    def apply(self, desired: Mapping[str, Any]) -> None:
        """Take `sampling` of a twin's desired section; where a value is refused, the one before is kept."""
        asked = desired.get(SECTION)
        try:
            steered, refused = Sampling.from_section({} if asked is None else asked, self._steered)
        except Refused as error:
            log.warning("refused from the twin: %s %s", SECTION, error)
            self.refused = str(error)[:MAX_REASON]
            return
        for field, reason in refused.items():
            log.warning("refused from the twin: %s.%s %s", SECTION, field, reason[:MAX_REASON])
        if steered != self._steered:
            log.info("%s: %s", SECTION, steered.to_section())
            self._steered = steered
            self._policies.clear()
        self.refused = {field: refused[field][:MAX_REASON] if field in refused else None for field in FIELDS}


async def follow(hub: Hub, thresholds: Thresholds, model: Callable[[], Model]) -> None:
    """Apply the desired `sampling` whenever it changes; report what is in force and what was refused; for ever.

    `model` tells which model answers now: with another one, another policy may be in force.
    """
    told = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_obey(hub, thresholds, told))
        tasks.create_task(_report(hub, thresholds, model, told))


async def _obey(hub: Hub, thresholds: Thresholds, told: asyncio.Event) -> None:
    async for desired in hub.desired():
        thresholds.apply(desired)
        told.set()


async def _report(hub: Hub, thresholds: Thresholds, model: Callable[[], Model], told: asyncio.Event) -> None:
    await told.wait()
    last: dict[str, Any] = {}
    while True:
        told.clear()
        now = {SECTION: sampling.reported(thresholds.of(model())), "refused": {SECTION: thresholds.refused}}
        if now != last:
            await hub.report(now)
            last = now
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await told.wait()
