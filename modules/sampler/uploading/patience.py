"""How long to wait before the next try. Pure: chance and the clock come in as arguments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sampler.index.outbox import LONGEST_WAIT


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds between tries: doubling from `first` to `longest`, plus up to `jitter`; `tries` for one refused item.

    Without work the index is looked at every `idle` seconds.
    """

    first: float = 1.0
    longest: float = LONGEST_WAIT.total_seconds()
    jitter: float = 1.0
    tries: int = 5
    idle: float = 5.0

    def pause(self, failures: int, chance: float) -> float:
        """Seconds to wait after so many failures in a row; `chance` is from 0 to 1."""
        return min(self.longest, self.first * 2.0 ** min(failures - 1, 60)) + self.jitter * chance

    def next_try(self, tries: int, now: datetime) -> datetime | None:
        """When an item that was refused `tries` times is tried again; None: never."""
        if tries >= self.tries:
            return None
        return now + timedelta(seconds=min(self.longest, self.first * 10 * 2**tries))
