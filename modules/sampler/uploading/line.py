"""What is due, handed out one by one to several workers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from datetime import UTC, datetime

from sampler.index.outbox import Outbox, Waiting

PAGE = 100


class Line:
    """Each waiting sample comes once, in the order of the outbox; `first` before all, what `last` names at the end."""

    def __init__(
        self,
        outbox: Outbox,
        last: Collection[str],
        kept_before: datetime | None = None,
        first: Waiting | None = None,
    ) -> None:
        self._outbox = outbox
        self._last = set(last)
        self._first = first
        self._kept_before = kept_before
        self._waiting: deque[Waiting] = deque([first] if first else [])
        self._behind: deque[Waiting] = deque()
        self._after: Waiting | None = None
        self._reading = asyncio.Lock()

    async def next(self) -> Waiting | None:
        """The next one; None at the end."""
        async with self._reading:
            while not self._waiting and (page := await asyncio.to_thread(self._read)):
                self._after = page[-1]
                for waiting in page:
                    if self._first is None or waiting.sample.id != self._first.sample.id:
                        (self._behind if waiting.sample.id in self._last else self._waiting).append(waiting)
            if not self._waiting:
                self._waiting, self._behind = self._behind, deque()
            return self._waiting.popleft() if self._waiting else None

    def _read(self) -> list[Waiting]:
        return self._outbox.due(datetime.now(UTC), PAGE, self._after, self._kept_before)
