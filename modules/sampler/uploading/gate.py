"""May uploads go out now, and if not, why and until when? Pure: clock, settings and counts come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time

from sampler.telling.steering import Steering
from sampler.uploading.window import by_the_clock, window

LATEST = 14  # days: one image over a week's bytes is no reason to send no other of its kind for ever


@dataclass(frozen=True, slots=True)
class Closed:
    """Why nothing goes out: `kind` for programs, `words` for people, `until` where the clock will open it."""

    kind: str
    words: str
    until: datetime | None = None


def reason_to_wait(
    steering: Steering, *, cloud: bool, paused: str | None, flushing: bool, local: datetime, spent: int
) -> Closed | None:
    """Why no upload may begin at the local time `local`; None where one may.

    `paused` is the reason that was given, None where nobody paused; `flushing` overrules the window alone; `spent` are
    the bytes sent since the local midnight.
    """
    if not cloud:
        return Closed("no_cloud", "no cloud is set: set SAMPLER_CLOUD_BLOBS, or send a credential")
    if paused is not None:
        return Closed("paused", f"uploads are paused ({paused or 'no reason given'}): `resume` lets them go on")
    if not steering.upload_on:
        return Closed("off", "uploads are switched off: the twin's upload.on, or --upload-on")
    hours = window(steering.window)
    if hours is not None and not flushing and not hours.is_open(local):
        opens = hours.opens_at(local)
        return Closed("window", f"uploads go out in {steering.window} local time, next at {opens:%H:%M}", opens)
    if steering.bytes_per_day and spent >= steering.bytes_per_day:
        return budget_is_spent(steering, local)
    return None


def budget_is_spent(steering: Steering, local: datetime) -> Closed:
    """Nothing more goes out on the local day of `local`."""
    return Closed("budget", f"today's {steering.bytes_per_day} bytes (upload.bytes_per_day) are sent", _midnight(local))


def is_too_large(steering: Steering, local: datetime) -> Closed:
    """What waits is over a whole day's bytes, and this day is not for such an image."""
    return Closed(
        "budget",
        f"images over a day's {steering.bytes_per_day} bytes (upload.bytes_per_day) wait for a day that owes nothing",
        _midnight(local),
    )


def _midnight(local: datetime) -> datetime:
    return by_the_clock(local, time.min, days=1)


def fits(size: int, *, spent: int, in_flight: int, bytes_per_day: int) -> bool:
    """May `size` more bytes go out on this day? What is over a whole day's bytes goes first, or on no day."""
    if not bytes_per_day or spent + in_flight == 0:
        return True
    return spent + in_flight + size <= bytes_per_day


def share(size: int, bytes_per_day: int) -> int:
    """How many of `size` bytes count for the day they go out on; the rest is `carried` over to the next ones.

    All of them, but of what is over a whole day's bytes half a day's: the other half is for images that fit.
    """
    return size if not bytes_per_day or size <= bytes_per_day else -(-bytes_per_day // 2)


def carried(size: int, bytes_per_day: int) -> list[int]:
    """The bytes that count for each of the days to come: half a day's, until all are paid or it is `LATEST` days.

    Until then no other image that is over a day's bytes goes, and the days together keep to their bytes.
    """
    half = share(size, bytes_per_day)
    rest = size - half
    days = min(-(-rest // half), LATEST) if half else 0
    return [min(half, rest - day * half) for day in range(days)]
