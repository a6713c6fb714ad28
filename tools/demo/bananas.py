"""Photographs of bananas that were never taken: drawn by code, from green to brown, the same for the same seed.

Backgrounds, light, blur, noise, spots, bruises and stickers vary; one to three fruit lie in a picture. Fruit near the
two ripenesses where the tag changes look alike, as they do in life: no model gets all of them right.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Plane = npt.NDArray[Any]
"""One number a pixel, [size, size]; with colours [size, size, 3], 0 to 255, red first."""

TAGS = ("unripe", "ripe", "overripe")
RIPE_FROM = 0.30
OVERRIPE_FROM = 0.68
SIZE = 300

_RIPENESSES = (0, 0.15, 0.32, 0.5, 0.68, 0.85, 1.0)
_SKINS = ((84, 128, 44), (128, 160, 52), (206, 200, 62), (240, 208, 64), (226, 180, 58), (160, 110, 44), (74, 48, 28))
_GREEN_TIPS = np.array([-46, -6, -14], np.float32)
_SPOT = np.array([66, 42, 26], np.float32)
_BRUISE = np.array([60, 44, 30], np.float32)
_STICKER = np.array([40, 90, 190], np.float32)
_DIM, _NOISE = (0.25, 0.16, 0.06), 6.0
_STEM = np.array([58, 48, 28], np.float32)


@dataclass(frozen=True, slots=True)
class Drawn:
    """One picture: `ripeness` 0 (green) to 1 (brown), `jpeg` the file's bytes, `name` its file name."""

    name: str
    tag: str
    ripeness: float
    jpeg: bytes


def tag_of(ripeness: float) -> str:
    """The tag an expert gives a fruit of this ripeness."""
    return TAGS[0] if ripeness < RIPE_FROM else TAGS[1] if ripeness < OVERRIPE_FROM else TAGS[2]


def random_picture(seed: int, nth: int, size: int = SIZE) -> Drawn:
    """Picture `nth` of a series whose ripenesses are drawn evenly from 0 to 1."""
    return picture(seed, nth, float(np.random.default_rng([seed, nth]).random()), size)


def picture(seed: int, nth: int, ripeness: float, size: int = SIZE) -> Drawn:
    """Picture `nth` of a series, as a JPEG file."""
    buffer = io.BytesIO()
    draw((seed, nth), ripeness, size).save(buffer, "JPEG", quality=90)
    return Drawn(f"banana-{seed}-{nth:05}.jpg", tag_of(ripeness), ripeness, buffer.getvalue())


def at_night(one: Drawn, nth: int) -> Drawn:
    """The same under a few dim, yellow lamps, as noisy as a camera is then."""
    seen = np.asarray(Image.open(io.BytesIO(one.jpeg)), np.float32) * np.array(_DIM, np.float32)
    seen += np.random.default_rng(nth).normal(0, _NOISE, seen.shape)
    buffer = io.BytesIO()
    Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return replace(one, name=one.name.replace("banana", "night"), jpeg=buffer.getvalue())


def draw(seed: int | tuple[int, ...], ripeness: float, size: int = SIZE) -> Image.Image:
    """The RGB picture of `size` pixels a side that `seed` stands for, of fruit of this ripeness, 0 to 1."""
    rng = np.random.default_rng(seed)
    scene = _background(rng, size)
    for _ in range(rng.integers(1, 4)):
        body = _Body.lying(rng, size)
        scene *= 1 - 0.45 * _shadow(body.mask)
        skin = _skin(rng, body, float(np.clip(ripeness + rng.normal(0, 0.025), 0, 1)))
        scene += (skin - scene) * body.mask[..., None]
    return _photographed(rng, scene)


@dataclass(frozen=True, slots=True)
class _Body:
    """Where one fruit lies. Of each pixel: `along` the fruit and `across` it, -1 to 1; `mask` 1 inside, 0 outside.

    `x` and `y` are pixels from the fruit's middle, along and off its bent axis; `half_length` and `half_width` are in
    pixels, `angle` in radians.
    """

    x: Plane
    y: Plane
    along: Plane
    across: Plane
    mask: Plane
    half_length: float
    half_width: float
    angle: float

    @classmethod
    def lying(cls, rng: np.random.Generator, size: int) -> _Body:
        """A fruit somewhere near the middle, turned and bent at random."""
        centre_x, centre_y = size * rng.uniform(0.35, 0.65, 2)
        half_length, half_width = size * rng.uniform(0.30, 0.40), size * rng.uniform(0.060, 0.085)
        bend, angle = rng.uniform(0.25, 0.55), rng.uniform(0, 2 * np.pi)
        rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
        right, down = columns - np.float32(centre_x), rows - np.float32(centre_y)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        x, from_chord = right * cos + down * sin, down * cos - right * sin
        along = np.clip(x / np.float32(half_length), -1, 1)
        y = from_chord - np.float32(bend * half_length) * (along**2 - np.float32(0.45))  # the axis is a parabola
        thickness = half_width * np.clip(1 - 0.82 * along**4, 0.12, 1)
        across = y / np.sqrt(1 + (2 * bend * along) ** 2) / thickness
        beyond = np.clip((np.abs(x) - half_length) / (0.35 * half_width), 0, None)
        mask = np.clip((1 - np.hypot(across, beyond)) * thickness / 1.5 + 0.5, 0, 1)
        x, y, along, across, mask = (plane.astype(np.float32) for plane in (x, y, along, across, mask))
        return cls(x, y, along, across, mask, half_length, half_width, angle)


def _skin(rng: np.random.Generator, body: _Body, ripeness: float) -> Plane:
    """The colours of a fruit's skin, in this light, over the whole picture."""
    size = len(body.mask)
    base = [np.interp(ripeness, _RIPENESSES, channel) for channel in zip(*_SKINS, strict=True)]
    colours = np.array(base, np.float32) + 34 * (_mottled(rng, size, 5, 4) - np.float32(0.5))[..., None]
    if ripeness < 0.5:
        tips = np.clip(np.abs(body.along) - 0.62, 0, 1) * np.float32((0.6 - ripeness) * 2)
        colours += tips[..., None] * _GREEN_TIPS
    spotted = float(np.clip((ripeness - 0.42) / 0.5, 0, 1)) ** 1.4
    if spotted > 0:
        spots = _mottled(rng, size, 14, 3)
        colours = _painted(colours, _SPOT, 0.8 * np.clip((spots - np.quantile(spots, 1 - 0.85 * spotted)) * 14, 0, 1))
    if rng.random() < 0.35:  # says nothing of ripeness: to be learnt around
        colours = _painted(colours, _BRUISE if rng.random() < 0.6 else _STICKER, 0.8 * _blot(rng, body, size))
    colours *= _light_on(body)[..., None]
    colours += (np.exp(-(((body.across + 0.35) / 0.18) ** 2)) * np.float32(26 * (1 - ripeness)))[..., None]  # gloss
    return _painted(colours, _STEM, 0.6 * np.clip((np.abs(body.along) - 0.93) * 14, 0, 1))


def _blot(rng: np.random.Generator, body: _Body, size: int) -> Plane:
    """A round spot somewhere on the fruit, 0 to 1."""
    x, y = rng.uniform(-0.5, 0.5) * body.half_length, rng.uniform(-0.3, 0.3) * body.half_width
    radius = size * rng.uniform(0.012, 0.03)
    return np.clip(1.2 - np.hypot(body.x - np.float32(x), body.y - np.float32(y)) / np.float32(radius), 0, 1)


def _light_on(body: _Body) -> Plane:
    """How bright each part of a fruit is: round, with edges along it, lit from one side of the picture."""
    across = body.across
    ridge = 0.5 + 0.5 * np.cos(np.clip(across, -1, 1) * np.float32(np.pi / 2))
    edges = np.abs(np.abs(across) - 0.45) < 0.04
    light = 0.55 + 0.55 * ridge - np.float32(0.18 * np.cos(body.angle)) * across - np.float32(0.10) * edges
    return np.clip(light, 0.25, 1.35).astype(np.float32)


def _painted(colours: Plane, paint: Plane, cover: Plane) -> Plane:
    """`colours` with `paint` over them as thickly as `cover` says, 0 to 1."""
    painted: Plane = colours + (paint - colours) * cover[..., None].astype(np.float32)
    return painted


def _shadow(mask: Plane) -> Plane:
    """The soft shadow of a fruit, a little down and to the right, 0 to 1, [size, size, 1]."""
    size = len(mask)
    moved = np.roll(mask, (int(size * 0.02), int(size * 0.025)), (0, 1))
    soft = Image.fromarray((moved * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(size * 0.018))
    return np.asarray(soft, np.float32)[..., None] / 255


def _background(rng: np.random.Generator, size: int) -> Plane:
    """A white table, a conveyor belt, wood, a blue crate or clutter."""
    kind = rng.integers(0, 5)
    mottle = _mottled(rng, size, 3, 5)[..., None] - np.float32(0.5)
    colours, contrast = (
        ((225, 224, 220), 22),
        ((70, 74, 80), 30),
        ((150, 108, 66), 30),
        ((60, 96, 140), 26),
        ((120, 124, 110), 60),
    )[kind]
    scene = np.array(colours, np.float32) + np.float32(contrast) * mottle
    lines = np.arange(size)[:, None, None]
    if kind == 1:  # the belt's ribs
        scene -= np.float32(14) * (lines % 23 < 2)
    if kind == 2:  # the wood's grain
        scene += np.float32(16) * np.sin(lines * np.float32(0.12) + (mottle + np.float32(0.5)) * 9)
    return scene


def _photographed(rng: np.random.Generator, scene: Plane) -> Image.Image:
    """The scene as a camera gives it: uneven light, a colour cast, noise, and at times out of focus."""
    size = len(scene)
    ramp = np.arange(size, dtype=np.float32) / size - np.float32(0.5)
    sideways, downwards = rng.uniform(-0.25, 0.25, 2).astype(np.float32)
    light = 1 + sideways * ramp[None, :] + downwards * ramp[:, None]
    cast = (1 + rng.normal(0, 0.06, 3)) * rng.uniform(0.68, 1.22)
    noise = rng.standard_normal(scene.shape, np.float32) * np.float32(rng.uniform(1, 6))
    taken = Image.fromarray(
        np.clip(scene * light[..., None] * cast.astype(np.float32) + noise, 0, 255).astype(np.uint8)
    )
    if rng.random() < 0.5:
        taken = taken.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.6))))
    return taken


def _mottled(rng: np.random.Generator, size: int, cells: int, octaves: int) -> Plane:
    """Smooth random blotches, 0 to 1: layers of noise, each twice as fine and half as strong as the one before."""
    layers = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        side = cells * 2**octave
        coarse = Image.fromarray(rng.random((side, side), np.float32))
        layers += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) / np.float32(2**octave)
    layers -= layers.min()
    layers /= layers.max() + np.float32(1e-6)
    return layers
