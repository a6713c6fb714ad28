"""From posted bytes to the tensor a model was trained on: decode, turn upright, resize and crop as Custom Vision does.

The numbers are those of Microsoft's own preprocessing (mscviplib) within 1/255: bilinear, half-pixel centres, edges
clamped, no antialiasing. Only the pixels the model sees are read from the decoded image, turned upright and made RGB,
so a big image costs its decoding and little more.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from classifier.room import Room
from classifier.scans import MAX_SCANS, scans
from ripeloop.errors import BadImage, BadModel

MAX_SIDE = 10_240  # Custom Vision takes no larger
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # none that runs a program or fetches a file

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

_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"BM": "image/bmp",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
}

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_COLUMNS_MIRRORED, _ROWS_MIRRORED, _SWAPPED = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)

_PICKED = ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I", "I;16", "F")
"""The modes of which single pixels can be read and made RGB; of any other the whole image is."""

_WHOLE_RGB = 8  # bytes a pixel: made RGB, then turned
_STRIP = 256  # rows

# what Pillow's decoders raise for damaged files; warnings are errors where the process says so
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Warning,
)
_TOO_MANY_PIXELS = "the image unpacks to far more pixels than a camera makes: post a smaller one"
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


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


def to_tensor(image: bytes, spec: InputSpec, room: Room = Room()) -> NDArray[np.float32]:
    """The posted `image` as the float32 tensor [1,3,H,W] the model wants; waits for its `room`. Raises BadImage."""
    with _opened(image, room, whole=spec.crop == OLD_CONTAINER) as source:
        pixels = _resized(source, spec)
    if not spec.full_range:
        pixels /= 255
    if spec.bgr:
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))[np.newaxis]


def decode(image: bytes, room: Room = Room()) -> Image.Image:
    """The posted bytes as an upright RGB image. Raises BadImage."""
    with _opened(image, room, whole=True) as source:
        return source.image


def content_type(image: bytes) -> str:
    """What kind of image these bytes are, by their beginning, whatever the sender called them."""
    return next((kind for magic, kind in _MAGIC.items() if image.startswith(magic)), "application/octet-stream")


def resized(image: Image.Image, spec: InputSpec) -> NDArray[np.float32]:
    """The whole numbers 0 to 255 the model sees of an RGB `image`, [H,W,3], before colour order and range."""
    return _resized(_Source(image), spec)


def _resized(image: _Source, spec: InputSpec) -> NDArray[np.float32]:
    _, _, height, width = spec.shape
    if spec.crop == OLD_CONTAINER:
        image = _Source(_at_most_1600(image.image))
        square, skip = min(image.size), (_OLD_CONTAINER_SQUARE - spec.width) // 2
        columns, rows = (
            _Axis((side - square) // 2, square, _OLD_CONTAINER_SQUARE, skip, spec.width, side) for side in image.size
        )
        return _bilinear(image, columns, rows)
    w, h = _target(image.size, spec)
    columns = _Axis(0, image.size[0], w, (w - width) // 2, width, image.size[0])
    rows = _Axis(0, image.size[1], h, (h - height) // 2, height, image.size[1])
    return _bilinear(image, columns, rows)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One direction of a resize, and which part of its outcome is wanted.

    `span` source pixels from `start` become `size` pixels, of which `count` from `skip` on are wanted; the source has
    `limit` pixels.
    """

    start: int
    span: int
    size: int
    skip: int
    count: int
    limit: int

    def affine(self, neighbour: int, *, mirrored: bool) -> tuple[float, float]:
        """Pillow's scale and offset that pick the first (0) or the second (1) source pixel of each wanted one.

        `mirrored`: the source runs the other way, and so does what is picked.
        """
        scale = self.span / self.size
        # the positions are multiples of 1/(2 size): a millionth decides exact hits without moving any other
        offset = self.start + self.skip * scale - 0.5 + neighbour + 1e-6
        return scale, self.limit - offset - self.count * scale if mirrored else offset

    def weights(self) -> NDArray[np.float32]:
        """How much of the second source pixel goes into each wanted one."""
        doubled = (2 * np.arange(self.skip, self.skip + self.count) + 1) * self.span - self.size
        first = doubled // (2 * self.size) + self.start
        weights = (doubled % (2 * self.size)) / (2 * self.size)
        weights[first < 0] = 1  # beyond the edge Pillow gives black; the pixel at the edge counts alone
        weights[first >= self.limit - 1] = 0
        return weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Source:
    """A decoded image as its file holds it, and how it is turned upright."""

    image: Image.Image
    orientation: int = 1

    @property
    def size(self) -> tuple[int, int]:
        """The width and the height of the upright image."""
        width, height = self.image.size
        return (height, width) if self.orientation in _SWAPPED else (width, height)

    def pick(self, columns: _Axis, rows: _Axis, right: int, below: int) -> Image.Image:
        """The wanted source pixels alone, or their neighbours to the right or below, upright and RGB."""
        across = columns.affine(right, mirrored=self.orientation in _COLUMNS_MIRRORED)
        down = rows.affine(below, mirrored=self.orientation in _ROWS_MIRRORED)
        size = columns.count, rows.count
        if self.orientation in _SWAPPED:
            across, down, size = down, across, size[::-1]
        places = (across[0], 0.0, across[1], 0.0, *down)
        picked = self.image.transform(size, Image.Transform.AFFINE, places, Image.Resampling.NEAREST)
        return _upright(_rgb(picked), self.orientation)


def _bilinear(image: _Source, columns: _Axis, rows: _Axis) -> NDArray[np.float32]:
    def pick(right: int, below: int) -> NDArray[np.float32]:
        picked = image.pick(columns, rows, right, below)
        # a row of colours side by side: numpy is several times slower over a last axis of three
        return np.asarray(picked).reshape(rows.count, -1).astype(np.float32)

    def between(one: NDArray[np.float32], other: NDArray[np.float32], weight: NDArray[np.float32]) -> None:
        other -= one
        other *= weight
        one += other

    across, down = columns.weights().repeat(3)[np.newaxis, :], rows.weights()[:, np.newaxis]
    top, bottom = pick(0, 0), pick(0, 1)
    between(top, pick(1, 0), across)
    between(bottom, pick(1, 1), across)
    between(top, bottom, down)
    return np.rint(top, out=top).reshape(rows.count, columns.count, 3)


def _target(size: tuple[int, int], spec: InputSpec) -> tuple[int, int]:
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


@contextmanager
def _opened(image: bytes, room: Room, *, whole: bool) -> Iterator[_Source]:
    """The decoded image while there is room for it; `whole`: all of it RGB and upright. Raises BadImage."""
    if not image:
        raise BadImage("the body is empty: post the bytes of an image file")
    with ExitStack() as held:
        try:
            opened = held.enter_context(Image.open(io.BytesIO(image), formats=FORMATS))
            pixels = _checked_pixels(opened, room.max_pixels)
            weight = _weight(opened, image)
            whole = whole or opened.mode not in _PICKED
            held.enter_context(room.of(pixels * (weight + _WHOLE_RGB * whole)))
            opened.load()
            opened.info.pop("transparency", None)  # Pillow warns that it would be lost; that is the point
            source = _Source(opened, _orientation(opened))
            if whole:
                source = _Source(_upright(_rgb(opened), source.orientation))
        except _BOMB:
            raise BadImage(_TOO_MANY_PIXELS) from None
        except UnidentifiedImageError:
            raise BadImage("not an image file: post a JPEG, PNG, BMP, GIF, WebP or TIFF") from None
        except _DAMAGED as error:
            raise BadImage(f"the image is damaged or cut short: {error}") from error
        yield source


def _checked_pixels(image: Image.Image, most: int) -> int:
    """How many pixels the decoder will make room for. Raises BadImage."""
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"the image is {width}x{height} px: post one of at most {MAX_SIDE} px a side")
    pixels = width * height
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # a small image may lie in one huge tile
        tile = (image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
        pixels = max(pixels, math.prod(tile))
    if pixels > most:
        raise BadImage(f"the image unpacks to {pixels} pixels: post one of at most {most}")
    return pixels


def _weight(image: Image.Image, data: bytes) -> int:
    """The bytes decoding takes for a pixel, as measured. Raises BadImage for a JPEG that would take minutes."""
    if image.format == "WEBP":
        return 16
    if image.format not in ("JPEG", "MPO"):
        return 6
    count = scans(data)
    if count > MAX_SCANS:
        raise BadImage(
            f"the JPEG has more than {MAX_SCANS} scans, which would take too long: save it as a baseline one"
        )
    return 12 if count > 1 else 4  # with several scans all coefficients are held


def _rgb(image: Image.Image) -> Image.Image:
    """The colours alone: transparency is dropped, 16 bits become 8."""
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    grey = Image.new("L", image.size)
    for top in range(0, image.height, _STRIP):  # numpy's copies of a whole one would take several times its memory
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        grey.paste(Image.fromarray(np.clip(np.asarray(strip) >> 8, 0, 255).astype(np.uint8)), (0, top))
    return grey


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 where it is absent or unreadable: a photograph is worth more than its notes."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGED:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
