"""From posted bytes to the tensor a model was trained on: decode, turn upright, resize and crop as Custom Vision does.

The numbers are those of Microsoft's own preprocessing (mscviplib) within 1/255: bilinear, half-pixel centres, edges
clamped, no antialiasing. Only the pixels the model sees are read from the decoded image, turned upright and made RGB,
so a big image costs its decoding and little more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.pixels.decoding import MAX_SIDE, Size, Source, Step, opened
from classifier.pixels.room import Room
from ripeloop.errors import BadModel

OLD_CONTAINER = "OldContainer"
"""The crop and the resize of the containers exported until 2021: our name, no metadata ever says it."""

_OLD_CONTAINER_MAX = 1600
_OLD_CONTAINER_SQUARE = 256

_PAIRS = {
    ("NoCrop", "Stretch"),
    ("FullImageShorterSide", "ByShorterSide"),
    ("FullImageShorterSide", "ByShorterSideAlign32"),
    ("OneCropCenter", "ByShorterSide"),
    (OLD_CONTAINER, OLD_CONTAINER),
}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a model wants to see, in the words of metadata_properties.json. Raises BadModel for words we do not know.

    `width` and `height` are the target of the resize; `crop_size` is the side cut from it by `OneCropCenter`.
    `bgr`: blue first. `full_range`: values 0 to 255, else 0 to 1.
    """

    width: int
    height: int
    crop: str = "NoCrop"
    resize: str = "Stretch"
    crop_size: int = 0
    bgr: bool = False
    full_range: bool = False

    def __post_init__(self) -> None:
        if (self.crop, self.resize) not in _PAIRS:
            known = ", ".join(f"{crop}+{resize}" for crop, resize in sorted(_PAIRS) if crop != OLD_CONTAINER)
            raise BadModel(
                f"the model wants its images prepared by {self.crop}+{self.resize}, known are {known}; "
                "export the model again from a (compact) classification domain"
            )
        if not 0 < self.width <= MAX_SIDE or not 0 < self.height <= MAX_SIDE:
            raise BadModel(f"the model's input of {self.width}x{self.height} px makes no sense")
        if self.crop != "NoCrop" and self.width != self.height:
            raise BadModel(f"the model wants {self.crop} at {self.width}x{self.height} px; only squares can be cut")
        if self.crop == OLD_CONTAINER and self.width > _OLD_CONTAINER_SQUARE:
            raise BadModel(f"a model of the 2018 form sees at most 256x256 px, this one {self.width}x{self.height}")
        if self.crop == "OneCropCenter" and not 0 < self.crop_size <= self.width:
            raise BadModel(f"the model wants a {self.crop_size} px square out of {self.width} px")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the tensor: 1, 3, height, width."""
        if self.crop == "OneCropCenter":
            return 1, 3, self.crop_size, self.crop_size
        return 1, 3, self.height, self.width


def to_tensor(image: bytes, spec: InputSpec, room: Room = Room(), *, fast: bool = False) -> NDArray[np.float32]:
    """The posted `image` as the float32 tensor [1,3,H,W] the model wants; waits for its `room`. Raises BadImage.

    `fast`: a JPEG of at least twice the model's size is decoded smaller, unless the model is of the 2018 form.
    """
    old = spec.crop == OLD_CONTAINER
    enough = partial(_target, spec=spec) if fast and not old else None
    with opened(image, room, whole=old, enough=enough) as source:
        pixels = _resized(source, spec)
    if not spec.full_range:
        pixels /= 255
    if spec.bgr:
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[np.newaxis]


def resized(image: Image.Image, spec: InputSpec) -> NDArray[np.float32]:
    """The whole numbers 0 to 255 the model sees of an RGB `image`, [H,W,3], before colour order and range."""
    return _resized(Source(image), spec)


def _resized(image: Source, spec: InputSpec) -> NDArray[np.float32]:
    _, _, height, width = spec.shape
    if spec.crop == OLD_CONTAINER:
        image = Source(_at_most_1600(image.image))
        square, skip = min(image.size), (_OLD_CONTAINER_SQUARE - spec.width) // 2
        columns, rows = (
            _Axis((side - square) // 2, square, _OLD_CONTAINER_SQUARE, skip, spec.width, side) for side in image.size
        )
        return _bilinear(image, columns, rows)
    columns, rows = (
        _Axis(0, side, size, (size - count) // 2, count, decoded, image.shrunk, mirrored=mirrored)
        for side, size, count, decoded, mirrored in zip(
            image.size, _target(image.size, spec), (width, height), image.decoded, image.mirrored, strict=True
        )
    )
    return _bilinear(image, columns, rows)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One direction of a resize, and which part of its outcome is wanted.

    `span` of the file's pixels from `start` become `size` pixels, of which `count` from `skip` on are wanted. Decoded
    are `limit` pixels, each standing for `shrunk` of the file's, in the other direction where `mirrored`.
    """

    start: int
    span: int
    size: int
    skip: int
    count: int
    limit: int
    shrunk: int = 1
    mirrored: bool = False

    @property
    def _start(self) -> int:
        """Where the span starts, in the file's pixels from the first decoded one's edge.

        The last decoded pixel of a row may reach beyond the file's; mirrored it is the first.
        """
        return self.start + (self.limit * self.shrunk - self.span if self.mirrored and self.shrunk > 1 else 0)

    def step(self, neighbour: int) -> Step:
        """Pillow's scale and offset that pick the first (0) or the second (1) decoded pixel of each wanted one."""
        scale = self.span / self.size / self.shrunk
        # the positions are multiples of 1/(2 size shrunk): a millionth decides exact hits without moving any other
        offset = self._start / self.shrunk + self.skip * scale - 0.5 + neighbour + 1e-6
        return scale, self.limit - offset - self.count * scale if self.mirrored else offset

    def neighbours(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The place of the first decoded pixel of each wanted one, and how much of the second goes into it.

        At an edge the place is before it, or that of the last.
        """
        whole = 2 * self.size * self.shrunk
        places = (2 * np.arange(self.skip, self.skip + self.count) + 1) * self.span
        places += 2 * self.size * self._start - self.size * self.shrunk
        first, weights = places // whole, (places % whole) / whole
        weights[first < 0] = 1  # beyond the edge Pillow gives black; the pixel at the edge counts alone
        weights[first >= self.limit - 1] = 0
        return first, weights.astype(np.float32)


_EACH: Step = (1.0, 0.0)
"""Every decoded pixel as it stands."""


def _bilinear(image: Source, columns: _Axis, rows: _Axis) -> NDArray[np.float32]:
    def sideways(step: Step, count: int) -> NDArray[np.float32]:
        """So many rows, with the columns that are wanted."""

        def pick(right: int) -> NDArray[np.float32]:
            picked = image.pick(columns.step(right), step, (columns.count, count))
            # a row of colours side by side: numpy is several times slower over a last axis of three
            return np.asarray(picked).reshape(count, -1).astype(np.float32)

        left = pick(0)
        if across.any():
            _between(left, pick(1), across)
        return left

    (_, across), (first, down) = columns.neighbours(), rows.neighbours()
    across, down = across.repeat(3)[np.newaxis, :], down[:, np.newaxis]
    if not down.any():  # nor across, where the image has the model's size already
        top = sideways(rows.step(0), rows.count)
    else:
        if rows.limit <= 2 * rows.count:  # each decoded row once is less than two for each that is wanted
            every = sideways(_EACH, rows.limit)
            top, bottom = (every.take(first + below, 0, mode="clip") for below in (0, 1))
        else:
            top, bottom = (sideways(rows.step(below), rows.count) for below in (0, 1))
        _between(top, bottom, down)
    return np.rint(top, out=top).reshape(rows.count, columns.count, 3)


def _between(one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
    """Move `one` towards `other`, which is used up, by its weight."""
    other -= one
    other *= weight
    one += other


def _target(size: Size, spec: InputSpec) -> Size:
    """The size of the whole resized image, before the crop."""
    if spec.resize == "Stretch":
        return spec.width, spec.height
    short, long = min(size), max(size)
    longer = int(long * (spec.width / short) + 0.5)
    if spec.resize == "ByShorterSideAlign32":
        longer = -(-longer // 32) * 32
    return (longer, spec.width) if size[0] >= size[1] else (spec.width, longer)


def _at_most_1600(image: Image.Image) -> Image.Image:
    width, height = image.size
    if max(width, height) <= _OLD_CONTAINER_MAX:
        return image
    smaller = (
        (max(1, _OLD_CONTAINER_MAX * width // height), _OLD_CONTAINER_MAX)
        if height > width
        else (_OLD_CONTAINER_MAX, max(1, _OLD_CONTAINER_MAX * height // width))
    )
    halved = max(smaller) / max(width, height) >= 0.5
    return image.resize(smaller, Image.Resampling.BILINEAR if halved else Image.Resampling.BICUBIC)
