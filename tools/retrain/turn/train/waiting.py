"""How often to ask whether something is done, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from ripeloop.errors import Unfinished

GROWTH = 1.5


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds before the service is asked again, at first and at most, and seconds for all of the waiting.

    A free service takes few calls, and its trainings last minutes: soon it is asked a few times a minute.
    """

    first: float = 1.0
    longest: float = 15.0
    seconds: float = 6 * 3600.0

    def pauses(self) -> Iterator[float]:
        """The pauses, without an end."""
        pause = self.first
        while True:
            yield pause
            pause = min(self.longest, pause * GROWTH)


@asynccontextmanager
async def at_most(pace: Pace, doing: str) -> AsyncIterator[None]:
    """Raises Unfinished where the block lasts longer than the pace says."""
    try:
        async with asyncio.timeout(pace.seconds):
            yield
    except TimeoutError as error:
        raise Unfinished(
            f"{doing} is not done after {pace.seconds:g} s; the service goes on with it: do the same again to wait on"
        ) from error
