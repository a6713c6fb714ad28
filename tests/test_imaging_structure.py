"""Files that would keep a decoder busy for minutes are refused at a glance; those of cameras and editors are not."""

from __future__ import annotations

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from classifier.pixels.decoding import decode
from ripeloop.errors import BadImage

QUICK = 2.0  # seconds; each of the hostile files took half a minute and more


def saved(form: str, size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **options)
    return out.getvalue()


def segment(data: bytes, kind: int = 0xE1) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", 2 + len(data)) + data


def jpeg(*segments: bytes) -> bytes:
    whole = saved("JPEG")
    return whole[:2] + b"".join(segments) + whole[2:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    whole = saved("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def tiff(
    pieces: int, each: int, *, tiled: bool = False, order: str = "<", compression: int = 1, strip: int = 0
) -> bytes:
    """A grey TIFF of 1000 x 668 pixels that says it lies in so many strips or tiles of `each` rows, all the same."""
    width, height, strip = 1000, 668, strip or 1000 * each
    offsets, counts = (324, 325) if tiled else (273, 279)
    piece = {322: width // 2, 323: each} if tiled else {278: each}
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1, **piece}
    data = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = {tag: (1, value) for tag, value in tags.items()}
    entries |= {offsets: (pieces, data), counts: (pieces, data + 4 * pieces)}
    told = b"".join(struct.pack(f"{order}HHLL", tag, 4, *entries[tag]) for tag in sorted(entries))
    start = struct.pack(f"{order}2sHLH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    where = struct.pack(f"{order}L", data + 8 * pieces) * pieces + struct.pack(f"{order}L", strip) * pieces
    return start + told + bytes(4) + where + b"\x7f" * strip


def many_tags(count: int) -> bytes:
    entries = b"".join(struct.pack("<HHLL", 1000 + n, 7, 1, 0) for n in range(count))
    return b"II*\0" + struct.pack("<LH", 8, count) + entries + bytes(4)


def gif(*extensions: bytes) -> bytes:
    whole = saved("GIF")
    start = 13 + (3 << (whole[10] & 7) + 1)
    return whole[:start] + b"".join(extensions) + whole[start:]


def extension(label: int, *blocks: bytes) -> bytes:
    return bytes((0x21, label)) + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"


def bmp(data: bytes, width: int, height: int, *, bits: int = 8) -> bytes:
    """A run-length encoded BMP."""
    told = struct.pack("<LllHHLLllLL", 40, width, height, 1, bits, 1 if bits == 8 else 2, len(data), 0, 0, 256, 0)
    start = 14 + len(told) + 1024
    return b"BM" + struct.pack("<LLL", start + len(data), 0, start) + told + bytes(range(256)) * 4 + data


def rows(width: int, height: int) -> bytes:
    """Rows of pixels that are never alike, as an editor writes them."""
    picture = np.random.default_rng(1).integers(0, 255, (height, width), np.uint8)
    out = bytearray()
    for row in picture:
        for at in range(0, width, 254):
            piece = row[at : at + 254].tobytes()
            out += bytes((0, len(piece))) + piece + bytes(len(piece) % 2)
        out += b"\0\0"
    return bytes(out + b"\0\1")


PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20), 9))
TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 19), 9))
HOSTILE = {
    "TIFF, strips in one place": (lambda: tiff(400_000, 334), "more strips or tiles"),
    "TIFF, big-endian": (lambda: tiff(400_000, 334, order=">"), "more strips or tiles"),
    "TIFF, tiles in one place": (lambda: tiff(400_000, 334, tiled=True), "more strips or tiles"),
    "TIFF, one strip too many": (lambda: tiff(3, 334), "more strips or tiles"),
    "TIFF, packed strips over one another": (lambda: tiff(668, 400, compression=8), "more strips"),
    "TIFF, strips that overlap": (lambda: tiff(84, 8, strip=60_000), "larger"),
    "TIFF, tags": (lambda: many_tags(60_000), "tags"),
    "JPEG, Exif in pieces": (
        lambda: jpeg(segment(b"Exif\0\0" + b"x" * 60_000) * 32, segment(b"Exif\0\0y") * 190_000), "segments",
    ),
    "JPEG, comments": (lambda: jpeg(segment(b"", 0xFE) * 500_000), "segments"),
    "JPEG, profiles": (lambda: jpeg(segment(b"ICC_PROFILE\0\1\1", 0xE2) * 100_000), "segments"),
    "JPEG, Exif behind a marker without bytes": (
        lambda: jpeg(b"\xff\xf0\xff\xe0" + segment(b"Exif\0\0y") * 100_000), "segments",
    ),
    "JPEG, padding": (lambda: jpeg(b"\xff" * 3_000_000), "segments"),
    "PNG, profiles": (lambda: png(PROFILE * 1000), "packed"),
    "PNG, texts": (lambda: png(TEXT * 1000), "packed"),
    "PNG, chunks": (lambda: png(chunk(b"abCd") * 300_000), "chunks"),
    "BMP, many runs": (lambda: bmp(b"\1\7" * 2_000_000, 2000, 2000), "without compression"),
    "BMP, many pixels": (lambda: bmp(b"\xff\x12" * 400_000, 10_000, 10_000, bits=4), "without compression"),
    "BMP, many pixels from the top": (lambda: bmp(b"\xff\x12" * 400_000, 10_000, -10_000), "without compression"),
    "GIF, a comment in pieces": (lambda: gif(extension(0xFE, *[b"x"] * 2_000_000)), "blocks before its picture"),
    "GIF, comments": (lambda: gif(extension(0xFE, b"x") * 700_000), "blocks before its picture"),
    "GIF, empty comments": (lambda: gif(b"\x21\xfe\0" * 1_000_000), "blocks before its picture"),
    "GIF, notes of an application": (
        lambda: gif(extension(0xFF, b"NETSCAPE2.0", *[b"x"] * 1_900_000)), "blocks before its picture",
    ),
    "GIF, notes behind an empty block": (
        lambda: gif(b"\x21\xf9\0" + b"\1x" * 1_900_000 + b"\0"), "blocks before its picture",
    ),
    "GIF, notes behind an empty block and a comma": (
        lambda: gif(b"\x21\xff\0" + b"\1," * 1_900_000 + b"\0"), "blocks before its picture",
    ),
    "GIF, stray bytes": (lambda: gif(b"x" * 4_000_000), "no picture"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_take_minutes_is_refused_at_a_glance(name: str) -> None:
    make, words = HOSTILE[name]
    image, started = make(), time.thread_time()
    with pytest.raises(BadImage, match=words):
        decode(image)
    assert time.thread_time() - started < QUICK


def texts() -> PngImagePlugin.PngInfo:
    told = PngImagePlugin.PngInfo()
    for n in range(20):
        told.add_text(f"note {n}", "x" * 1000, zip=n % 2 == 0)
    told.add_itxt("XML:com.adobe.xmp", "<x/>", zip=True)
    return told


EXIF = Image.Exif()
EXIF[0x010F] = "a camera"
HONEST = {
    "JPEG, Exif, XMP, a long profile and a comment": lambda: saved(
        "JPEG", exif=EXIF, icc_profile=bytes(300_000), comment=b"line 3", xmp=b"<x/>"
    ),
    "JPEG, Exif in several segments": lambda: jpeg(segment(b"Exif\0\0" + b"x" * 60_000) * 8),
    "JPEG, XMP in a hundred": lambda: jpeg(segment(b"http://ns.adobe.com/xmp/extension/\0" + b"x" * 30_000) * 100),
    "JPEG, fill bytes": lambda: jpeg(b"\xff" * 40, segment(b"a"), b"\xff" * 40),
    "MPO of three": lambda: saved("MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))] * 2, exif=EXIF),
    "PNG, texts and a profile": lambda: saved("PNG", pnginfo=texts(), icc_profile=bytes(3000), exif=EXIF),
    "PNG, animated": lambda: saved(
        "PNG", save_all=True, append_images=[Image.new("RGB", (64, 48), (n, 0, 0)) for n in range(80)]
    ),
    "TIFF, strips of 8 rows": lambda: saved("TIFF", (1000, 668), tiffinfo={278: 8}),
    "TIFF, big-endian strips": lambda: tiff(2, 334, order=">"),
    "TIFF, tiles": lambda: tiff(4, 334, tiled=True),
    "TIFF, packed strips": lambda: saved("TIFF", (900, 600), compression="tiff_lzw", tiffinfo={278: 2}),
    "TIFF, a strip a row": lambda: saved("TIFF", (5, 5000), tiffinfo={278: 1}),
    "TIFF, JPEG": lambda: saved("TIFF", (900, 600), compression="jpeg"),
    "BMP": lambda: saved("BMP", (4000, 3000)),
    "BMP, a screen in runs": lambda: bmp(rows(1920, 1080), 1920, 1080),
    "BMP, runs of half bytes": lambda: bmp((b"\xf0\x12" * 8 + b"\0\0") * 1000 + b"\0\1", 1920, 1000, bits=4),
    "GIF": lambda: saved("GIF", (640, 480)),
    "GIF, a comment and a profile": lambda: gif(
        extension(0xFE, b"line 3"), extension(0xFF, b"ICCRGBG1012", *[bytes(255)] * 2000), extension(0xFE)
    ),
    "GIF, animated": lambda: saved(
        "GIF", save_all=True, loop=0, append_images=[Image.new("RGB", (64, 48), (n, 0, 0)) for n in range(80)]
    ),
    "GIF, notes in XMP": lambda: gif(
        extension(0xFF, b"XMP DataXMP")[:-1] + b"<x:xmpmeta note='a b'/>" * 9000 + bytes([1, *range(255, -1, -1), 0])
    ),
    "BigTIFF": lambda: saved("TIFF", big_tiff=True),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_what_cameras_and_editors_write_is_taken(name: str) -> None:
    assert decode(HONEST[name]()).mode == "RGB"
