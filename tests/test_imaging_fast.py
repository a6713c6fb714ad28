"""JPEGs decoded smaller: the same picture, in less time and memory, and answers close to the exact ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifier.models.likeness import MEAN_CHANGE, disagreement
from classifier.models.model import Model, load
from classifier.models.parity import check
from classifier.pixels import decoding
from classifier.pixels.decoding import opened
from classifier.pixels.imaging import OLD_CONTAINER, InputSpec, to_tensor
from classifier.pixels.room import Room
from colours import files, zipped
from lite0 import photographs
from ripeloop.errors import BadImage
from ripeloop.package import Golden, GoldenSet, Package, write
from ripeloop.prediction import Prediction
from trainer.learning.training import train

SPEC = InputSpec(32, 32, full_range=True)
CENTRE = InputSpec(48, 48, "OneCropCenter", "ByShorterSide", 40, full_range=True)
FULL = InputSpec(32, 32, "FullImageShorterSide", "ByShorterSide", full_range=True)


def smooth(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A picture without details, which looks alike however it is made smaller; every corner differs."""
    corners = np.random.default_rng(4).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 97, "subsampling": 0} | options)
    return out.getvalue()


def shrunk(image: bytes, least: int) -> tuple[int, tuple[int, int]]:
    with opened(image, Room(), enough=lambda _: (least, least)) as source:
        return source.shrunk, source.image.size


@pytest.mark.parametrize(
    ("size", "times", "decoded"),
    [
        ((63, 64), 1, (63, 64)),
        ((64, 64), 2, (32, 32)),
        ((127, 500), 2, (64, 250)),
        ((128, 128), 4, (32, 32)),
        ((256, 255), 4, (64, 64)),
        ((259, 257), 8, (33, 33)),
        ((1000, 40), 1, (1000, 40)),
    ],
)
def test_a_jpeg_is_decoded_as_small_as_leaves_what_the_model_sees(
    size: tuple[int, int], times: int, decoded: tuple[int, int]
) -> None:
    assert shrunk(jpeg(smooth(*size)), 32) == (times, decoded)


def test_what_is_enough_is_asked_of_the_upright_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image, asked = jpeg(smooth(300, 100), exif=exif.tobytes()), []

    def enough(size: tuple[int, int]) -> tuple[int, int]:
        asked.append(size)
        return 16, 64

    with opened(image, Room(), enough=enough) as source:
        assert (source.shrunk, source.size, source.decoded) == (4, (100, 300), (25, 75))
    assert asked == [(100, 300)]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(256, 256), (301, 403), (519, 263)])
@pytest.mark.parametrize("spec", [SPEC, CENTRE, FULL])
def test_every_point_stays_where_it_is_however_the_image_is_turned(
    spec: InputSpec, size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = jpeg(smooth(*size), exif=exif.tobytes())
    fast, exact = to_tensor(image, spec, fast=True), to_tensor(image, spec)
    assert not np.array_equal(fast, exact)
    assert np.abs(fast - exact).mean() < 0.6  # half a decoded pixel to the side is 1.5 and more
    assert np.abs(fast - exact).max() < 8


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("L", {}),
        ("CMYK", {}),
        ("RGB", {"progressive": True}),
        ("L", {"progressive": True}),
        ("RGB", {"subsampling": 2}),
        ("RGB", {"restart_marker_blocks": 3}),
    ],
)
def test_every_kind_of_jpeg_may_be_decoded_smaller(mode: str, options: dict[str, Any]) -> None:
    image = jpeg(smooth(403, 301, mode), **options)
    fast, exact = to_tensor(image, SPEC, fast=True), to_tensor(image, SPEC)
    assert shrunk(image, 32)[0] == 8
    assert np.abs(fast - exact).mean() < 0.6


def test_two_pictures_in_one_jpeg_are_read_as_the_first() -> None:
    out = io.BytesIO()
    smooth(400, 300).save(out, "MPO", save_all=True, append_images=[Image.new("RGB", (400, 300))], quality=97)
    fast, exact = to_tensor(out.getvalue(), SPEC, fast=True), to_tensor(out.getvalue(), SPEC)
    assert np.abs(fast - exact).mean() < 0.8


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "BMP"])
def test_other_forms_are_decoded_exactly(form: str) -> None:
    out = io.BytesIO()
    smooth(400, 300).save(out, form)
    assert np.array_equal(to_tensor(out.getvalue(), SPEC, fast=True), to_tensor(out.getvalue(), SPEC))


def test_a_model_of_the_2018_form_is_always_answered_exactly() -> None:
    spec = InputSpec(227, 227, OLD_CONTAINER, OLD_CONTAINER)
    image = jpeg(smooth(1900, 1700))
    assert np.array_equal(to_tensor(image, spec, fast=True), to_tensor(image, spec))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_damaged_jpeg_is_refused_when_decoded_smaller_too(options: dict[str, Any]) -> None:
    whole = jpeg(smooth(400, 300), **options)
    for length in range(1, len(whole) // 2, 997):
        with pytest.raises(BadImage):
            to_tensor(whole[:length], SPEC, fast=True)


class Weighed(Room):
    """Remembers what it was asked for."""

    def __init__(self, max_pixels: int = 40_000_000) -> None:
        super().__init__(max_pixels)
        self.asked: list[int] = []

    def of(self, size: int) -> Any:
        self.asked.append(size)
        return super().of(size)


def test_what_is_weighed_is_what_is_decoded() -> None:
    plain, several = jpeg(smooth(800, 640)), jpeg(smooth(800, 640), progressive=True)
    room = Weighed()
    to_tensor(plain, SPEC, room, fast=True)
    to_tensor(plain, SPEC, room)
    to_tensor(several, SPEC, room, fast=True)
    small, large, with_coefficients = room.asked
    assert small == 100 * 80 * 4
    assert large == 64 * small
    assert with_coefficients == small + 800 * 640 * 8  # all of them are held, however small it is decoded


def test_the_largest_side_in_both_directions_is_taken_as_a_plain_jpeg_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_SIDE", 800)
    room = Room(max_pixels=100_000)
    image = smooth(800, 800)
    assert to_tensor(jpeg(image), SPEC, room, fast=True).shape == SPEC.shape
    with pytest.raises(BadImage, match="640000 pixels: post one of at most 100000"):
        to_tensor(jpeg(image), SPEC, room)
    with pytest.raises(BadImage, match="640000 pixels"):
        to_tensor(jpeg(image, progressive=True), SPEC, room, fast=True)
    with pytest.raises(BadImage, match="at most 800 px a side"):
        to_tensor(jpeg(smooth(801, 100)), SPEC, room, fast=True)


def answers(*ps: float) -> list[Prediction]:
    return [Prediction(str(n), p) for n, p in enumerate(ps)]


def test_fast_answers_may_stand_in_while_they_change_little() -> None:
    same = (answers(0.6, 0.4), answers(0.6, 0.4))
    assert disagreement([]) is None
    assert disagreement([same, (answers(0.6, 0.4), answers(0.52, 0.48))]) is None
    assert "0.060 on average" in str(disagreement([(answers(0.6, 0.4), answers(0.54, 0.46))]))
    other = (answers(0.51, 0.49), answers(0.49, 0.51))
    assert disagreement([other] + [same] * 19) is None
    assert "2 get another tag" in str(disagreement([other] * 2 + [same] * 19))


def dotted() -> Image.Image:
    """Dots just where the exact preparation looks for 32 pixels out of 512: it sees red, a mean of pixels green."""
    pixels = np.zeros((512, 512, 3), np.uint8)
    pixels[..., 1] = 90
    for row in (7, 8):
        for column in (7, 8):
            pixels[row::16, column::16] = (250, 0, 0)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(("picture", "stays"), [(smooth(512, 512), True), (dotted(), False)])
def test_a_model_whose_golden_images_do_not_bear_it_is_answered_exactly(
    tmp_path: Path, picture: Image.Image, stays: bool
) -> None:
    image = jpeg(picture)
    expected = load(zipped(tmp_path / "export.zip")).predict(image)
    golden = GoldenSet((Golden(image, expected),))
    path = tmp_path / "package.zip"
    write(path, Package(files(), golden))
    loaded = load(path, fast=True)
    assert loaded.fast is stays
    check(loaded, golden)  # parity holds in either case
    assert not load(path).fast


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A real model of real photographs."""
    images = {tag: [path.read_bytes() for path in photographs(tag)[:12]] for tag in ("glass", "metal", "paper")}
    path = tmp_path_factory.mktemp("trained") / "model.zip"
    path.write_bytes(train(images).to_zip())
    return load(path, fast=True)


def as_a_camera_takes_it(path: Path, size: tuple[int, int], number: int) -> bytes:
    photograph = Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(number).standard_normal((*size[::-1], 3), np.float32) * 3
    return jpeg(Image.fromarray(np.clip(np.asarray(photograph) + noise, 0, 255).astype(np.uint8)), quality=90)


@pytest.mark.parametrize("size", [(640, 480), (1600, 1200)])
def test_a_real_models_answers_stay_within_the_stated_tolerance(trained: Model, size: tuple[int, int]) -> None:
    """docs/SPEED.md states it: the mean of what changes most, and the likeliest tag of a sure answer."""
    changes = []
    for number, path in enumerate(path for tag in ("glass", "metal", "paper") for path in photographs(tag)[30:38]):
        image = as_a_camera_takes_it(path, size, number)
        exact, fast = trained.predict(image, exact=True), trained.predict(image)
        changes.append(max(abs(a.probability - b.probability) for a, b in zip(exact, fast, strict=True)))
        first, second = sorted((p.probability for p in exact), reverse=True)[:2]
        if first - second > 0.5:
            assert max(exact, key=lambda p: p.probability).tag == max(fast, key=lambda p: p.probability).tag
    assert 0 < np.mean(changes) <= MEAN_CHANGE
    assert max(changes) <= 0.35
