"""The rows that are fitted: in memory while they are few, else in a file, read block by block."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ripeloop.errors import SettingsError

# float32 in training, which is twice as fast and as small; with float64 the objective is exact enough to be checked
Block = npt.NDArray[np.floating[Any]]
Vector = npt.NDArray[np.float64]
Span = tuple[int, int]
"""Images from one place to before another."""

BLOCK = 512
"""Images that are worked on at once."""


class Table(Protocol):
    """Rows [images, views, size] of about unit length."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, views, size."""

    def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[int, Block]]:
        """The rows of these images as blocks, each with the place of its first image; valid until the next one."""


@dataclass(frozen=True, slots=True)
class InMemory:
    """Rows in an array."""

    rows: Block

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, views, size."""
        images, views, size = self.rows.shape
        return images, views, size

    def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[int, Block]]:
        """Views into the array."""
        for first, end in blocks(spans):
            yield first, self.rows[first:end]

    def put(self, place: int, rows: Block) -> None:
        """The rows of the images from `place` on."""
        self.rows[place : place + len(rows)] = rows

    def close(self) -> None:
        """Nothing is open."""


class InFile:
    """Rows in a file without a name, which is gone when it is closed, whatever happens."""

    def __init__(self, folder: Path | None, shape: tuple[int, int, int], kind: npt.DTypeLike) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it
        self._shape = shape
        self._block = np.empty((min(BLOCK, shape[0]), *shape[1:]), kind)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, views, size."""
        return self._shape

    def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[int, Block]]:
        """Read into the same memory again and again."""
        for first, end in blocks(spans):
            block = self._block[: end - first]
            _read(self._file.fileno(), block, first * block[0].nbytes)
            yield first, block

    def put(self, place: int, rows: Block) -> None:
        """The rows of the images from `place` on. Raises SettingsError where there is no room."""
        rows = rows.astype(self._block.dtype, copy=False)
        _write(self._file.fileno(), rows.tobytes(), place * rows[0].nbytes)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def blocks(spans: Sequence[Span]) -> Iterator[Span]:
    """The spans in pieces that are worked on at once."""
    for start, end in spans:
        for first in range(start, end, BLOCK):
            yield first, min(end, first + BLOCK)


def spread(table: Table, spans: Sequence[Span]) -> Vector:
    """The mean of the squares of each of the numbers in a row [size]."""
    squares, count = np.zeros(table.shape[2]), 0
    for _, rows in table.blocks(spans):
        squares += np.square(rows).sum(axis=(0, 1), dtype=np.float64)
        count += rows.shape[0] * rows.shape[1]
    return squares / max(1, count)


def _write(file: int, data: bytes, offset: int) -> None:
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(file, data[done:], offset + done)
    except OSError as error:
        raise SettingsError(f"there is no room for the features of so many images: {error}; free some space") from error


def _read(file: int, into: Block, offset: int) -> None:
    view = into.view(np.uint8).data.cast("B")
    done = 0
    while done < len(view):
        got = os.preadv(file, [view[done:]], offset + done)
        if got == 0:
            raise SettingsError(f"the features of the images end after {offset + done} bytes; train again")
        done += got
