"""Drawn bananas: the same for the same seed anywhere, and as ripe as they are said to be."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from demo.bananas import OVERRIPE_FROM, RIPE_FROM, SIZE, TAGS, Drawn, draw, picture, random_picture, tag_of

DRAW = """
import hashlib
from demo.bananas import random_picture
print(hashlib.sha256(b"".join(random_picture(4, nth).jpeg for nth in range(3))).hexdigest())
"""


def pixels(drawn: Drawn) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(drawn.jpeg)), np.float32)


def test_the_same_seed_draws_the_same_bytes_in_another_process() -> None:
    here = hashlib.sha256(b"".join(random_picture(4, nth).jpeg for nth in range(3))).hexdigest()
    ended = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() == here


def test_another_seed_or_number_draws_another_picture() -> None:
    drawn = [random_picture(4, 0), random_picture(4, 1), random_picture(5, 0)]
    assert len({one.jpeg for one in drawn}) == len({one.name for one in drawn}) == 3


def test_a_picture_is_an_rgb_jpeg_of_the_size_asked_for() -> None:
    for size in (SIZE, 64):
        with Image.open(io.BytesIO(picture(1, 0, 0.5, size).jpeg)) as opened:
            assert (opened.format, opened.mode, opened.size) == ("JPEG", "RGB", (size, size))


@pytest.mark.parametrize(
    ("ripeness", "tag"),
    [(0, "unripe"), (RIPE_FROM - 0.01, "unripe"), (RIPE_FROM, "ripe"), (OVERRIPE_FROM - 0.01, "ripe"),
     (OVERRIPE_FROM, "overripe"), (1, "overripe")],
)  # fmt: skip
def test_the_tag_follows_the_ripeness(ripeness: float, tag: str) -> None:
    assert tag_of(ripeness) == picture(1, 0, ripeness, 32).tag == tag


def test_a_series_holds_all_tags_and_every_picture_its_own() -> None:
    series = [random_picture(9, nth, 32) for nth in range(40)]
    assert {one.tag for one in series} == set(TAGS)
    assert all(one.tag == tag_of(one.ripeness) for one in series)
    assert min(one.ripeness for one in series) < 0.1 < 0.9 < max(one.ripeness for one in series)


def fruit(younger: float, older: float) -> tuple[np.ndarray, np.ndarray]:
    """The mean colours of the same fruit, lying in the same picture, at two ripenesses."""
    pictures = [
        [np.asarray(draw(seed, ripeness, 96), np.float32) for seed in range(4)] for ripeness in (younger, older)
    ]
    young, old = np.array(pictures)
    there = np.abs(old - young).sum(axis=-1) > 30  # nothing else in the picture changes
    return young[there].mean(axis=0), old[there].mean(axis=0)


def test_a_fruit_ripens_from_green_over_yellow_to_brown() -> None:
    green, yellow = fruit(0.0, 0.34)
    spotted, brown = fruit(0.6, 1.0)
    red, of_green, blue = range(3)
    assert green[of_green] > green[red] > green[blue]
    assert yellow[red] > yellow[of_green] > yellow[blue] + 50
    assert yellow.sum() > green.sum()
    assert spotted.sum() > 1.5 * brown.sum()


def test_pictures_differ_in_more_than_the_fruit() -> None:
    corners = np.array([pixels(picture(2, nth, 0.5, 64))[:6, :6].mean(axis=(0, 1)) for nth in range(12)])
    assert (corners.std(axis=0) > 15).all()
