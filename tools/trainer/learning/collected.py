"""The features of all images, as they come in, made into rows to fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from trainer.learning import axes
from trainer.learning.axes import Axes
from trainer.learning.progress import Told, nobody
from trainer.learning.rows import Block, InFile, InMemory, Table, Vector

IN_MEMORY = 3000
"""So many images are held in memory, which with two views each is 90 MB; more than that are read from a file."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """How raw features became rows: less `mean`, over `scale`, along `axes`."""

    mean: Vector
    scale: Vector
    axes: Axes

    def rows(self, features: Block) -> Block:
        """Features [..., size] before they are turned along the axes."""
        return scaled(features, self.mean, self.scale)

    def unscaled(self, weights: Vector, bias: Vector) -> tuple[Vector, Vector]:
        """Weights and bias of rows as those of raw features."""
        raw = self.axes.back(weights) / self.scale[:, None]
        return raw, bias - self.mean @ raw


class Collected:
    """Takes the features of each of `images` images, in any order, then gives them as a table. Use it as a context.

    `folder` is where files go, where they are needed; they are gone whatever happens.
    """

    def __init__(self, images: int, folder: Path | None = None) -> None:
        self._images, self._folder = images, folder
        self._sum, self._squares = np.zeros(0), np.zeros(0)
        self._raw: InMemory | InFile | None = None
        self._table: InMemory | InFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._raw, self._table):
            if one is not None:
                one.close()

    def put(self, place: int, features: npt.NDArray[np.floating[Any]]) -> None:
        """The features [views, size] of the image that is to stand at `place`."""
        if self._raw is None:
            views, size = features.shape
            self._raw = self._room(views, size, features.dtype if self._images <= IN_MEMORY else np.float16)
            self._sum, self._squares = np.zeros(size), np.zeros(size)
        exact = features.astype(np.float64)
        self._sum += exact.sum(axis=0)
        self._squares += np.square(exact).sum(axis=0)
        self._raw.put(place, features[None])

    def table(self, emphasis: Vector | float = 1.0, told: Told = nobody) -> tuple[Table, Scaling]:
        """All rows, along the axes of a sample of them. `emphasis` makes features count more, or less.

        May be asked once: what was collected is let go of. `told` hears how many images of how many are done.
        """
        if self._raw is None:
            raise ValueError("there are no images, or their table was given already")
        images, views, size = self._raw.shape
        mean = self._sum / (images * views)
        variance = np.maximum(self._squares / (images * views) - mean**2, 0)
        # a feature that hardly ever fires must not be blown up to the size of the others
        scale = np.sqrt(variance) + 0.05 * np.sqrt(variance.mean() + mean.var())
        scale = np.where(scale > 0, scale, 1) * np.sqrt(size) / emphasis  # all images may be the same one
        scaling = Scaling(mean, scale, Axes.of(_sample(self._raw, mean, scale)))
        table = self._table = self._room(views, scaling.axes.columns.shape[1], np.float32)
        for first, raw in self._raw.blocks([(0, images)]):
            table.put(first, scaling.axes.along(scaling.rows(raw)))
            told(first + len(raw), images)
        self._raw.close()
        self._raw = None
        return table, scaling

    def _room(self, views: int, size: int, kind: npt.DTypeLike) -> InMemory | InFile:
        shape = self._images, views, size
        return InMemory(np.empty(shape, kind)) if self._images <= IN_MEMORY else InFile(self._folder, shape, kind)


def _sample(raw: Table, mean: Vector, scale: Vector) -> Block:
    """Rows of images taken evenly from all [rows, size]: the images themselves, and of few their other views, too."""
    images, views, size = raw.shape
    views = views if images < axes.ENOUGH else 1
    sample, taken = np.empty((min(images * views, axes.MOST), size), np.float32), 0
    for view in range(views):
        few = min(images, len(sample) - taken)
        for _, features in raw.blocks([(nth * images // few, nth * images // few + 1) for nth in range(few)]):
            sample[taken] = scaled(features[0, view], mean, scale)
            taken += 1
    return sample


def scaled(features: Block, mean: Vector, scale: Vector) -> Block:
    """Features [..., size] less `mean`, over `scale`, in float32."""
    rows: Block = np.subtract(features, mean.astype(np.float32), dtype=np.float32)
    rows /= scale.astype(np.float32)
    return rows
