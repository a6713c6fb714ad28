"""Decoding what cameras send, and preparing it as Custom Vision does."""

from __future__ import annotations

import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifier.pixels.decoding import MAX_SIDE, decode
from classifier.pixels.imaging import OLD_CONTAINER, InputSpec, resized, to_tensor
from classifier.pixels.room import Room
from classifier.pixels.scans import scans
from ripeloop.errors import BadImage, BadModel

GOLDEN = Path(__file__).parents[2] / "shared" / "preprocess" / "golden.npz"
RED, GREEN, BLUE = (250, 10, 10), (10, 250, 10), (10, 10, 250)


def encode(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def corner() -> Image.Image:
    """Green, red in the upper left quarter: shows every way of turning and mirroring."""
    image = Image.new("RGB", (40, 24), GREEN)
    image.paste(RED, (0, 0, 20, 12))
    image.paste(BLUE, (20, 0, 40, 12))
    return image


def close(pixel: Any, colour: tuple[int, int, int]) -> bool:
    return all(abs(a - b) < 40 for a, b in zip(pixel, colour, strict=True))


def test_every_golden_tensor_is_met_within_one_255th() -> None:
    if not GOLDEN.exists():
        pytest.skip("needs ../shared/preprocess/golden.npz")
    with np.load(GOLDEN) as golden:
        cases = [name for name in golden.files if name.startswith("t_")]
        for name in cases:
            size, crop, resize, target, crop_size = name[2:].split("|")
            spec = InputSpec(int(target), int(target), crop, resize, int(crop_size))
            tensor = to_tensor(encode(Image.fromarray(golden[f"img_{size}"])), spec)
            assert tensor.shape == (1, *golden[name].shape) == spec.shape
            assert np.abs(tensor[0] * 255 - golden[name]).max() <= 1.001, name
    assert len(cases) >= 20


def slow_bilinear(pixels: np.ndarray[Any, Any], width: int, height: int) -> np.ndarray[Any, Any]:
    """The definition, a pixel at a time in doubles."""
    high, wide = pixels.shape[:2]
    out = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * high / height - 0.5, 0), high - 1)
            u = min(max((x + 0.5) * wide / width - 0.5, 0), wide - 1)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, high - 1), min(x0 + 1, wide - 1)
            across = [pixels[row, x0] * (1 - (u - x0)) + pixels[row, x1] * (u - x0) for row in (y0, y1)]
            out[y, x] = across[0] * (1 - (v - y0)) + across[1] * (v - y0)
    return out


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 7), (8, 4), (16, 16), (31, 50), (301, 5)])
def test_a_stretch_is_bilinear_by_its_definition_at_any_size(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    got = resized(Image.fromarray(pixels), InputSpec(8, 8))
    assert np.abs(got - slow_bilinear(pixels.astype(float), 8, 8)).max() <= 0.51


def test_colour_order_and_range_are_what_the_model_asks_for() -> None:
    image = encode(Image.new("RGB", (20, 20), RED))
    rgb = to_tensor(image, InputSpec(8, 8))
    bgr = to_tensor(image, InputSpec(8, 8, bgr=True, full_range=True))
    assert rgb.dtype == bgr.dtype == np.float32
    assert rgb[0, :, 0, 0] == pytest.approx(np.array(RED) / 255)
    assert bgr[0, :, 0, 0].tolist() == list(reversed(RED))


def test_the_old_container_cuts_the_centre_square_then_the_centre_of_256() -> None:
    image = Image.new("RGB", (400, 200), BLUE)
    image.paste(RED, (100, 0, 300, 200))  # the centre square
    image.paste(GREEN, (100, 0, 110, 200))  # 12.8 of 256 pixels: the cut of 14 on each side takes it away
    spec = InputSpec(227, 227, OLD_CONTAINER, OLD_CONTAINER, bgr=True, full_range=True)
    tensor = to_tensor(encode(image), spec)
    assert tensor.shape == (1, 3, 227, 227)
    assert tensor[0, ::-1].min(axis=(1, 2)).tolist() == tensor[0, ::-1].max(axis=(1, 2)).tolist() == list(RED)


@pytest.mark.parametrize("size", [(4000, 100), (100, 4000), (2000, 1700)])
def test_the_old_container_shrinks_what_is_over_1600_px(size: tuple[int, int]) -> None:
    spec = InputSpec(224, 224, OLD_CONTAINER, OLD_CONTAINER)
    assert to_tensor(encode(Image.new("RGB", size, RED)), spec)[0, 0].min() == pytest.approx(250 / 255)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"crop": "CutCenter"}, "CutCenter"),
        ({"resize": "ByPixelCount"}, "ByPixelCount"),
        ({"resize": "ByShorterSide"}, r"NoCrop\+ByShorterSide"),
        ({"crop": "OneCropCenter", "resize": "ByShorterSide", "crop_size": 300}, "300 px square"),
        ({"crop": "FullImageShorterSide", "resize": "ByShorterSide", "height": 100}, "squares"),
        ({"width": 0}, "makes no sense"),
    ],
)
def test_a_preparation_we_do_not_know_is_refused_loudly(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(BadModel, match=words):
        InputSpec(**{"width": 224, "height": 224} | spec)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "form"), [("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "PNG"), ("P", "PNG"), ("RGB", "TIFF")]
)
def test_a_turned_image_stands_upright_in_every_mode(orientation: int, mode: str, form: str) -> None:
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the way that undoes each orientation, as Pillow numbers them
    image = corner()
    if orientation > 1:
        image = image.transpose(Image.Transpose(turned[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    upright = decode(encode(image, form, exif=exif.tobytes()))
    assert upright.size == (40, 24)
    assert upright.mode == "RGB"
    expected = corner().convert("L" if mode == "L" else "RGB").convert("RGB")
    for at in [(5, 5), (35, 5), (5, 20), (35, 20)]:
        assert close(upright.getpixel(at), expected.getpixel(at)), at  # type: ignore[arg-type]


def native(mode: str, size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(9).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257)
    image = Image.fromarray(noise)
    return image.quantize(200) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("mode", "form"),
    [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    + [(mode, "JPEG") for mode in ("L", "RGB", "CMYK")]
    + [(mode, "TIFF") for mode in ("RGB", "CMYK", "I;16", "I", "F", "LAB", "YCbCr", "P")]
    + [("P", "GIF"), ("RGBA", "WEBP")],
)
def test_reading_only_the_wanted_pixels_gives_what_the_whole_upright_image_gives(
    mode: str, form: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for size in [(61, 40), (33, 90), (5, 7)]:
        image = encode(native(mode, size), form, **({} if form == "GIF" else {"exif": exif.tobytes()}))
        for spec in [
            InputSpec(16, 24, full_range=True),
            InputSpec(37, 37, "OneCropCenter", "ByShorterSide", 30, full_range=True),
            InputSpec(31, 31, "FullImageShorterSide", "ByShorterSide", full_range=True),
        ]:
            whole = resized(decode(image), spec).transpose(2, 0, 1)
            # mirrored, halves may round the other way
            assert np.abs(to_tensor(image, spec)[0] - whole).max() <= (orientation > 1), (size, spec)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_does_not_refuse_the_photograph() -> None:
    image = encode(
        Image.new("RGB", (9, 9), RED), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\xff\xff\x01\x12"
    )
    assert decode(image).size == (9, 9)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_usual_mode_becomes_rgb(mode: str) -> None:
    form = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    image = decode(encode(Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode), form))
    assert image.mode == "RGB"
    assert close(image.getpixel((8, 8)), (255, 255, 255))


def test_transparency_is_dropped_and_the_colour_below_stays() -> None:
    assert decode(encode(Image.new("RGBA", (4, 4), (*RED, 0)))).getpixel((1, 1)) == RED
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, *RED])
    assert decode(encode(palette, transparency=b"\xff\x00")).getpixel((1, 1)) == RED
    assert decode(encode(palette, "GIF", transparency=1)).getpixel((1, 1)) == RED


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(form: str) -> None:
    grey = Image.fromarray(np.full((6, 6), 0x8040, np.uint16))
    assert decode(encode(grey, form)).getpixel((2, 2)) == (0x80, 0x80, 0x80)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_a_file_cut_anywhere_is_refused_or_read_and_never_a_surprise(form: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), form)
    for length in range(1, len(whole) // 2, 37):
        with pytest.raises(BadImage):
            decode(whole[:length])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_flipped_bytes_are_refused_or_read_and_never_a_surprise(form: str) -> None:
    chance = np.random.default_rng(5)
    whole = encode(corner(), form)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in chance.integers(0, len(whole), 3):
            damaged[at] = chance.integers(0, 256)
        with suppress(BadImage):
            assert decode(bytes(damaged)).mode == "RGB"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "empty"),
        (b"hello", "not an image"),
        (b"{}" * 5000, "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encode(Image.new("L", (MAX_SIDE + 1, 2))), "at most 10240 px"),
    ],
)
def test_what_is_no_image_is_refused_in_words(image: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words):
        decode(image)


def test_the_largest_side_is_still_taken() -> None:
    assert decode(encode(Image.new("L", (MAX_SIDE, 2)))).size == (MAX_SIDE, 2)


def test_more_pixels_than_set_are_refused_in_words() -> None:
    image = encode(Image.new("L", (200, 101)))
    assert to_tensor(image, InputSpec(8, 8), Room(20_200)).shape == (1, 3, 8, 8)
    for read in (lambda: to_tensor(image, InputSpec(8, 8), Room(20_199)), lambda: decode(image, Room(20_199))):
        with pytest.raises(BadImage, match="20200 pixels: post one of at most 20199"):
            read()


def test_a_small_tiff_in_one_huge_tile_is_refused_before_it_unpacks() -> None:
    side, data = 20_000, zlib.compress(bytes(1000))
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (325, len(data))]
    tags = sorted([*tags, (324, 8 + 2 + 12 * 10 + 4)])
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    tiff = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data
    with pytest.raises(BadImage, match=f"{side * side} pixels"):
        decode(tiff)


def test_images_wait_for_room_and_one_larger_than_all_of_it_is_decoded_alone() -> None:
    room = Room(size=100)
    together, most, over = 0, 0, []
    changing = threading.Lock()

    def decoding(size: int) -> None:
        nonlocal together, most
        with room.of(size):
            with changing:
                together += size
                most = max(most, together if size <= 100 else 0)
                over.append(size > 100 and together > size)
            time.sleep(0.001)
            with changing:
                together -= size

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(decoding, [60, 30, 300, 50, 20, 101, 10] * 20))
    assert 60 < most <= 100
    assert not any(over)


def test_room_is_given_back_where_an_image_is_damaged() -> None:
    room = Room(size=1)
    whole = encode(corner())
    for _ in range(3):
        with pytest.raises(BadImage):
            decode(whole[: len(whole) // 2], room)
    assert decode(whole, room).size == (40, 24)


def progressive(extra: int, *, noise: bytes = b"") -> bytes:
    """A progressive JPEG whose last scan comes so many times more, each time behind `noise`."""
    whole = encode(corner(), "JPEG", progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:-2] + (noise + whole[last:-2]) * extra + whole[-2:]


def test_a_jpeg_of_very_many_scans_is_refused_and_a_usual_one_is_not() -> None:
    usual = scans(progressive(0))
    assert 5 < usual < 20
    assert scans(progressive(50)) == usual + 50
    assert scans(encode(corner(), "JPEG")) == 1
    decode(progressive(0))
    # what a decoder skips must not hide a scan: a fill byte, a restart, a reserved marker with a huge length behind
    for noise in (b"", b"\xff", b"\xff\xd3", b"\xff\x05\xff\xff", b"\xff\xfe\x00\x02", b"junk\xff\x00"):
        with pytest.raises(BadImage, match="more than 100 scans"):
            decode(progressive(150, noise=noise))


def test_behind_a_first_scan_of_all_colours_no_other_is_looked_for() -> None:
    whole = encode(corner(), "JPEG")
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    twice = whole[:-2] + scan * 150 + whole[-2:]
    assert scans(twice) == 1
    with suppress(BadImage):
        decode(twice)
    one_colour = bytearray(whole)
    one_colour[whole.rindex(b"\xff\xda") + 4] = 1  # of three
    assert scans(bytes(one_colour[:-2]) + scan * 150 + whole[-2:]) > 100


def test_scans_of_a_thumbnail_and_behind_the_end_are_not_counted() -> None:
    whole = encode(corner(), "JPEG")
    many = b"\xff\xda\x00\x02" * 200
    segment = b"\xff\xe1" + (len(many) + 2).to_bytes(2, "big") + many
    assert scans(whole[:2] + segment + whole[2:] + many) == 1


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # as in the module's own process
@pytest.mark.parametrize("side", [10_000, 14_000, 60_000])
def test_a_decompression_bomb_is_refused_before_it_unpacks(side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(BadImage, match=r"far more pixels|at most"):
        decode(bomb)
