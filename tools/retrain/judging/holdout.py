"""The holdout: labelled images that no model was trained on, as folders by tag.

`DIR/<tag>/*.jpg`, and where wished `DIR/manifest.jsonl` beside, one JSON object a line: `file` (its path in DIR),
`reason` (`audit` for an image kept by lot) and `tag` (where the folder's name cannot be it). Other fields are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ripeloop.errors import SettingsError
from ripeloop.prediction import MAX_TEXT
from ripeloop.uncertainty import AUDIT

MANIFEST = "manifest.jsonl"
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"})
MAX_MANIFEST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Case:
    """One image of the holdout: its `name` is its path in the folder, `tag` its label; `audit`: kept by lot."""

    name: str
    tag: str
    path: Path
    audit: bool = False


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An image that is not judged, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Holdout:
    """The images in the order of their names, and what else lies in the folder or is missing from it."""

    cases: tuple[Case, ...]
    left_out: tuple[LeftOut, ...] = ()


def find(folder: Path) -> Holdout:
    """The holdout in `folder`; hidden files and folders are not looked at. Raises SettingsError."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}; give one that holds a folder of images for each tag")
    said = _manifest(folder / MANIFEST)
    cases, left_out = list[Case](), list[LeftOut]()
    for inside in (path for path in _shown(folder) if path.is_dir()):
        for path in (path for path in _shown(inside) if not path.is_dir()):
            name = f"{inside.name}/{path.name}"
            about = said.pop(name, {})
            if path.suffix.lower() in ENDINGS:
                cases.append(Case(name, about.get("tag", inside.name), path, about.get("reason") == AUDIT))
            else:
                left_out.append(LeftOut(name, "by its name no image"))
    left_out += [LeftOut(name, f"named in {MANIFEST}, and not there") for name in said]
    if not cases:
        raise SettingsError(f"there is no image in the folders in {folder}; put them into DIR/<tag>/, named by tag")
    return Holdout(tuple(cases), tuple(left_out))


def images_in(folder: Path) -> list[Path]:
    """The image files in `folder` and the folders in it, by their names. Raises SettingsError where there is none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise SettingsError(f"there is no image in {folder}; give a folder that holds some")
    return found


def _manifest(path: Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of each file; nothing where there is none."""
    if not path.exists():
        return {}
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise SettingsError(f"{path} has more than {MAX_MANIFEST_BYTES} bytes; a line for each image is enough")
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); write it again, or take it away") from error
    said: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            entry = _entry(line, f"line {number} of {path}")
            if entry["file"] in said:
                raise SettingsError(f"line {number} of {path} names {entry['file'][:200]} again; name each file once")
            said[entry["file"]] = entry
    return said


def _entry(line: str, where: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise SettingsError(f'{where} must be an object like {{"file": "ripe/1.jpg", "reason": "audit"}}')
    tag = entry.get("tag", "?")
    if not isinstance(tag, str) or not 0 < len(tag) <= MAX_TEXT:
        raise SettingsError(f"{where}: its tag must be a text of 1 to {MAX_TEXT} characters")
    return entry


def _shown(folder: Path) -> Sequence[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise SettingsError(f"{folder} cannot be read: {error.strerror or error}; check its permissions") from error
