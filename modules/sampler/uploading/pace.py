"""How fast bytes go out. Pure: the clock comes in as an argument."""

from __future__ import annotations

BURST_SECONDS = 1.0
SHORTEST = 0.001  # seconds: less is rounding


class Pace:
    """A bucket of bytes that fills at a rate and may be overdrawn: an image goes out whole, a pause then pays for it.

    So the average holds, not each moment. At most a second's worth is saved up.
    """

    def __init__(self) -> None:
        self._level = 0.0
        self._seen: float | None = None

    def wait(self, rate: int, now: float) -> float:
        """Seconds until the next byte may go out at `rate` bytes a second (0: any); `now` is a monotonic time."""
        if not rate:
            self._seen, self._level = None, 0.0
            return 0.0
        before = now if self._seen is None else self._seen
        self._level = min(rate * BURST_SECONDS, self._level + rate * max(0.0, now - before))
        self._seen = now
        seconds = -self._level / rate
        return seconds if seconds >= SHORTEST else 0.0

    def take(self, size: int) -> None:
        """`size` bytes go out."""
        self._level -= size
