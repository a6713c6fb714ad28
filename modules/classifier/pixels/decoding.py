"""From posted bytes to pixels: opened, weighed before anything is unpacked, decoded, and turned upright.

A JPEG may be decoded at a half, a quarter or an eighth of its size, which is several times quicker and smaller: each
pixel is then the mean of those it stands for. How far that moves a model's answer is in docs/SPEED.md.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from classifier.pixels.room import Room
from classifier.pixels.scans import MAX_SCANS, scans
from classifier.pixels.structure import check
from ripeloop.errors import BadImage

MAX_SIDE = 10_240  # Custom Vision takes no larger
TOO_LONG = "too_long"
"""The `kind` of BadImage where a side is longer than that."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")  # none that runs a program or fetches a file

Image.MAX_IMAGE_PIXELS = MAX_SIDE**2  # a JPEG of that size is decoded in little memory; what is not, is refused below

Size = tuple[int, int]
"""Width and height in pixels."""

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
_COEFFICIENTS = 8  # bytes a pixel of a JPEG in several scans, all of which are held, however small it is decoded
_SHRUNK = (8, 4, 2)  # the sizes libjpeg can decode at without unpacking more
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
    struct.error,
    zlib.error,
    Warning,
)
_TOO_MANY_PIXELS = "the image unpacks to far more pixels than a camera makes: post a smaller one"
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True, slots=True)
class Source:
    """A decoded image as its file holds it, how it is turned upright, and how many times smaller each side was made."""

    image: Image.Image
    orientation: int = 1
    shrunk: int = 1
    full: Size | None = None

    @property
    def size(self) -> Size:
        """The width and the height of the upright image, in the file's own pixels."""
        return _turned(self.full or self.image.size, self.orientation)

    @property
    def decoded(self) -> Size:
        """The width and the height of the upright image, in the pixels that were decoded."""
        return _turned(self.image.size, self.orientation)

    @property
    def mirrored(self) -> tuple[bool, bool]:
        """Whether the file's columns run the other way than the upright image's, and whether its rows do."""
        return self.orientation in _COLUMNS_MIRRORED, self.orientation in _ROWS_MIRRORED

    def pick(self, across: Step, down: Step, size: Size) -> Image.Image:
        """The nearest pixels to these positions in the decoded image, upright and RGB; `size` of the upright outcome.

        A step is Pillow's scale and offset, along the file's own rows or columns.
        """
        if self.orientation in _SWAPPED:
            across, down, size = down, across, size[::-1]
        places = (across[0], 0.0, across[1], 0.0, *down)
        picked = self.image.transform(size, Image.Transform.AFFINE, places, Image.Resampling.NEAREST)
        return _upright(_rgb(picked), self.orientation)


Step = tuple[float, float]


def decode(image: bytes, room: Room = Room(), enough: Callable[[Size], Size] | None = None) -> Image.Image:
    """The posted bytes as an upright RGB image; a JPEG smaller where `enough` is left. Raises BadImage, MemoryError."""
    with opened(image, room, whole=True, enough=enough) as source:
        return source.image


def content_type(image: bytes) -> str:
    """What kind of image these bytes are, by their beginning, whatever the sender called them."""
    return next((kind for magic, kind in _MAGIC.items() if image.startswith(magic)), "application/octet-stream")


def is_image(body: bytes) -> bool:
    """Whether these bytes begin as an image does."""
    return body.startswith(tuple(_MAGIC))


@contextmanager
def opened(
    image: bytes, room: Room, *, whole: bool = False, enough: Callable[[Size], Size] | None = None
) -> Iterator[Source]:
    """The decoded image while there is room for it; `whole`: all of it RGB and upright. Raises BadImage, MemoryError.

    With `enough`, a JPEG is decoded smaller where what is left has that many pixels, which it says for the upright
    size.
    """
    if not image:
        raise BadImage("the body is empty: post the bytes of an image file")
    with ExitStack() as held:
        try:
            check(image)
            opened = held.enter_context(Image.open(io.BytesIO(image), formats=FORMATS))
            _check_side(opened)
            several = _several_scans(opened, image)
            full, shrunk = opened.size, _draft(opened, enough) if enough else 1
            pixels = _pixels(opened)
            if (most := math.prod(full) if several else pixels) > room.max_pixels:
                raise BadImage(
                    f"the image unpacks to {most} pixels: post one of at most {room.max_pixels}", kind=TOO_LONG
                )
            whole = whole or opened.mode not in _PICKED
            coefficients = _COEFFICIENTS * math.prod(full) if several else 0
            held.enter_context(room.of(pixels * (_weight(opened) + _WHOLE_RGB * whole) + coefficients))
            opened.load()
            opened.info.pop("transparency", None)  # Pillow warns that it would be lost; that is the point
            source = Source(opened, _orientation(opened), shrunk, full)
            if whole:
                source = Source(_upright(_rgb(opened), source.orientation))
        except _BOMB:
            raise BadImage(_TOO_MANY_PIXELS, kind=TOO_LONG) from None  # more pixels than the largest square has
        except UnidentifiedImageError:
            raise BadImage("not an image file: post a JPEG, PNG, BMP, GIF, WebP or TIFF") from None
        except _DAMAGED as error:
            raise BadImage(f"the image is damaged or cut short: {error}") from error
        yield source


def _draft(image: Image.Image, enough: Callable[[Size], Size]) -> int:
    """How many times smaller each side of a JPEG will be decoded: 1, 2, 4 or 8."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    width, height = image.size
    orientation = _orientation(image)
    least = _turned(enough(_turned(image.size, orientation)), orientation)
    for shrunk in _SHRUNK:
        if width >= shrunk * least[0] and height >= shrunk * least[1]:
            image.draft(None, (width // shrunk, height // shrunk))
            return shrunk
    return 1


def _turned(size: Size, orientation: int) -> Size:
    return size[::-1] if orientation in _SWAPPED else size


def _check_side(image: Image.Image) -> None:
    width, height = image.size
    if max(width, height) > MAX_SIDE:
        raise BadImage(f"the image is {width}x{height} px: post one of at most {MAX_SIDE} px a side", kind=TOO_LONG)


def _pixels(image: Image.Image) -> int:
    """How many pixels the decoder will make room for."""
    pixels = math.prod(image.size)
    if isinstance(image, TiffImagePlugin.TiffImageFile):  # a small image may lie in one huge tile
        tile = (image.tag_v2.get(tag, 0) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH))
        pixels = max(pixels, math.prod(tile))
    return pixels


def _several_scans(image: Image.Image, data: bytes) -> bool:
    """Whether a JPEG comes in several scans. Raises BadImage for one that would take minutes."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return False
    count = scans(data)
    if count > MAX_SCANS:
        raise BadImage(
            f"the JPEG has more than {MAX_SCANS} scans, which would take too long: save it as a baseline one"
        )
    return count > 1


def _weight(image: Image.Image) -> int:
    """The bytes decoding takes for a pixel, as measured."""
    if image.format == "WEBP":
        return 16
    return 4 if isinstance(image, JpegImagePlugin.JpegImageFile) else 6


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
