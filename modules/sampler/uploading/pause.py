"""The pause a person ordered: a file, so that it outlives a restart."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ripeloop import disk
from ripeloop.errors import Offline

MAX_REASON = 200


class Pause:
    """Uploads wait while the file `path` is there; it holds the reason."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.reason: str | None = None
        """Why uploads are paused; None where they are not."""
        with suppress(OSError):
            self.reason = path.read_text(errors="replace")[:MAX_REASON]

    def begin(self, reason: str) -> None:
        """Pause, also after a restart. Raises Offline where that cannot be written down."""
        self.reason = reason[:MAX_REASON]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            disk.write_whole(self._path, self.reason.encode())
        except OSError as error:
            raise Offline(f"uploads are paused, but only until a restart: {error.strerror or error}") from error

    def end(self) -> None:
        """Go on. Raises Offline where that cannot be written down."""
        self.reason = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise Offline(f"uploads go on, but only until a restart: {error.strerror or error}") from error
