"""The features of all images as rows to fit: in memory while they are few, else in a file, read block by block."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from ripeloop.errors import SettingsError

# float32 in training, which is twice as fast and as small; with float64 the objective is exact enough to be checked
Block = npt.NDArray[np.floating[Any]]
Vector = npt.NDArray[np.float64]
Span = tuple[int, int]
"""Images from one place to before another."""

IN_MEMORY = 3000
"""So many images are held in memory, which with two views each is 80 MB; more than that are read from a file."""

_BLOCK = 256  # images at once
_TURNED_BELOW = 0.6  # rows per feature
_TRACE = 1e-7  # of the mean inner product
_COLUMNS = 256  # at once


class Table(Protocol):
    """Rows [images, views, size] of about unit length."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, views, size."""

    def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[int, Block]]:
        """The rows of these images as blocks, each with the place of its first image; valid until the next one."""


@dataclass(frozen=True, slots=True)
class Turn:
    """`rows` [rows, size] in as many dimensions as there are rows.

    `corner` is the lower triangle whose product with itself is all their inner products.
    """

    rows: Block
    corner: Block

    @classmethod
    def of(cls, rows: Block) -> Turn:
        """By Cholesky; a trace of a diagonal lets it pass where images are the same."""
        products = np.zeros((len(rows), len(rows)))
        for start in range(0, rows.shape[1], _COLUMNS):  # exactly, and without an exact copy of it all
            part = rows[:, start : start + _COLUMNS].astype(np.float64)
            products += part @ part.T
        products[np.diag_indices_from(products)] += _TRACE * max(float(products.trace()) / len(rows), _TRACE)
        return cls(rows, np.linalg.cholesky(products).astype(rows.dtype))

    def back(self, weights: Vector) -> Vector:
        """Weights for the corner's rows as weights for the rows themselves."""
        turned = self.rows.T @ np.linalg.solve(self.corner.T.astype(np.float64), weights).astype(self.rows.dtype)
        return turned.astype(np.float64, copy=False)


@dataclass(frozen=True, slots=True)
class Scaling:
    """How raw features became rows: less `mean`, over `scale`, turned by `turn` (or not)."""

    mean: Vector
    scale: Vector
    turn: Turn | None = None

    def unscaled(self, weights: Vector, bias: Vector) -> tuple[Vector, Vector]:
        """The same weights and bias for raw features."""
        raw = (weights if self.turn is None else self.turn.back(weights)) / self.scale[:, None]
        return raw, bias - self.mean @ raw


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
        for start, end in spans:
            for first in range(start, end, _BLOCK):
                yield first, self.rows[first : min(end, first + _BLOCK)]


class Collected:
    """Takes the features of each of `images` images, in any order, then gives them as a table. Use it as a context.

    `folder` is where the file goes, where one is needed; it is gone whatever happens.
    """

    def __init__(self, images: int, folder: Path | None = None) -> None:
        self._images = images
        self._sum, self._squares = np.zeros(0), np.zeros(0)
        self._held: Block | None = None
        self._file = None if images <= IN_MEMORY else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._shape: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def put(self, place: int, features: npt.NDArray[np.floating[Any]]) -> None:
        """The features [views, size] of the image that is to stand at `place`."""
        if self._shape is None:
            self._shape = features.shape[0], features.shape[1]
            self._sum, self._squares = np.zeros(features.shape[1]), np.zeros(features.shape[1])
            self._held = np.empty((self._images, *features.shape), np.float32) if self._file is None else None
        exact = features.astype(np.float64)
        self._sum += exact.sum(axis=0)
        self._squares += np.square(exact).sum(axis=0)
        if self._file is not None:
            half = features.astype(np.float16)
            _write(self._file.fileno(), half.tobytes(), place * half.nbytes)
        elif self._held is not None:
            self._held[place] = features

    def table(self, emphasis: Vector | float = 1.0) -> tuple[Table, Scaling]:
        """All rows, in as few dimensions as lose nothing. `emphasis` makes features count more, or less.

        May be asked once: what is in memory is scaled where it lies.
        """
        if self._shape is None:
            raise ValueError("there are no images")
        images, (views, size) = self._images, self._shape
        count = images * views
        mean = self._sum / count
        variance = np.maximum(self._squares / count - mean**2, 0)
        # a feature that hardly ever fires must not be blown up to the size of the others
        scale = np.sqrt(variance) + 0.05 * np.sqrt(variance.mean() + mean.var())
        scale = np.where(scale > 0, scale, 1) * np.sqrt(size) / emphasis  # all images may be the same one
        if self._file is not None:
            return Scratch(self._file.fileno(), (images, views, size), mean, scale), Scaling(mean, scale)
        if self._held is None:
            raise ValueError("the table was given already")
        rows, self._held = self._held, None
        rows -= mean.astype(np.float32)
        rows /= scale.astype(np.float32)
        # The penalised optimum lies in the span of the rows: fit there, exactly and faster. With many rows the
        # turning saves no time, and takes several times their memory.
        if count >= size * _TURNED_BELOW:
            return InMemory(rows), Scaling(mean, scale)
        turn = Turn.of(rows.reshape(count, size))
        return InMemory(turn.corner.reshape(images, views, -1)), Scaling(mean, scale, turn)


class Scratch:
    """Raw float16 features in an open file, scaled as they are read; nothing but one block is in memory."""

    def __init__(self, file: int, shape: tuple[int, int, int], mean: Vector, scale: Vector) -> None:
        self._file, self._shape = file, shape
        self._mean, self._factor = mean.astype(np.float32), (1 / scale).astype(np.float32)
        self._raw = np.empty((_BLOCK, *shape[1:]), np.float16)
        self._scaled = np.empty(self._raw.shape, np.float32)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Images, views, size."""
        return self._shape

    def blocks(self, spans: Sequence[Span]) -> Iterator[tuple[int, Block]]:
        """Read and scaled into the same memory again and again."""
        for start, end in spans:
            for first in range(start, end, _BLOCK):
                raw = self._raw[: min(_BLOCK, end - first)]
                scaled = self._scaled[: len(raw)]
                _read(self._file, raw, first * raw[0].nbytes)
                np.subtract(raw, self._mean, out=scaled, dtype=np.float32)
                scaled *= self._factor
                yield first, scaled


def _write(file: int, data: bytes, offset: int) -> None:
    done = 0
    try:
        while done < len(data):
            done += os.pwrite(file, data[done:], offset + done)
    except OSError as error:
        raise SettingsError(f"there is no room for the features of so many images: {error}; free some space") from error


def _read(file: int, into: npt.NDArray[np.float16], offset: int) -> None:
    view = into.view(np.uint8).data.cast("B")
    done = 0
    while done < len(view):
        got = os.preadv(file, [view[done:]], offset + done)
        if got == 0:
            raise SettingsError(f"the features of the images end after {offset + done} bytes; train again")
        done += got
