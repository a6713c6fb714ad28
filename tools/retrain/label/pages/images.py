"""The images as a browser gets them: always encoded anew, so that nothing of a hostile file reaches it."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from classifier.pixels.decoding import Size, decode
from classifier.pixels.room import Room
from retrain.label.container import samples
from retrain.label.container.cache import Cache, Found
from ripeloop.blobs import Blobs
from ripeloop.errors import BadImage, NotFound

log = logging.getLogger(__name__)

WIDTHS = (160, 320, 640, 1024, 2048)
QUALITY = 88
MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 100_000_000  # a camera's largest; decoded one at a time where it takes that much
WORKERS = 2
FETCHES = 8
PRUNE_EVERY = 500  # new files
GREY, DARK = (112, 112, 112), (64, 64, 64)


@dataclass(frozen=True, slots=True)
class Made:
    """An image as it is sent; `broken`: the file was none, and this is what stands in its place."""

    jpeg: bytes
    broken: bool = False


class Images:
    """JPEGs of the samples in a few widths, kept in `folder` up to `most` bytes: the least recently made go first."""

    def __init__(self, blobs: Blobs, cache: Cache, folder: Path, most: int) -> None:
        self._blobs, self._cache, self._folder, self._most = blobs, cache, folder, most
        self._workers = ThreadPoolExecutor(WORKERS, "images")
        self._room = Room(MAX_PIXELS)
        self._fetching = asyncio.Semaphore(FETCHES)
        self._being_made = dict[Path, asyncio.Task[Made]]()
        self._made = 0

    async def jpeg(self, row: Found, width: int) -> Made:
        """The image, at most `width` wide (one of WIDTHS); a placeholder where it is none. Raises NotFound, Offline."""
        path = self._folder / str(width) / row["key"][:2] / f"{row['key']}.jpg"
        kept = await asyncio.to_thread(_read, path)
        if kept is not None:
            return Made(kept)
        task = self._being_made.get(path)
        if task is None:
            task = self._being_made[path] = asyncio.create_task(self._make(row, width, path))
            task.add_done_callback(lambda _: self._being_made.pop(path))
        return await asyncio.shield(task)

    async def forget(self, key: str) -> None:
        """Remove what is kept of one image."""
        for width in WIDTHS:
            path = self._folder / str(width) / key[:2] / f"{key}.jpg"
            await asyncio.to_thread(path.unlink, missing_ok=True)

    async def close(self) -> None:
        """Wait for what is being made, and end."""
        await asyncio.gather(*self._being_made.values(), return_exceptions=True)
        self._workers.shutdown()

    async def _make(self, row: Found, width: int, path: Path) -> Made:
        loop = asyncio.get_running_loop()
        try:
            async with self._fetching:
                _check_size(row["size"])
                posted = await self._blobs.get(row["blob"])
                made = await loop.run_in_executor(self._workers, encoded, posted, width, self._room)
        except BadImage as error:
            log.info("the image %s cannot be shown: %s", row["id"], error)
            await self._cache.change(samples.mark_broken, row["key"])
            return Made(await loop.run_in_executor(self._workers, placeholder, width), broken=True)
        except NotFound:
            await self._cache.change(samples.forget, row["key"])
            raise
        await asyncio.to_thread(_write, path, made)
        await self._count()
        return Made(made)

    async def _count(self) -> None:
        self._made += 1
        if self._made % PRUNE_EVERY == 1:
            await asyncio.to_thread(prune, self._folder, self._most)


def width_of(text: str) -> int:
    """The smallest of WIDTHS that is at least what is asked for."""
    wanted = int(text) if text.isdecimal() and len(text) <= 5 else WIDTHS[2]
    return next((width for width in WIDTHS if width >= wanted), WIDTHS[-1])


def encoded(image: bytes, width: int, room: Room) -> bytes:
    """The image upright, in its colours alone, at most `width` a side. Raises BadImage."""

    def enough(size: Size) -> Size:
        scale = min(1.0, width / max(size))
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))

    decoded = decode(image, room, enough)
    decoded.thumbnail((width, width), Image.Resampling.LANCZOS)
    return _as_jpeg(decoded)


def placeholder(width: int) -> bytes:
    """What stands where an image cannot be shown."""
    side = min(width, 640)
    image = Image.new("RGB", (side, side), GREY)
    draw = ImageDraw.Draw(image)
    edge, line = side // 4, max(2, side // 60)
    draw.line((edge, edge, side - edge, side - edge), DARK, line)
    draw.line((edge, side - edge, side - edge, edge), DARK, line)
    return _as_jpeg(image)


def prune(folder: Path, most: int) -> int:
    """Remove the oldest files until what is left has at most nine tenths of `most` bytes, if it has more; how many."""
    found = [(stat.st_mtime, stat.st_size, path) for path in folder.rglob("*.jpg") if (stat := _stat(path))]
    together, removed = sum(size for _, size, _ in found), 0
    if together <= most:
        return 0
    for _, size, path in sorted(found):
        path.unlink(missing_ok=True)
        together, removed = together - size, removed + 1
        if together <= most * 9 // 10:
            break
    return removed


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise BadImage(f"the file has over {MAX_BYTES} bytes")


def _as_jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.info.clear()  # neither notes nor profiles
    image.save(file, "JPEG", quality=QUALITY, optimize=False)
    return file.getvalue()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write(path: Path, data: bytes) -> None:
    """Keep a file, whole or not at all; where the disk does not take it, it is made again the next time."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        log.debug("the image is not kept here: %s", error)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
