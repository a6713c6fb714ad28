"""A little room of our own, for the day the disk is full: the index needs some to be told what may go."""

from __future__ import annotations

import os
from pathlib import Path

from ripeloop import disk

NAME = "ballast"
BALLAST_BYTES = 4 * 1024 * 1024  # what marking a page of rows may take at most, many times over


class Ballast:
    """Some room of our own, for a full disk: given back, the index can be told what is evicted."""

    def __init__(self, path: Path, size: int = BALLAST_BYTES) -> None:
        self._path = path
        self._size = size

    def fill(self) -> None:
        """Take the room, where the disk has it."""
        try:
            if not self._path.exists():
                disk.write_whole(self._path, os.urandom(self._size))  # zeros may take no room
        except OSError:
            self.release()

    def release(self) -> None:
        """Give the room back."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError:
            return  # a read-only disk: nothing can be given back
