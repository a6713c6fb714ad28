"""The hours in which uploads may go out. Pure: the local time comes in as an argument."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` up to `end`, local time, each day; an end before the start is on the next day."""

    start: time
    end: time

    def is_open(self, now: datetime) -> bool:
        """True where `now`, a local time, lies inside."""
        moment = now.time()
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end

    def opens_at(self, now: datetime) -> datetime:
        """When it opens next, by the clock on the wall; `now` where it is open."""
        if self.is_open(now):
            return now
        today = by_the_clock(now, self.start)
        return today if today > now else by_the_clock(now, self.start, days=1)


def by_the_clock(now: datetime, at: time, days: int = 0) -> datetime:
    """`at` on the wall, so many days after the local time `now`, also where summer time begins or ends between."""
    found = datetime.combine(now.date() + timedelta(days=days), at)
    if isinstance(now.tzinfo, timezone) and now.utcoffset() == now.astimezone().utcoffset():
        return found.astimezone()  # the system's zone: `now` holds just its offset of this moment
    return found.replace(tzinfo=now.tzinfo)


def window(text: str) -> Window | None:
    """The window `02:00-05:00`; None for the empty text, which is always. Raises ValueError for any other."""
    if not text:
        return None
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(text)
    start, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    if start == end:
        raise ValueError(text)
    return Window(start, end)


def reason_to_refuse_window(value: object) -> str | None:
    """Why `value` is no window, or None."""
    if isinstance(value, str):
        try:
            window(value)
        except ValueError:
            pass
        else:
            return None
    return f"must be empty or two different local times such as 02:00-05:00, not {value!r}"
