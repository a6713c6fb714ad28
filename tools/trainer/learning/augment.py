"""Ways to look at one image in training: as it is, mirrored, closer, in other light. The same name, the same pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Tensor = npt.NDArray[np.float32]

PLAIN = "plain"
MIRRORED = "mirrored"
VIEWS = (PLAIN, MIRRORED)
MORE_VIEWS = ("closer-1", "closer-2", "lit-1", "lit-2", "both-1", "both-2")
"""What `Advanced` looks at as well: parts of the image, brighter and darker, mirrored by turns."""

_CLOSEST = 0.75  # of the image's sides
_CONTRAST, _BRIGHTNESS = 0.2, 0.08


def view(tensor: Tensor, name: str) -> Tensor:
    """The image `tensor` [1, 3, side, side], values 0 to 1, as the view of that name. Raises KeyError."""
    if name == PLAIN:
        return tensor
    if name == MIRRORED:
        return np.ascontiguousarray(tensor[..., ::-1])
    kind, number = name.split("-")
    # by name, not by image: what a view does is a matter of the view, and needs no state
    rng = np.random.default_rng([MORE_VIEWS.index(name), int(number)])
    seen = tensor[..., ::-1] if int(number) % 2 else tensor
    if kind in ("closer", "both"):
        seen = _closer(seen, rng)
    if kind in ("lit", "both"):
        seen = _lit(seen, rng)
    return np.ascontiguousarray(seen)


def _closer(tensor: Tensor, rng: np.random.Generator) -> Tensor:
    """A part of the image, enlarged to the whole."""
    side = tensor.shape[-1]
    width = side * rng.uniform(_CLOSEST, 0.95)
    for axis in (2, 3):
        tensor = _stretched(tensor, axis, rng.uniform(0, side - width), width)
    return tensor


def _stretched(tensor: Tensor, axis: int, start: float, width: float) -> Tensor:
    """`width` pixels from `start` along `axis` made as many as all, bilinear."""
    side = tensor.shape[axis]
    at = np.clip(start + (np.arange(side) + 0.5) * width / side - 0.5, 0, side - 1)
    first = np.minimum(at.astype(int), side - 2)
    share = (at - first).astype(np.float32).reshape([-1 if n == axis else 1 for n in range(4)])
    made: Tensor = tensor.take(first, axis) * (1 - share) + tensor.take(first + 1, axis) * share
    return made


def _lit(tensor: Tensor, rng: np.random.Generator) -> Tensor:
    """Other contrast and brightness."""
    contrast, brightness = 1 + rng.uniform(-_CONTRAST, _CONTRAST), rng.uniform(-_BRIGHTNESS, _BRIGHTNESS)
    lit: Tensor = np.clip((tensor - 0.5) * np.float32(contrast) + np.float32(0.5 + brightness), 0, 1)
    return lit
