"""The folder of models: the active package, the one before it, and what this device remembers of its rollouts.

A package is kept as the zip it came in, named by its SHA-256, its signature beside it: it is never unpacked, so that
each start can tell whether the disk still holds what was verified.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from classifier.rollout.memory import Memory
from classifier.rollout.wanted import Wanted
from ripeloop.disk import sync, write_whole
from ripeloop.package import SHA256

log = logging.getLogger(__name__)

STATE = "rollout.json"
OURS = (".zip", ".sig", ".part", ".etag", ".tmp")  # after a SHA-256


class Shelf:
    """One folder, made when something is first put there. Blocks on the disk; one thread at a time may write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def package(self, sha256: str) -> Path:
        """Where the package of that SHA-256 stands, once it was verified."""
        return self.folder / f"{sha256}.zip"

    def partial(self, sha256: str) -> Path:
        """Where it grows until then."""
        return self.folder / f"{sha256}.part"

    def signature(self, sha256: str) -> str:
        """The signature that came with the package, in base64; empty where none did. Raises OSError."""
        try:
            return self._signature(sha256).read_text("ascii", "replace").strip()
        except FileNotFoundError:
            return ""

    def sign(self, sha256: str, signature: str) -> None:
        """Keep the signature of a package beside it, on disk when this returns. Raises OSError."""
        if signature != self.signature(sha256):
            write_whole(self._signature(sha256), signature.encode())

    def read(self) -> Memory:
        """What was written last; a blank memory where nothing was, or where the disk has damaged it. Raises OSError."""
        try:
            return Memory.from_json((self.folder / STATE).read_bytes())
        except FileNotFoundError:
            return Memory()
        except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            log.error("%s is damaged (%s): starting with the model of --model", self.folder / STATE, error)
            return Memory()

    def write(self, memory: Memory) -> None:
        """Remember, on disk when this returns. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.folder / STATE, memory.to_json())

    def put(self, partial: Path, sha256: str) -> Path:
        """Make a verified partial file the package. Raises OSError."""
        sync(partial)
        package = partial.replace(self.package(sha256))
        sync(self.folder)
        return package

    def tidy(self, memory: Memory, wanted: Wanted | None = None) -> None:
        """Remove every package and partial file that is neither kept nor wanted; files that are not ours stay."""
        needed = {kept.sha256 for kept in (memory.active, memory.previous) if kept}
        needed |= {wanted.sha256} if wanted else set()
        for path in self.folder.glob("*"):
            ours = SHA256.fullmatch(path.name.partition(".")[0]) and path.suffix in OURS
            leftover = path.name.startswith(f"{STATE}.") and path.suffix == ".tmp"
            if leftover or (ours and path.name.partition(".")[0] not in needed):
                path.unlink(missing_ok=True)

    def _signature(self, sha256: str) -> Path:
        return self.folder / f"{sha256}.sig"


class Remembering:
    """A memory and its file, changed one step after the other and off the event loop's thread."""

    def __init__(self, shelf: Shelf, memory: Memory) -> None:
        self.memory = memory
        self._shelf = shelf
        self._thread = ThreadPoolExecutor(1, "models")
        self._turn = asyncio.Lock()

    async def commit(self, change: Callable[[Memory], Memory]) -> None:
        """Change the memory, on disk first. Raises OSError."""
        async with self._turn:
            memory = change(self.memory)
            await self._on_disk(self._shelf.write, memory)
            self.memory = memory

    async def keep(self, change: Callable[[Memory], Memory]) -> None:
        """As `commit`, but what the disk does not take holds until the process ends."""
        try:
            await self.commit(change)
        except OSError as error:
            log.error("%s; this is forgotten at the next start", self.unusable(error))
            self.memory = change(self.memory)

    async def tidy(self, wanted: Wanted | None = None) -> None:
        """Remove what is neither kept nor wanted, where the disk lets us."""
        try:
            await self._on_disk(self._shelf.tidy, self.memory, wanted)
        except OSError as error:
            log.warning("%s", self.unusable(error))

    def unusable(self, error: OSError) -> str:
        """What to say of a disk that failed."""
        return f"the folder of --models, {self._shelf.folder}, cannot be used: {error.strerror or error}"

    def close(self) -> None:
        """Let the thread go."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _on_disk(self, call: Callable[..., None], *args: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)
