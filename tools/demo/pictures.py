"""The pictures the demo posts: the user's own folder, or bananas drawn for it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ripeloop.errors import SettingsError

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
LEAST_TO_TRAIN = 10  # labelled pictures a tag needs before some are taken to train the demo's model
TRAINED_ON = 6


@dataclass(frozen=True, slots=True)
class Picture:
    """One file, and the tag of the folder it lies in where there is one."""

    path: Path
    tag: str | None


def find(folder: Path) -> list[Picture]:
    """The pictures in `DIR/<tag>/*.jpg`, or straight in `DIR`, in the order of their names. Raises SettingsError."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}; give one that holds pictures: make demo IMAGES=DIR")
    flat = [Picture(path, None) for path in _images_in(folder)]
    tagged = [
        Picture(path, inner.name) for inner in sorted(folder.iterdir()) if inner.is_dir() for path in _images_in(inner)
    ]
    if not flat and not tagged:
        raise SettingsError(
            f"{folder} holds no pictures ({' '.join(sorted(ENDINGS))}), neither straight nor in folders"
        )
    return flat + tagged


def mixed(pictures: Iterable[Picture]) -> list[Picture]:
    """The pictures in an order that mixes the tags, always the same for the same files."""
    return sorted(pictures, key=lambda picture: hashlib.sha256(str(picture.path).encode()).digest())


def split_for_training(pictures: Sequence[Picture]) -> tuple[dict[str, list[Picture]], list[Picture]]:
    """A few pictures of each tag to train on, and the rest to post; none to train on where there are too few."""
    by_tag: Mapping[str, list[Picture]] = defaultdict(list)
    for picture in mixed(pictures):
        if picture.tag is not None:
            by_tag[picture.tag].append(picture)
    enough = {tag: found for tag, found in by_tag.items() if len(found) >= LEAST_TO_TRAIN}
    if len(enough) < 2:
        return {}, list(pictures)
    training = {tag: found[:TRAINED_ON] for tag, found in sorted(enough.items())}
    taken = {picture.path for found in training.values() for picture in found}
    return training, [picture for picture in pictures if picture.path not in taken]


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
