"""Three ways others keep labelled images in a folder: ImageFolder, COCO for classification, Azure ML's JSON lines.

Each knows where an image's file goes, how to write its index, and how to read the tags back from what it finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from PIL import Image, UnidentifiedImageError

from retrain.data.dataset import About, Record
from ripeloop.disk import write_whole
from ripeloop.errors import SettingsError

ENDINGS = {
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".png": "png",
    ".bmp": "bmp",
    ".gif": "gif",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
_BEGINNINGS = {
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"BM": ".bmp",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
UNTAGGED = "untagged"
IMAGES = "images"
COCO = "coco.json"
LINES = "labels.jsonl"
BESIDE = frozenset({COCO, LINES, "manifest.jsonl", "dataset.jsonl", "dataset.jsonl.unfinished"})
"""Files that may lie where the folders of the tags lie: no tag's folder has such a name."""

_LONGEST = 120  # bytes of a folder's name
_UNSAFE = frozenset('<>:"/\\|?*%')


class Format(Protocol):
    """One form of a folder."""

    def place(self, record: Record, name: str) -> str:
        """Where the file of that name goes, from the folder on."""

    def write(self, folder: Path, about: About, placed: Mapping[str, Record]) -> None:
        """Write what others read; `placed` are the records by their files' places. Raises OSError."""

    def read(self, folder: Path) -> Iterable[tuple[str, tuple[str, ...]]]:
        """The place and the tags of each image. Raises SettingsError."""


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """A folder for each tag. An image with many tags lies in that of its first; one with none in `untagged`.

    `folders` are the folders' names by tag, where they are not the tags themselves.
    """

    folders: Mapping[str, str]

    @classmethod
    def of(cls, tags: Iterable[str]) -> ImageFolder:
        """Names that every file system can hold, and that differ in more than capitals."""
        folders: dict[str, str] = {}
        taken = {UNTAGGED, *BESIDE}
        for tag in sorted(tags):
            name = _file_name(tag)
            if name.casefold() in taken:
                name = _shortened(name, tag)
            taken.add(name.casefold())
            folders[tag] = name
        return cls(folders)

    def place(self, record: Record, name: str) -> str:
        """In the folder of the first tag."""
        return f"{self.folders[record.tags[0]] if record.tags else UNTAGGED}/{name}"

    def write(self, folder: Path, about: About, placed: Mapping[str, Record]) -> None:  # noqa: ARG002
        """Make the folders of tags without images, too."""
        for name in self.folders.values():
            (folder / name).mkdir(parents=True, exist_ok=True)

    def read(self, folder: Path) -> Iterable[tuple[str, tuple[str, ...]]]:
        """Every image in every folder in the folder."""
        tags = {name: (tag,) for tag, name in self.folders.items()} | {UNTAGGED: ()}
        for inside in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            for file in sorted(inside.iterdir()):
                # a link to nowhere is an image that is missing; a folder or a pipe is none
                may_be = file.is_file() or not file.exists()
                if may_be and file.suffix.lower() in ENDINGS and not file.name.startswith("."):
                    yield f"{inside.name}/{file.name}", tags.get(inside.name, (inside.name,))

    def left_out(self, folder: Path) -> Iterable[str]:
        """The files that `read` passes over, but for hidden ones and those of the data set itself."""
        for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
            if not path.is_dir():
                if path.name not in BESIDE:
                    yield path.name
                continue
            for file in sorted(path.iterdir()):
                if file.suffix.lower() not in ENDINGS and not file.name.startswith("."):
                    yield f"{path.name}/{file.name}"


class Coco:
    """`coco.json`: images, categories and annotations without boxes; the files lie in `images`."""

    def place(self, record: Record, name: str) -> str:  # noqa: ARG002
        """All in one folder."""
        return f"{IMAGES}/{name}"

    def write(self, folder: Path, about: About, placed: Mapping[str, Record]) -> None:
        """Categories are the tags in their order, numbered from 1."""
        numbers = {tag.name: number for number, tag in enumerate(about.tags, 1)}
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, (place, record) in enumerate(placed.items(), 1):
            width, height = _size(folder / place)
            images.append({"id": number, "file_name": place, "width": width, "height": height})
            for tag in record.tags:
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": numbers[tag]})
        document = {
            "info": {"description": about.name},
            "images": images,
            "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()],
            "annotations": annotations,
        }
        write_whole(folder / COCO, json.dumps(document, indent=1).encode())

    def read(self, folder: Path) -> Iterable[tuple[str, tuple[str, ...]]]:
        """The tags in the order of the annotations."""
        document = _json(folder / COCO, (folder / COCO).read_bytes())
        try:
            names = {one["id"]: str(one["name"]) for one in document["categories"]}
            tags: dict[Any, list[str]] = {one["id"]: [] for one in document["images"]}
            for one in document["annotations"]:
                tags[one["image_id"]].append(names[one["category_id"]])
            for one in document["images"]:
                yield str(one["file_name"]), tuple(dict.fromkeys(tags[one["id"]]))
        except (KeyError, TypeError) as error:
            raise SettingsError(f"{folder / COCO} is not COCO's form: {error!r} is missing or wrong") from error


class AzureMl:
    """`labels.jsonl`, a line an image, as Azure ML's AutoML reads it; images without a tag have no line there.

    `prefix` goes before the image's place to make its `image_url`.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def place(self, record: Record, name: str) -> str:  # noqa: ARG002
        """All in one folder."""
        return f"{IMAGES}/{name}"

    def write(self, folder: Path, about: About, placed: Mapping[str, Record]) -> None:
        """One label is a word, or a list where images may have many."""
        lines = []
        for place, record in placed.items():
            if record.tags:
                width, height = _size(folder / place)
                kind = ENDINGS.get(Path(place).suffix.lower(), "")
                line = {
                    "image_url": self._prefix + place,
                    "image_details": {"format": kind, "width": f"{width}px", "height": f"{height}px"},
                    "label": list(record.tags) if about.multilabel else record.tags[0],
                }
                lines.append(json.dumps(line))
        write_whole(folder / LINES, "".join(f"{line}\n" for line in lines).encode())

    def read(self, folder: Path) -> Iterable[tuple[str, tuple[str, ...]]]:
        """Whatever stands before the last two parts of the address is not looked at, if the file is not found by it."""
        for number, text in enumerate((folder / LINES).read_text().split("\n"), 1):
            if not text.strip():
                continue
            line = _json(folder / LINES, text.encode())
            address, label = line.get("image_url"), line.get("label")
            tags = [label] if isinstance(label, str) else label
            if not isinstance(address, str) or not isinstance(tags, list) or not all(isinstance(t, str) for t in tags):
                raise SettingsError(f"line {number} of {folder / LINES} lacks image_url or label")
            place = address if is_file(folder / address) else "/".join(address.split("/")[-2:])
            yield place, tuple(dict.fromkeys(tags))


NAMES = ("imagefolder", "coco", "azureml")


def named(name: str, tags: Sequence[str], prefix: str = "") -> Format:
    """The format of that name, for these tags."""
    if name == "coco":
        return Coco()
    return AzureMl(prefix) if name == "azureml" else ImageFolder.of(tags)


def found_in(folder: Path) -> str:
    """The name of the format of what lies in a folder."""
    if (folder / COCO).is_file():
        return "coco"
    return "azureml" if (folder / LINES).is_file() else "imagefolder"


def is_file(path: Path) -> bool:
    """Whether that is a file; what no file can be called is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def ending_of(image: bytes) -> str:
    """What a file with these bytes should end in."""
    return next((ending for magic, ending in _BEGINNINGS.items() if image.startswith(magic)), ".jpg")


def _file_name(tag: str) -> str:
    """The tag, with what a file system cannot hold written as in a URL."""
    last = len(tag) - 1
    ends = " ."  # Windows drops them at the end, and a dot at the beginning hides
    name = "".join(
        letter
        if letter.isprintable() and letter not in _UNSAFE and (letter not in ends or 0 < at < last)
        else quote(letter, safe="", errors="surrogatepass").replace(".", "%2E")
        for at, letter in enumerate(tag)
    )
    return name if len(name.encode()) <= _LONGEST else _shortened(name, tag)


def _shortened(name: str, tag: str) -> str:
    """The beginning of the name, and what tells it from others."""
    digest = hashlib.sha256(tag.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{name.encode()[: _LONGEST - 9].decode(errors='ignore')}~{digest}"


def _size(file: Path) -> tuple[int, int]:
    """Width and height; 0 where it is no image, for the index must not fail for one."""
    try:
        with Image.open(file) as image:
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return 0, 0


def _json(file: Path, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise SettingsError(f"{file} does not hold what it should: there must be an object")
    return value
