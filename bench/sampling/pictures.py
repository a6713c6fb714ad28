"""Real photographs as a camera sees them: each of them still in view in the next frames, a little changed."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from classifier.pixels.dhash import dhash
from classifier.pixels.imaging import to_tensor
from ripeloop.prediction import image_id
from trainer.learning.cache import FeatureCache, NoCache
from trainer.learning.features import SPEC, Extractor, Features, Source, extract

SUFFIXES = (".jpg", ".jpeg", ".png")
_SEEN = 0.94  # of each side: what lies around it comes into view as the thing moves on
_LIGHT = 0.02
_NOISE = 2.0  # of 255, as a camera's sensor has indoors
_QUALITY = 88


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a thing: its bytes, what the trainer sees in it, and what the sampler sees of its looks."""

    id: str
    thing: str
    tag: str
    image: bytes
    features: Features
    dhash: str


@dataclass(frozen=True, slots=True)
class Thing:
    """One photograph, and the frames in which a camera would see it, in their order."""

    name: str
    tag: str
    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class View:
    """How long a thing is in view, in frames, and how far it moves from one to the next, as a share of the picture."""

    frames: int = 1
    step: float = 0.0


Told = Callable[[int, int], None]


def read_things(
    folder: Path, extractor: Extractor, view: View, *, most: int, cache: FeatureCache | NoCache, told: Told
) -> list[Thing]:
    """The photographs of DIR/<tag>/, at most so many a tag, as they are in view; `told` hears how far it is."""
    files = [(path, tag.name) for tag in sorted(folder.iterdir()) if tag.is_dir() for path in _pictures(tag)[:most]]
    frames = view.frames
    images = [_frame(path, number, view.step) for path, _ in files for number in range(frames)]
    looked = []
    for done, features in enumerate(extract([Source.of(image) for image in images], extractor, cache=cache), 1):
        looked.append(features)
        told(done, len(images))
    things = []
    for place, (path, tag) in enumerate(files):
        name = f"{tag}/{path.name}"
        own = slice(place * frames, (place + 1) * frames)
        pairs = zip(images[own], looked[own], strict=True)
        things.append(Thing(name, tag, [_made(name, tag, image, features) for image, features in pairs]))
    return things


def bits_between(things: Sequence[Thing]) -> list[int]:
    """How many bits of the looks differ between a thing's first frame and each later one, where both have looks."""
    return [
        (int(first.dhash, 16) ^ int(frame.dhash, 16)).bit_count()
        for first, *later in (thing.frames for thing in things)
        for frame in later
        if first.dhash and frame.dhash
    ]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _made(name: str, tag: str, image: bytes, features: Features) -> Frame:
    looks = dhash(to_tensor(image, SPEC), full_range=False)
    return Frame(image_id(image), name, tag, image, features, looks)


def _frame(path: Path, number: int, step: float) -> bytes:
    """The photograph as it looks in that frame: moved on, in slightly other light, and encoded anew."""
    rng = np.random.default_rng([number, *path.name.encode()])
    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    width, height = (round(side * _SEEN) for side in whole.size)
    left, top = (
        _offset(side - seen, number * step * side) for side, seen in zip(whole.size, (width, height), strict=True)
    )
    seen = whole.crop((left, top, left + width, top + height))
    lit = np.asarray(seen, np.float64) * (1 + rng.uniform(-_LIGHT, _LIGHT)) + rng.normal(0, _NOISE, (height, width, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _offset(room: int, moved: float) -> int:
    """Where the view begins, never outside."""
    return min(round(moved), room)


def plain(frames: Sequence[Frame]) -> npt.NDArray[np.float64]:
    """The features [frames, size] of the images themselves, as a device has them."""
    return np.stack([frame.features[0] for frame in frames]).astype(np.float64)
