"""Labelled images as a person keeps them: a folder for each tag, named by it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ripeloop.errors import SettingsError

ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})


@dataclass(frozen=True, slots=True)
class Found:
    """The image files of each tag, tags and files in the order of their names, and files that are not images."""

    images: dict[str, tuple[Path, ...]]
    left_out: tuple[Path, ...]

    @property
    def in_order(self) -> list[Path]:
        """All image files, through the tags in their order."""
        return [path for paths in self.images.values() for path in paths]


def find(folder: Path) -> Found:
    """What lies in `DIR/<tag>/`; hidden files and folders are not looked at. Raises SettingsError."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}; give one that holds a folder of images for each tag")
    images, left_out = dict[str, tuple[Path, ...]](), list[Path]()
    for inside in _shown(folder):
        if inside.is_dir():
            files = [path for path in _shown(inside) if not path.is_dir()]  # a link to nowhere shall be named, too
            images[inside.name] = tuple(path for path in files if _by_name_an_image(path))
            left_out += [path for path in files if not _by_name_an_image(path)]
        else:
            left_out.append(inside)
    if not images and any(map(_by_name_an_image, left_out)):
        raise SettingsError(f"the images lie straight in {folder}; put them into folders in it, named by tag")
    return Found(images, tuple(left_out))


def read(path: Path) -> bytes:
    """The file's bytes. Raises SettingsError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error


def _shown(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise SettingsError(f"{folder} cannot be read: {error.strerror or error}; check its permissions") from error


def _by_name_an_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS
