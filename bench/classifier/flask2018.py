"""`python -m bench.classifier.flask2018 EXPORT PORT`: does what the container of 2018 to 2021 does.

At most 1600 pixels a side, the square in the middle, resized to 256 pixels one pixel at a time in Python, and from
that the middle the model sees.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from bench.classifier.flask_server import application

LARGEST = 1600
SQUARE = 256

Pixels = npt.NDArray[Any]


def prepare(image: Image.Image, side: int) -> npt.NDArray[np.float32]:
    """The model's pixels as that container makes them."""
    upright = ImageOps.exif_transpose(image.convert("RGB"))
    pixels = np.array(_at_most(upright, LARGEST))
    small = _resized(pixels, SQUARE)
    first = (SQUARE - side) // 2
    return small[first : first + side, first : first + side]


def _at_most(image: Image.Image, largest: int) -> Image.Image:
    longest = max(image.size)
    if longest < largest:
        return image
    size = (max(1, image.width * largest // longest), max(1, image.height * largest // longest))
    way = Image.Resampling.BILINEAR if largest / longest >= 0.5 else Image.Resampling.BICUBIC
    return image.resize(size, way)


def _resized(pixels: Pixels, side: int) -> npt.NDArray[np.float32]:
    """The square in the middle at `side` pixels, each of them worked out in Python."""
    height, width = pixels.shape[:2]
    square = min(height, width)
    left, top, scale = (width - square) // 2, (height - square) // 2, square / side
    small = np.zeros((side, side, 3), np.float32)
    for row in range(side):
        for column in range(side):
            small[row, column] = _mixed(pixels, left + (column + 0.5) * scale - 0.5, top + (row + 0.5) * scale - 0.5)
    return small


def _mixed(pixels: Pixels, x: float, y: float) -> Pixels:
    """The colour between four pixels; at an edge the pixel there stands for the missing one."""
    height, width = pixels.shape[:2]
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    across, down = x - left, y - top
    above = pixels[top, left] * (1 - across) + pixels[top, right] * across
    below = pixels[bottom, left] * (1 - across) + pixels[bottom, right] * across
    mixed: Pixels = above * (1 - down) + below * down
    return mixed


if __name__ == "__main__":
    application(Path(sys.argv[1]), prepare).run("127.0.0.1", int(sys.argv[2]))
