"""`python -m bench.classifier.flask2024 EXPORT PORT`: does what the container of 2024 does.

The whole image is decoded, its shorter side resized to the model's with Pillow, and the middle cut out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from bench.classifier.flask_server import application


def prepare(image: Image.Image, side: int) -> npt.NDArray[np.float32]:
    """The model's pixels as that container makes them."""
    upright = ImageOps.exif_transpose(image)
    shorter = min(upright.size)
    size = (max(side, round(upright.width * side / shorter)), max(side, round(upright.height * side / shorter)))
    resized = upright.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    cut = resized.crop((left, top, left + side, top + side))
    return np.array(cut.convert("RGB"), np.float32)


if __name__ == "__main__":
    application(Path(sys.argv[1]), prepare).run("127.0.0.1", int(sys.argv[2]))
