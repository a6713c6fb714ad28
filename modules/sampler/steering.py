"""What the cloud may steer through the module twin: how much is kept, whether and how it is uploaded, how long kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ripeloop.hub import Hub

log = logging.getLogger(__name__)

MAX_REASON = 200  # characters; reported properties are small
MOST_MINUTES = 10 * 365 * 24 * 60.0  # ten years: what is longer is a slip, and soon no date any more


@dataclass(frozen=True, slots=True)
class Steering:
    """`max_per_hour` 0 is no limit; an uploaded image's local blob stays for `uploaded_minutes`."""

    max_per_hour: int = 0
    upload_on: bool = True
    concurrency: int = 4
    uploaded_minutes: float = 60.0

    def to_reported(self) -> dict[str, dict[str, Any]]:
        """These settings in the twin's words."""
        reported: dict[str, dict[str, Any]] = {}
        for section, wire, name, _ in _FIELDS:
            reported.setdefault(section, {})[wire] = getattr(self, name)
        return reported


def steer(
    desired: Mapping[str, Any], before: Steering, default: Steering
) -> tuple[Steering, dict[str, dict[str, str | None]]]:
    """What `desired` asks for, and for every setting why it is refused, or None.

    A setting that is absent has its default; one that is refused keeps its value from `before`; fields nobody knows
    are ignored. The reasons name every setting, so that a report clears those that are in order again.
    """
    values: dict[str, Any] = {}
    refused: dict[str, dict[str, str | None]] = {}
    for section, wire, name, reason_to_refuse in _FIELDS:
        found = desired.get(section)
        reason: str | None = None
        if found is None:
            found = {}
        if not isinstance(found, Mapping):
            reason = f"{section} must be an object, not {found!r}"
        elif wire not in found:
            values[name] = getattr(default, name)
        elif (reason := reason_to_refuse(found[wire])) is None:
            values[name] = found[wire]
        refused.setdefault(section, {})[wire] = reason and reason[:MAX_REASON]
    return replace(before, **values), refused


class Wheel:
    """The steering in force now. What the twin leaves out is as it was set at the start."""

    def __init__(self, start: Steering) -> None:
        self._start = start
        self._now = start

    def now(self) -> Steering:
        """The steering in force."""
        return self._now

    async def follow(self, hub: Hub, changed: Callable[[], None]) -> None:
        """Do what the twin asks for, and report what is so and what was refused; for ever."""
        async for desired in hub.desired():
            steering, refused = steer(desired, self._now, self._start)
            if steering != self._now:
                log.info("steered by the twin: %s", steering)
            self._now = steering
            changed()
            await hub.report({**steering.to_reported(), "refused": refused})


def _whole(least: int, most: int) -> Callable[[object], str | None]:
    def reason_to_refuse(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            return f"must be a whole number from {least} to {most}, not {value!r}"
        return None

    return reason_to_refuse


def _minutes(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_MINUTES:  # nor is nan
        return f"must be a number of minutes from 0 to {MOST_MINUTES:.0f}, not {value!r}"
    return None


def _switch(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, not {value!r}"


# section and name in the twin, name here, what is wrong with a value
_FIELDS: tuple[tuple[str, str, str, Callable[[object], str | None]], ...] = (
    ("keep", "maxPerHour", "max_per_hour", _whole(0, 1_000_000)),
    ("upload", "on", "upload_on", _switch),
    ("upload", "concurrency", "concurrency", _whole(1, 64)),
    ("retention", "uploadedMinutes", "uploaded_minutes", _minutes),
)
