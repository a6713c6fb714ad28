"""The policy in force: set at the start, changed live by the twin."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ripeloop.hub import Hub
from ripeloop.uncertainty import Policy

log = logging.getLogger(__name__)

MAX_REASON = 200  # characters; reported properties are small


class Thresholds:
    """The policy in force now. What the twin leaves out is as it was set at the start."""

    def __init__(self, start: Policy) -> None:
        self._start = start
        self.policy = start

    def apply(self, desired: Mapping[str, Any]) -> dict[str, str]:
        """Take the policy of a twin's desired section; per refused field the reason, the old value being kept."""
        asked = desired.get("policy")
        if asked is None:
            asked = {}
        if isinstance(asked, Mapping):
            asked = self._start.to_reported() | dict(asked)
        policy, refused = Policy.from_desired(asked, self.policy)
        if policy != self.policy:
            log.info("policy: %s", policy)
        for field, reason in refused.items():
            log.warning("refused from the twin: %s %s", field, reason)
        self.policy = policy
        return refused


async def follow(hub: Hub, thresholds: Thresholds) -> None:
    """Apply the desired policy whenever it changes, and report what is in force and what was refused; for ever."""
    async for desired in hub.desired():
        refused = thresholds.apply(desired)
        await hub.report({"policy": thresholds.policy.to_reported(), "refused": reported(refused)})


def reported(refused: Mapping[str, str]) -> dict[str, Any]:
    """The refused fields as reported properties, whose names may hold no dot; null clears what is fine again."""
    if "policy" in refused:
        return {"policy": refused["policy"][:MAX_REASON]}
    reasons = {name: refused.get(f"policy.{name}") for name in Policy().to_reported()}
    return {"policy": {name: reason and reason[:MAX_REASON] for name, reason in reasons.items()}}
