"""Sums that take a while are made once for all who ask, and again when they are old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Sum = TypeVar("Sum")


REST = 20
"""A sum is made again after so many times as long as it took, so that sums alone never keep a server busy."""


class Fresh(Generic[Sum]):
    """What `make` answered, at most `seconds` ago, or longer where it took long; who asks meanwhile waits for it."""

    def __init__(
        self, make: Callable[[], Awaitable[Sum]], seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._make, self._seconds, self._clock = make, seconds, clock
        self._lock = asyncio.Lock()
        self._made: tuple[float, Sum] | None = None  # until when it is fresh, and what it is

    async def get(self) -> Sum:
        """The sum; raises what `make` raises, and makes it again the next time."""
        async with self._lock:
            began = self._clock()
            if self._made is None or began > self._made[0]:
                made = await self._make()
                ended = self._clock()
                self._made = ended + max(self._seconds, REST * (ended - began)), made
            return self._made[1]
