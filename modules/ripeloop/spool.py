"""The bounded folder a flagged image waits in, shared by the two modules: the classifier puts, the sampler takes.

One file an image, `{image id}.sample`: the record as one line of JSON, then the image's own bytes. One file means one
rename, so there is never an image without its record. The spool is the truth; messages only wake the reader.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ripeloop import disk
from ripeloop.errors import BadRecord, NotFound, SpoolFull
from ripeloop.prediction import Flagged, image_id

log = logging.getLogger(__name__)

SUFFIX = ".sample"
RECOUNT_SECONDS = 5.0
STALE_SECONDS = 3600.0
MAX_RECORD_BYTES = 512 * 1024  # hundreds of tags; a record becomes many times as much memory
MAX_FILE_BYTES = 64 * 1024 * 1024  # no image that a model looks at comes near

_NAME = re.compile(r"[0-9a-f]{64}\.sample")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the spool may hold at most."""

    bytes: int = 512 * 1024 * 1024
    images: int = 10_000


ASIDE = Limits(bytes=64 * 1024 * 1024, images=100)


class Spool:
    """The spool in `folder`, which is made if missing. Safe to use from threads and from two processes at once.

    Whatever else lies in the folder is left alone and counts for nothing.
    """

    def __init__(self, folder: Path, limits: Limits = Limits(), aside: Limits = ASIDE) -> None:
        self.folder = folder
        self.limits = limits
        self.aside = folder / "aside"
        self._aside_limits = aside
        self._removed = 0
        self.aside.mkdir(parents=True, exist_ok=True)
        self._clear_unfinished()
        self._counted_at = float("-inf")
        self._bytes = self._images = 0

    def put(self, flagged: Flagged, image: bytes) -> bool:
        """Store the image with its record; False where the same image already waits. Raises SpoolFull, OSError.

        On return the file stands under its name and outlives the process; `sync` makes it outlive a power cut.
        """
        path = self._path(flagged.id)
        if path.exists():
            return False
        data = flagged.to_json() + b"\n" + image
        self._make_room(len(data))
        unfinished = self.folder / f"{flagged.id}.{os.getpid()}.{time.monotonic_ns()}.tmp"
        try:
            unfinished.write_bytes(data)
            os.link(unfinished, path)  # unlike a rename it fails where another was first
        except FileExistsError:
            return False
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()
        self._bytes += len(data)
        self._images += 1
        return True

    def sync(self, *ids: str) -> None:
        """Make stored images outlive a power cut. Those that were taken meanwhile are fine."""
        for id_ in ids:
            with suppress(FileNotFoundError):
                disk.sync(self._path(id_))
        disk.sync(self.folder)

    def ids(self) -> list[str]:
        """The ids of the images that wait, the longest waiting first."""
        waiting = [(stat.st_mtime_ns, entry.name) for entry in self._entries() if (stat := _stat(entry))]
        return [name.removesuffix(SUFFIX) for _, name in sorted(waiting)]

    def strangers(self) -> set[str]:
        """The names that end as an image's do, and are none: no id, or no file."""
        with os.scandir(self.folder) as entries:
            return {entry.name for entry in entries if entry.name.endswith(SUFFIX) and not _is_image(entry)}

    def take(self, id_: str) -> tuple[Flagged, bytes]:
        """The record and the image of `id_`; they stay until `remove`. Raises NotFound, BadRecord."""
        try:
            with self._path(id_).open("rb") as file:
                if (size := os.fstat(file.fileno()).st_size) > MAX_FILE_BYTES:
                    raise BadRecord(f"the spool file of {id_} has {size} bytes, and {MAX_FILE_BYTES} are the most")
                line = file.readline(MAX_RECORD_BYTES)
                image = file.read(MAX_FILE_BYTES)
        except FileNotFoundError:
            raise NotFound(f"the spool holds no image {id_}") from None
        if not line.endswith(b"\n") or image_id(image) != id_:
            raise BadRecord(f"the spool file of {id_} is damaged")
        flagged = Flagged.from_json(line)
        if flagged.id != id_:
            raise BadRecord(f"the spool file of {id_} holds the record of {flagged.id}")
        return flagged, image

    def record(self, id_: str) -> Flagged:
        """The record of `id_` alone; the image is not looked at. Raises NotFound, BadRecord."""
        try:
            with self._path(id_).open("rb") as file:
                return Flagged.from_json(file.readline(MAX_RECORD_BYTES))
        except FileNotFoundError:
            raise NotFound(f"the spool holds no image {id_}") from None

    def remove(self, id_: str) -> None:
        """Free the image; again changes nothing."""
        self._path(id_).unlink(missing_ok=True)

    def set_aside(self, id_: str) -> Path:
        """Move a file that cannot be read to `aside/`, out of everybody's way but not lost; its new place.

        There the oldest make room for it.
        """
        kept = self.aside / self._path(id_).name
        with suppress(FileNotFoundError):
            self._path(id_).replace(kept)
        self._trim(kept)
        return kept

    def usage(self) -> tuple[int, int]:
        """The bytes and the images that wait now."""
        sizes = [stat.st_size for entry in self._entries() if (stat := _stat(entry))]
        return sum(sizes), len(sizes)

    def _trim(self, newest: Path) -> None:
        files = {Path(entry): stat for entry in os.scandir(self.aside) if entry.is_file() and (stat := _stat(entry))}
        images, size = len(files), sum(stat.st_size for stat in files.values())
        for path in sorted(files.keys() - {newest}, key=lambda path: files[path].st_ctime_ns):  # when it came here
            if images <= self._aside_limits.images and size <= self._aside_limits.bytes:
                break
            path.unlink(missing_ok=True)
            images, size = images - 1, size - files[path].st_size
            self._removed += 1
            log.warning("%s is full, its oldest file is removed, the %d. since the start", self.aside, self._removed)

    def _make_room(self, size: int) -> None:
        if not self._fits(size) or time.monotonic() - self._counted_at > RECOUNT_SECONDS:
            self._bytes, self._images = self.usage()
            self._counted_at = time.monotonic()
        if not self._fits(size):
            raise SpoolFull(f"the spool holds {self._images} images, {self._bytes} bytes; is the sampler running?")

    def _fits(self, size: int) -> bool:
        return self._bytes + size <= self.limits.bytes and self._images < self.limits.images

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        with os.scandir(self.folder) as entries:
            yield from (entry for entry in entries if _is_image(entry))

    def _path(self, id_: str) -> Path:
        return self.folder / f"{id_}{SUFFIX}"

    def _clear_unfinished(self) -> None:
        """Remove what a killed writer left half written; a file still being written is younger than that."""
        for path in self.folder.glob("*.tmp"):
            with suppress(FileNotFoundError):
                if path.is_file() and time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()


def _is_image(entry: os.DirEntry[str]) -> bool:
    return _NAME.fullmatch(entry.name) is not None and entry.is_file(follow_symlinks=False)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except FileNotFoundError:  # taken between the listing and the look
        return None
