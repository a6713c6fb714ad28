"""The pictures the demo posts: the user's own folder, or bananas drawn for it."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ripeloop.errors import SettingsError

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
LEAST_TO_TRAIN = 10  # labelled pictures a tag needs before some are taken to train the demo's model
TRAINED_ON = range(5, 21)  # a third of a tag's pictures, but so many at least and at most


@dataclass(frozen=True, slots=True)
class Picture:
    """One file, and the tag of the folder it lies in where there is one."""

    path: Path
    tag: str | None

    @property
    def name(self) -> str:
        """The path's last part as it can be shown: a name need not be text."""
        return os.fsencode(self.path.name).decode(errors="replace")


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
    return sorted(pictures, key=lambda picture: hashlib.sha256(os.fsencode(picture.path)).digest())


def split_for_training(
    pictures: Sequence[Picture], usable: Callable[[Path], bool]
) -> tuple[dict[str, list[Picture]], list[Picture]]:
    """A few `usable` pictures of each tag to train on, and the rest to post; none to train on where too few are.

    A picture that is not usable is posted like any other: the classifier says what is wrong with it.
    """
    by_tag: dict[str, list[Picture]] = defaultdict(list)
    for picture in mixed(pictures):
        if picture.tag is not None:
            by_tag[picture.tag].append(picture)
    training = {
        tag: list(islice((picture for picture in found if usable(picture.path)), _share(len(found))))
        for tag, found in sorted(by_tag.items())
        if len(found) >= LEAST_TO_TRAIN
    }
    training = {tag: found for tag, found in training.items() if len(found) >= TRAINED_ON[0]}
    if len(training) < 2:
        return {}, list(pictures)
    taken = {picture.path for found in training.values() for picture in found}
    return training, [picture for picture in pictures if picture.path not in taken]


def _share(count: int) -> int:
    return max(TRAINED_ON[0], min(TRAINED_ON[-1], count // 3))


def _images_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
