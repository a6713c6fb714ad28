"""How the rollout stands, as it is told: to the twin whenever it changes, to a method when it asks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any

from classifier.rollout.live import Live
from classifier.rollout.memory import MAX_REASON, Outcome
from classifier.rollout.shelf import Remembering
from ripeloop.hub import Hub

TOLD_WITHIN = 10.0  # seconds


def plain(reason: str) -> str:
    """A reason as it may be logged and reported: one line, not too long, of whole characters.

    What a package or a server says may be in it.
    """
    return "".join(character if character.isprintable() else " " for character in reason[:MAX_REASON])


class News:
    """What is told now. `report` brings it to the twin."""

    def __init__(self, live: Live, remembered: Remembering) -> None:
        self.outcome = remembered.memory.outcome
        self._live = live
        self._remembered = remembered
        self._changed = asyncio.Event()
        self._told = asyncio.Event()

    def tell(self, outcome: Outcome) -> None:
        """From now on this is how it stands."""
        now, outcome = self.outcome, replace(outcome, reason=plain(outcome.reason))
        same = (now.state, now.reason, now.wanted) == (outcome.state, outcome.reason, outcome.wanted)
        self.outcome = replace(outcome, since=now.since) if same else outcome
        self._told.clear()
        self._changed.set()

    async def told(self) -> None:
        """Return once the hub has what stands now; it is not waited for without end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TOLD_WITHIN):
                await self._told.wait()

    def status(self) -> dict[str, Any]:
        """What is reported: `version` and `sha256` of the model that answers, `state` and `reason` of `wanted`."""
        memory, outcome = self._remembered.memory, self.outcome
        return {
            "version": self._live.model.version,
            "sha256": memory.active.sha256 or None,
            "state": outcome.state,
            "reason": outcome.reason or None,
            "since": outcome.since or None,
            "wanted": outcome.wanted or None,
            "previous": memory.previous.version if memory.previous else None,
            "shadow": outcome.shadow and outcome.shadow.to_reported(),
        }

    async def report(self, hub: Hub) -> None:
        """Bring every change to the twin, for ever."""
        last: dict[str, Any] = {}
        while True:
            await self._changed.wait()
            self._changed.clear()
            news = self.status() | {"tags": len(self._live.model.tags)}
            if news != last:
                await hub.report({"model": news})
                last = news
            if not self._changed.is_set():
                self._told.set()
