"""What the cloud may steer through the module twin: what is kept, when and how fast it is uploaded, how long it stays.

One table says it all: each row is a field of the twin, a flag of the program and an environment variable.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ripeloop.hub import Hub
from sampler.keeping.keep import Rules
from sampler.uploading.window import reason_to_refuse_window

log = logging.getLogger(__name__)

MAX_REASON = 200  # characters; reported properties are small
MOST_MINUTES = 10 * 365 * 24 * 60.0  # ten years: what is longer is a slip, and soon no date any more
MOST_BYTES = 2**50

Check = Callable[[object], str | None]


@dataclass(frozen=True, slots=True)
class Steering:
    """What is steered, with its defaults; 0 and the empty window are no limit. Times are local times of the device."""

    max_per_minute: int = 0
    max_per_hour: int = 0
    max_per_day: int = 0
    max_per_tag: int = 0
    max_per_reason: int = 0
    near_distance: int = 10
    near_minutes: float = 10.0
    hold_minutes: float = 10.0
    upload_on: bool = True
    concurrency: int = 4
    bytes_per_second: int = 0
    bytes_per_day: int = 0
    window: str = ""
    uploaded_minutes: float = 60.0
    max_bytes: int = 0
    free_bytes: int = 200_000_000

    @property
    def rules(self) -> Rules:
        """What of this says which images are kept."""
        return Rules(**{field.name: getattr(self, field.name) for field in fields(Rules)})

    def to_reported(self) -> dict[str, dict[str, Any]]:
        """These settings in the twin's words."""
        reported: dict[str, dict[str, Any]] = {}
        for knob in KNOBS:
            reported.setdefault(knob.section, {})[knob.wire] = getattr(self, knob.name)
        return reported


@dataclass(frozen=True, slots=True)
class Knob:
    """One thing to steer: `wire` in the twin's `section`, `name` in Steering, a flag; `check` refuses with a reason."""

    section: str
    wire: str
    name: str
    flag: str
    check: Check
    help: str


def steer(
    desired: Mapping[str, Any], before: Steering, default: Steering
) -> tuple[Steering, dict[str, dict[str, str | None]]]:
    """What `desired` asks for, and for every setting why it is refused, or None.

    A setting that is absent has its default; one that is refused keeps its value from `before`; fields nobody knows
    are ignored. The reasons name every setting, so that a report clears those that are in order again.
    """
    values: dict[str, Any] = {}
    refused: dict[str, dict[str, str | None]] = {}
    for knob in KNOBS:
        found = desired.get(knob.section)
        reason: str | None = None
        if found is None:
            found = {}
        if not isinstance(found, Mapping):
            reason = f"{knob.section} must be an object, not {found!r}"
        elif knob.wire not in found:
            values[knob.name] = getattr(default, knob.name)
        elif (reason := knob.check(found[knob.wire])) is None:
            values[knob.name] = found[knob.wire]
        refused.setdefault(knob.section, {})[knob.wire] = reason and reason[:MAX_REASON]
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


def whole(least: int, most: int) -> Check:
    """A check for a whole number in that range."""

    def reason_to_refuse(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            return f"must be a whole number from {least} to {most}, not {value!r}"
        return None

    return reason_to_refuse


def number(least: float, most: float, unit: str) -> Check:
    """A check for a number of `unit` in that range."""

    def reason_to_refuse(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:  # nor is nan
            return f"must be a number of {unit} from {least:g} to {most:.0f}, not {value!r}"
        return None

    return reason_to_refuse


def switch(value: object) -> str | None:
    """A check for true or false."""
    return None if isinstance(value, bool) else f"must be true or false, not {value!r}"


KNOBS: tuple[Knob, ...] = (
    # what is kept
    *(
        Knob("keep", name, name, f"--{name.replace('_', '-')}", whole(0, 1_000_000), f"{what}; 0: no limit.")
        for name, what in (
            ("max_per_minute", "Images kept in a minute at most"),
            ("max_per_hour", "Images kept in an hour at most"),
            ("max_per_day", "Images kept in a day at most"),
            ("max_per_tag", "Images kept of each tag in a day at most"),
            ("max_per_reason", "Images kept for each reason in a day at most"),
        )
    ),
    Knob(
        "keep", "near_distance", "near_distance", "--near-distance", whole(0, 128),
        "Bits of 256 in which the looks of near-duplicates differ at most; 0: none are looked for.",
    ),
    Knob(
        "keep", "near_minutes", "near_minutes", "--near-minutes", number(0, 24 * 60, "minutes"),
        "Minutes within which near-duplicates are looked for.",
    ),
    Knob(
        "keep", "hold_minutes", "hold_minutes", "--hold-minutes", number(0, 24 * 60, "minutes"),
        "While there is a budget, minutes an image waits before its upload, for a better one may take its place.",
    ),
    # how it is uploaded
    Knob("upload", "on", "upload_on", "--upload-on", switch, "Upload at all."),
    Knob(
        "upload", "concurrency", "concurrency", "--upload-concurrency", whole(1, 64), "Images uploaded at once."
    ),
    Knob(
        "upload", "bytes_per_second", "bytes_per_second", "--upload-bytes-per-second",
        whole(0, MOST_BYTES), "Bytes uploaded in a second, on average; 0: no limit.",
    ),
    Knob(
        "upload", "bytes_per_day", "bytes_per_day", "--upload-bytes-per-day",
        whole(0, MOST_BYTES), "Bytes uploaded in a day of local time at most; 0: no limit.",
    ),
    Knob(
        "upload", "window", "window", "--upload-window",
        reason_to_refuse_window, "When to upload, in local time, as in 02:00-05:00; empty: always.",
    ),
    # how long it stays
    Knob(
        "retention", "uploaded_minutes", "uploaded_minutes", "--uploaded-minutes",
        number(0, MOST_MINUTES, "minutes"), "Minutes an uploaded image stays in the local store.",
    ),
    Knob(
        "retention", "max_bytes", "max_bytes", "--max-bytes", whole(0, MOST_BYTES),
        "Bytes of the local store and the spool together at most; 0: no limit.",
    ),
    Knob(
        "retention", "free_bytes", "free_bytes", "--free-bytes", whole(0, MOST_BYTES),
        "Bytes that stay free on the spool's disk; where they do not, the least useful images go.",
    ),
)  # fmt: skip
