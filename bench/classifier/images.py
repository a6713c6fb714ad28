"""JPEGs of the sizes cameras make, drawn by code: the same bytes everywhere, about as heavy as real ones.

How long a JPEG takes to decode depends on its pixels and on its bytes. So grain is added to a drawn picture until the
file weighs what a photograph of that size weighs.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.load import MARK
from demo.bananas import draw

QUALITY = 90
DRAWN = 640  # larger pictures are enlarged from this
KILOBYTES: Mapping[tuple[int, int], int] = {(224, 224): 16, (640, 480): 66, (1920, 1080): 298, (4032, 3024): 1700}
"""What photographs of these sizes weigh, as cameras and phones compress them."""

_STEPS = 9


@dataclass(frozen=True, slots=True)
class Picture:
    """One JPEG to post."""

    width: int
    height: int
    jpeg: bytes

    @property
    def size(self) -> str:
        """As in `640x480`."""
        return f"{self.width}x{self.height}"

    @property
    def kilobytes(self) -> int:
        """The file's weight in kB."""
        return round(len(self.jpeg) / 1000)


def pictures(sizes: Mapping[tuple[int, int], int] = KILOBYTES) -> list[Picture]:
    """One picture of each size, of about so many kB."""
    return [picture(width, height, kilobytes) for (width, height), kilobytes in sizes.items()]


def picture(width: int, height: int, kilobytes: int) -> Picture:
    """A picture of that size that weighs within a few per cent of `kilobytes`."""
    scene = _scene(width, height)
    grain = np.random.default_rng(width * height).standard_normal((height, width, 1), np.float32)
    low, high = 0.0, 40.0
    jpeg = b""
    for _ in range(_STEPS):
        strength = (low + high) / 2
        jpeg = _jpeg(scene, grain, strength)
        if abs(len(jpeg) - kilobytes * 1000) < kilobytes * 20:
            break
        low, high = (low, strength) if len(jpeg) > kilobytes * 1000 else (strength, high)
    return Picture(width, height, jpeg[:2] + MARK + jpeg[2:])


def _scene(width: int, height: int) -> npt.NDArray[np.float32]:
    """The drawn picture at this size, [height, width, 3]."""
    side = max(width, height)
    square = draw((2026, side), 0.5, min(side, DRAWN)).resize((side, side), Image.Resampling.BICUBIC)
    left, top = (side - width) // 2, (side - height) // 2
    return np.asarray(square.crop((left, top, left + width, top + height)), np.float32)


def _jpeg(scene: npt.NDArray[np.float32], grain: npt.NDArray[np.float32], strength: float) -> bytes:
    buffer = io.BytesIO()
    grainy = np.clip(scene + grain * np.float32(strength), 0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(buffer, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return buffer.getvalue()
