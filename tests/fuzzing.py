"""Bytes that were an image or a form once: real ones of every kind, and ways of damaging them."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

BOUNDARY = "XyZ"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
# what decoders trip over: nothing, all, signs, and sizes just over a limit
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 10_241, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
WORDS = (
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xc2", b"\xff\xe1\x00\x08Exif", b"IHDR", b"IDAT", b"iCCP", b"zTXt"),
    *(b"--XyZ", b"--XyZ--\r\n", b"\r\n", b"\r\n\r\n", b'"', b"\\", b";", b"=", b"name=imageData", b"filename=", b"\0"),
)


def images() -> list[bytes]:
    """Small images of every format, mode and form that the classifier takes."""
    pixels = np.random.default_rng(1).integers(0, 255, (24, 40, 4), np.uint8)
    rgba = Image.fromarray(pixels, "RGBA")
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
    return [
        _saved(rgb, "JPEG"),
        _saved(rgb, "JPEG", progressive=True, exif=turned),
        _saved(rgb, "JPEG", subsampling=0, quality=95, restart_marker_blocks=2),
        _saved(grey, "JPEG", comment=b"line 3"),
        _saved(rgb.convert("CMYK"), "JPEG"),
        _saved(rgba, "PNG", exif=turned),
        _saved(rgb.quantize(16), "PNG", transparency=3),
        _saved(deep, "PNG"),
        _saved(grey.convert("1"), "PNG"),
        _saved(rgb, "BMP"),
        _saved(rgb.quantize(200), "BMP"),
        _saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90)]),
        _saved(rgba, "WEBP", lossless=True),
        _saved(rgb, "WEBP", exif=turned),
        _saved(rgb, "TIFF", compression="tiff_lzw"),
        _saved(rgb, "TIFF", compression="jpeg"),
        _saved(rgb, "TIFF", tiffinfo={278: 4}),  # strips
        _saved(rgb.convert("CMYK"), "TIFF", compression="tiff_adobe_deflate"),
        _saved(deep, "TIFF"),
        _saved(grey.convert("F"), "TIFF"),
    ]


def forms() -> list[bytes]:
    """Bodies of `FORM` as cameras, browsers and SDKs send them."""
    image = images()[0][:64]
    heads = (
        b'Content-Disposition: form-data; name="imageData"; filename="a.jpg"\r\nContent-Type: image/jpeg',
        b'Content-Disposition: form-data; name="imageData"',
        b"content-disposition: form-data;\r\n\tname=photo; filename*=UTF-8''b%20c.png",
        b'Content-Disposition: form-data; name="note"',
    )
    parts = [b"--XyZ\r\n" + head + b"\r\n\r\n" + image + b"\r\n" for head in heads]
    return [parts[0] + b"--XyZ--\r\n", b"".join(parts) + b"--XyZ--", b"preamble\r\n" + parts[2] + b"--XyZ--\r\nend"]


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds, whole or with a few kinds of damage."""
    data = draw(st.sampled_from(seeds))
    for kind in draw(st.lists(st.sampled_from(_DAMAGE), max_size=6)):
        data = kind(draw, data, seeds)
    return data


def _flip(draw: st.DrawFn, data: bytes, _: Any) -> bytes:
    at = _place(draw, data)
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]


def _number(draw: st.DrawFn, data: bytes, _: Any) -> bytes:
    form = draw(st.sampled_from((">H", "<H", ">I", "<I")))
    number = struct.pack(form, draw(st.sampled_from(NUMBERS)) & (0xFFFF if form.endswith("H") else 0xFFFFFFFF))
    at = _place(draw, data)
    return data[:at] + number + data[at + len(number) :]


def _word(draw: st.DrawFn, data: bytes, _: Any) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw(st.sampled_from(WORDS)) + data[at:]


def _cut(draw: st.DrawFn, data: bytes, _: Any) -> bytes:
    return data[: _place(draw, data)]


def _hole(draw: st.DrawFn, data: bytes, _: Any) -> bytes:
    at = _place(draw, data)
    return data[:at] + data[at + draw(st.integers(1, 64)) :]


def _again(draw: st.DrawFn, data: bytes, _: Any) -> bytes:
    at, size = _place(draw, data), draw(st.integers(1, 64))
    return data[:at] + data[at : at + size] * draw(st.integers(2, 20)) + data[at + size :]


def _spliced(draw: st.DrawFn, data: bytes, seeds: Sequence[bytes]) -> bytes:
    other = draw(st.sampled_from(seeds))
    return data[: _place(draw, data)] + other[_place(draw, other) :]


_DAMAGE = (_flip, _number, _word, _cut, _hole, _again, _spliced)


def _place(draw: st.DrawFn, data: bytes) -> int:
    """Anywhere; half of the time near the beginning, where the headers are."""
    return draw(st.integers(0, min(len(data), 64)) | st.integers(0, len(data)))


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()
