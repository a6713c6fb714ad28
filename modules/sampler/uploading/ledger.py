"""What went out, told to the index in groups: one write to disk for all that arrived while the last one was written."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, time

from sampler.index.outbox import Outbox
from sampler.uploading.gate import carried, fits, share
from sampler.uploading.window import by_the_clock


def local_now() -> datetime:
    """The time on the wall here."""
    return datetime.now(UTC).astimezone()


def day_begin(local: datetime, days: int = 0) -> datetime:
    """The moment, in UTC, at which the day of the local time `local`, or so many days later, began here."""
    return by_the_clock(local, time.min, days).astimezone(UTC)


class Ledger:
    """Counts the bytes of the day and notes what arrived. What is not written yet is asked for again after a crash."""

    def __init__(self, outbox: Outbox, local: Callable[[], datetime] = local_now) -> None:
        self._outbox = outbox
        self._local = local
        self._arrived: list[tuple[str, datetime]] = []
        self._unwritten = 0
        self._later: Counter[datetime] = Counter()  # bytes that days to come pay for what went out before
        self._in_flight = 0
        self._large = 0, 0  # the image in flight that is over a day's bytes, and the day's bytes
        self._day: datetime | None = None
        self._written = 0
        self._noted = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self.sent_bytes = 0
        """Bytes that went out since the start, tries that failed included."""

    @property
    def spent(self) -> int:
        """Bytes that count for the day of the last `look`."""
        return self._written + self._unwritten

    def local(self) -> datetime:
        """The local time."""
        return self._local()

    async def look(self) -> None:
        """Learn what was sent on this day before the start. Raises Offline."""
        day = day_begin(self._local())
        if day != self._day:
            await self.write()
            self._written = await asyncio.to_thread(self._outbox.uplink_spent, day)
            self._day = day

    def reserve(self, size: int, bytes_per_day: int) -> bool:
        """Begin to send `size` bytes, if the day has them."""
        if not fits(size, spent=self.spent, in_flight=self._in_flight, bytes_per_day=bytes_per_day):
            return False
        self._in_flight += (here := share(size, bytes_per_day))
        if here < size:
            self._large = size, bytes_per_day
        return True

    def sent(self, size: int, *, on_the_line: bool = True) -> None:
        """That try is over; `on_the_line`: its bytes went out, whatever became of them."""
        bytes_per_day = 0
        if size == self._large[0]:
            _, bytes_per_day = self._large
            self._large = 0, 0
        here = share(size, bytes_per_day)
        self._in_flight -= here
        if on_the_line:
            self.sent_bytes += size
            self._unwritten += here
            for days, n in enumerate(carried(size, bytes_per_day) if here < size else (), 1):
                self._later[day_begin(self._local(), days)] += n

    def arrived(self, id_: str) -> None:
        """The cloud has it; `write` makes it so in the index."""
        self._arrived.append((id_, datetime.now(UTC)))
        self._noted.set()

    async def keep_writing(self) -> None:
        """Write whenever something is noted, for ever. Raises Offline."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            await self.write()

    async def write(self) -> None:
        """Write down all that was noted. Raises Offline, and keeps it for the next time.

        A write that has begun ends, even where who waits for it is cancelled: else its bytes would be counted twice.
        """
        while self._writing is not None or self._arrived or self._unwritten or self._later:
            writing = self._writing = self._writing or asyncio.create_task(self._write())
            try:
                await asyncio.shield(writing)
            finally:
                if writing.done():
                    self._writing = None

    async def _write(self) -> None:
        arrived, self._arrived = self._arrived, []
        size, self._unwritten = self._unwritten, 0
        later, self._later = self._later, Counter()
        day = self._day or day_begin(self._local())
        self._written += size
        try:
            if arrived:
                await asyncio.to_thread(self._outbox.uploaded_all, arrived)
                arrived = []
            if size or later:
                await asyncio.to_thread(self._outbox.spend_uplink, later + Counter({day: size}))
                size, later = 0, Counter()
        finally:
            self._arrived = arrived + self._arrived
            self._unwritten += size
            self._written -= size
            self._later += later
