"""How much memory the images being decoded may take together, however many workers there are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PIXELS = 40_000_000
TOGETHER = 384 * 1024 * 1024  # eight photographs of 12 megapixels


class Room:
    """Lets images be decoded side by side while they fit into `size` bytes; one that is larger is decoded alone.

    Safe to use from many threads. `max_pixels` is the largest image taken at all.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS, size: int = TOGETHER) -> None:
        self.max_pixels = max_pixels
        self._size = size
        self._taken = 0
        self._turn = threading.Lock()  # who waits longest is next: small images must not overtake a big one for ever
        self._freed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """So many bytes of the room until the block ends; waits for them."""
        with self._turn, self._freed:
            self._freed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._freed:
                self._taken -= size
                self._freed.notify()
