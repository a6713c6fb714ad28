"""What a file says of its own make-up, looked at before a decoder is given it.

Some files of a few megabytes keep a decoder busy for minutes: thousands of strips that all lie in one place, segments
that are put together anew for each one, profiles that unpack a thousandfold. A thread cannot be stopped, so what no
camera and no editor writes is refused.
"""

from __future__ import annotations

import io
import math
import re

from PIL import JpegImagePlugin as Jpeg
from PIL import TiffImagePlugin as Tiff

from ripeloop.errors import BadImage

MAX_SEGMENTS = 1000  # before a JPEG's picture; a photograph with a depth map of megabytes has a hundred
MAX_EXIF = 64  # segments of it, each of which has Pillow copy all those before
MAX_PADDING = 65_536  # bytes between segments, which Pillow reads one by one
MAX_CHUNKS = 20_000  # of a PNG; an animation of megabytes has a few thousand
MAX_PACKED = 64  # packed profiles and texts of a PNG; each may unpack to a megabyte
MAX_TAGS = 4096  # of a TIFF, which has some dozens
MAX_PIECES = 40_960  # strips or tiles of a TIFF: four colours apart, a strip for each of 10,240 rows
OVERLAPPING = 4  # times as many bytes as the file has; some writers count bytes before they are packed

_PACKED = (b"iCCP", b"zTXt", b"iTXt")
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_APP1, _SOS = 0xFFE1, 0xFFDA
_BIG_TIFF, _APART = 43, 2


def check(image: bytes) -> None:
    """Raises BadImage for a file that would take far longer than its size lets expect."""
    if image.startswith(b"\xff\xd8\xff"):
        _check_jpeg(image)
    elif image.startswith(b"\x89PNG"):
        _check_png(image)
    elif image.startswith(tuple(Tiff.PREFIXES)):
        _check_tiff(image)


def _check_jpeg(image: bytes) -> None:
    """Walks the segments as Pillow does, so that none can be hidden from this and shown to it."""
    at, segments, exif, padding = 2, 0, 0, 0
    while found := _MARKER.search(image, at):
        padding += found.end() - 2 - at
        marker, at = 0xFF00 | found[1][0], found.end()
        _, _, has_bytes = Jpeg.MARKER.get(marker, ("", "", None))
        if marker == _SOS:
            return
        segments += 1
        if has_bytes:
            exif += marker == _APP1 and image.startswith(b"Exif\0\0", at + 2)
            at += max(2, int.from_bytes(image[at : at + 2], "big"))
        if segments > MAX_SEGMENTS or exif > MAX_EXIF or padding > MAX_PADDING:
            raise BadImage("the JPEG has far more segments than a camera writes: save it without its metadata")


def _check_png(image: bytes) -> None:
    at, chunks = 8, 0
    while at < len(image):
        at += 12 + int.from_bytes(image[at : at + 4], "big")
        chunks += 1
        if chunks > MAX_CHUNKS:
            raise BadImage(f"the PNG has more than {MAX_CHUNKS} chunks: save it anew")
    if sum(image.count(kind) for kind in _PACKED) > MAX_PACKED:
        raise BadImage(f"the PNG has more than {MAX_PACKED} packed texts or profiles: save it without")


def _check_tiff(image: bytes) -> None:
    """Strips and tiles have to be as many as the sizes say, and may not all be the same bytes."""
    file = io.BytesIO(image)
    head = file.read(8)
    big = head[2] == _BIG_TIFF
    tags = Tiff.ImageFileDirectory_v2(head + file.read(8) if big else head)
    file.seek(tags.next)
    if int.from_bytes(file.read(8 if big else 2), "little" if head.startswith(b"II") else "big") > MAX_TAGS:
        raise BadImage(f"the TIFF has more than {MAX_TAGS} tags: save it anew")
    file.seek(tags.next)
    tags.load(file)
    width, height = int(tags.get(Tiff.IMAGEWIDTH, 1)), int(tags.get(Tiff.IMAGELENGTH, 1))
    planes = int(tags.get(Tiff.SAMPLESPERPIXEL, 1)) if tags.get(Tiff.PLANAR_CONFIGURATION) == _APART else 1
    strips = _pieces(height, tags.get(Tiff.ROWSPERSTRIP, height)) * planes
    tiles = (
        _pieces(width, tags.get(Tiff.TILEWIDTH, width)) * _pieces(height, tags.get(Tiff.TILELENGTH, height)) * planes
    )
    for wanted, offsets, counts in (
        (strips, Tiff.STRIPOFFSETS, Tiff.STRIPBYTECOUNTS),
        (tiles, Tiff.TILEOFFSETS, Tiff.TILEBYTECOUNTS),
    ):
        if wanted > MAX_PIECES or len(tags.get(offsets, ())) > wanted:
            raise BadImage("the TIFF lies in more strips or tiles than its size needs: save it anew, in usual ones")
        sizes = tags.get(counts, ())
        if len(sizes) > 1 and sum(sizes) > OVERLAPPING * len(image):
            raise BadImage("the TIFF's strips or tiles are larger than the file: save it anew")


def _pieces(length: int, each: float) -> int:
    return math.ceil(length / max(1, int(each)))
