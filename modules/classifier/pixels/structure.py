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
MAX_RLE_PIXELS = 4 * 1024 * 1024  # of a run-length BMP, which Pillow unpacks one by one in Python
MAX_RLE_BYTES = 2560 * 1024  # of it; a screen of 1920x1080 has 2 MB where no two pixels are alike
MAX_BLOCKS = 20_000  # before the first picture of a GIF; a profile and notes of a megabyte have some thousands
OVERLAPPING = 4  # times as many bytes as the file has; some writers count bytes before they are packed

_PACKED = (b"iCCP", b"zTXt", b"iTXt")
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_APP1, _SOS = 0xFFE1, 0xFFDA
_BIG_TIFF, _APART = 43, 2
_RLE8, _RLE4, _SHORT_HEADER = 1, 2, 12
_COMMENT, _APPLICATION = b"\xfe", b"\xff"


def check(image: bytes) -> None:
    """Raises BadImage for a file that would take far longer than its size lets expect."""
    if image.startswith(b"\xff\xd8\xff"):
        _check_jpeg(image)
    elif image.startswith(b"\x89PNG"):
        _check_png(image)
    elif image.startswith(tuple(Tiff.PREFIXES)):
        _check_tiff(image)
    elif image.startswith(b"BM"):
        _check_bmp(image)
    elif image.startswith(b"GIF8"):
        _check_gif(image)


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


def _check_bmp(image: bytes) -> None:
    header, width, height = (int.from_bytes(image[at : at + 4], "little") for at in (14, 18, 22))
    if header == _SHORT_HEADER or int.from_bytes(image[30:34], "little") not in (_RLE8, _RLE4):
        return
    pixels = width * min(height, 2**32 - height)  # from top to bottom, it is negative
    if pixels > MAX_RLE_PIXELS or len(image) > MAX_RLE_BYTES:
        raise BadImage("the BMP is run-length encoded and large, which takes too long: save it without compression")


def _check_gif(image: bytes) -> None:
    """Walks the blocks before the first picture as Pillow does, so that none can be hidden from this."""
    blocks, at = 0, 13 + (3 << (image[10] & 7) + 1 if len(image) > 10 and image[10] & 0x80 else 0)

    def skip() -> int:
        """Steps over one block; its size."""
        nonlocal at, blocks
        size = image[at] if at < len(image) else 0
        at, blocks = at + 1 + size, blocks + 1
        if blocks > MAX_BLOCKS:
            raise BadImage(f"the GIF has more than {MAX_BLOCKS} blocks before its picture: save it without comments")
        return size

    while at < len(image) and image[at] not in b",;":
        if image[at] != ord("!"):  # a stray byte
            blocks, at = blocks + 1, at + 1
            if blocks > MAX_BLOCKS:
                raise BadImage("the GIF has no picture where one is expected: save it anew")
            continue
        label, first = image[at + 1 : at + 2], at + 3
        at += 2
        size = skip()
        if label == _APPLICATION and size and image.startswith(b"NETSCAPE2.0", first):
            skip()
        more = size > 0 or label != _COMMENT  # behind an empty first block of any other kind Pillow reads on
        while more:
            more = skip() > 0


def _pieces(length: int, each: float) -> int:
    return math.ceil(length / max(1, int(each)))
