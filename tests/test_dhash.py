"""What an image looks like: the same for what a still camera sees twice, far apart for different things."""

from __future__ import annotations

import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from classifier.pixels.dhash import dhash
from classifier.pixels.imaging import InputSpec, to_tensor
from demo.bananas import random_picture
from sampler.keeping.keep import Rules

PHOTOGRAPHS = Path(__file__).resolve().parents[2] / "shared" / "images" / "recycling"
SPEC = InputSpec(224, 224, "NoCrop", "Stretch", crop_size=0, bgr=False, full_range=True)


def look(image: bytes, spec: InputSpec = SPEC) -> str:
    return dhash(to_tensor(image, spec), full_range=spec.full_range)


def apart(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def seen_again(image: Image.Image, rng: np.random.Generator) -> bytes:
    """The same scene a moment later: other light, other noise, other compression."""
    brighter = np.asarray(ImageEnhance.Brightness(image).enhance(rng.uniform(0.9, 1.1)), np.float32)
    noisy = brighter + rng.normal(0, 4, brighter.shape)
    return jpeg(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)), 70)


def tensor(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(grey[np.newaxis, np.newaxis], 3, axis=1).astype(np.float32)


def test_a_bit_says_that_it_gets_brighter_to_the_right() -> None:
    ramp = np.tile(np.arange(224, dtype=np.float32), (224, 1))
    assert dhash(tensor(ramp), full_range=True) == "f" * 64
    assert dhash(tensor(ramp[:, ::-1]), full_range=True) == "0" * 64
    half = np.concatenate([ramp[:112], ramp[112:, ::-1]])
    assert dhash(tensor(half), full_range=True) == "f" * 32 + "0" * 32


def test_the_range_of_the_model_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (227, 300)).astype(np.float32)
    assert dhash(tensor(grey), full_range=True) == dhash(tensor(grey / 256), full_range=False) != ""


@pytest.mark.parametrize("shape", [(224, 224), (16, 17), (1, 1), (15, 400), (400, 16)])
def test_an_image_without_features_or_too_small_looks_like_nothing(shape: tuple[int, int]) -> None:
    assert dhash(tensor(np.full(shape, 200, np.float32)), full_range=True) == ""


def test_drawn_bananas_are_told_apart_and_known_again() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_picture(7, n).jpeg for n in range(25)]
    looks = [look(one) for one in drawn]
    most = Rules().near_distance
    assert min(apart(one, other) for one, other in combinations(looks, 2)) > most
    again = [look(seen_again(Image.open(io.BytesIO(one)).convert("RGB"), rng)) for one in drawn]
    assert np.median([apart(one, other) for one, other in zip(looks, again, strict=True)]) <= most


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not part of the repository")
def test_photographs_of_different_things_are_never_near_duplicates() -> None:
    rng = np.random.default_rng(0)
    files = sorted(PHOTOGRAPHS.glob("*/*"))[::3][:40]
    opened = [Image.open(file).convert("RGB") for file in files]
    for one in opened:
        one.thumbnail((400, 400))
    looks = [look(jpeg(one)) for one in opened]
    most = Rules().near_distance
    assert min(apart(one, other) for one, other in combinations(looks, 2)) > 2 * most
    again = [look(seen_again(one, rng)) for one in opened]
    assert np.median([apart(one, other) for one, other in zip(looks, again, strict=True)]) <= most
