"""A data set in a folder: the images, the index others read, and beside it `dataset.jsonl`, which says all the rest.

What the index says of tags holds, for people edit it, or move a file into another tag's folder. What `dataset.jsonl`
knows of an image (ids, who labelled it and when) is added to that by the file's name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from retrain.data import formats
from retrain.data.dataset import About, Item, Label, Record, Tag, together
from retrain.data.formats import Format, ImageFolder
from retrain.data.transfer import check_tags, in_turn
from retrain.shown import plain
from ripeloop.disk import write_whole
from ripeloop.errors import SettingsError
from ripeloop.prediction import image_id

BESIDE = "dataset.jsonl"
UNFINISHED = "dataset.jsonl.unfinished"
_LONGEST = 200  # characters of a name in an error

Told = Callable[[int], None]
Made = TypeVar("Made", About, Record, Label, Tag)


@dataclass(frozen=True, slots=True)
class Written:
    """How many images a folder has now, how many were there already, and files that are no longer of the data set."""

    images: int
    already: int
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A folder that was read: what it is about, and each image's record by its place."""

    folder: Path
    about: About
    records: Mapping[str, Record]
    left_out: tuple[str, ...] = ()
    """Files that are no images of it, by their places: in no tag's folder, or with another ending."""
    before: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The tags each image had when the folder was written, by its place."""

    def items(self, *, one_tag: bool = False) -> list[Item]:
        """Each image once, however often it lies there, with all of its tags; its id made from its bytes.

        An image that cannot be read is there, too: it is for who reads it to say so. Raises SettingsError where an
        image may have but `one_tag` and lies in two places with two.
        """
        found: dict[str, tuple[str, Record]] = {}
        known = Counter(record.id for record in self.records.values())
        for place, record in self.records.items():
            # an id that two files claim is that of a name they share: only their bytes tell
            id_ = record.id if known[record.id] == 1 and record.id else self._id(place)
            mine = replace(record, id=id_) if id_ in ("", record.id) or not record.id else Record(id_, record.labels)
            if not id_ or id_ not in found:
                found[id_ or place] = place, mine
                continue
            first, before = found[id_]
            both = together(before, mine)
            if one_tag and len(both.labels) > 1:
                raise SettingsError(
                    f"{_shown(first)} and {_shown(place)} are the same image with two tags, the project takes one: "
                    "remove one of them, or give --project with a multilabel project"
                )
            found[id_] = first, both
        return [
            Item(record, self._reader(place), place, self.before.get(place, frozenset()))
            for place, record in found.values()
        ]

    def _id(self, place: str) -> str:
        try:
            return image_id(self._bytes(place))
        except SettingsError:
            return ""

    def _reader(self, place: str) -> Callable[[], bytes]:
        return lambda: self._bytes(place)

    def _bytes(self, place: str) -> bytes:
        try:
            file = self.folder / place
            if file.exists() and not file.is_file():  # a pipe would keep us waiting
                raise SettingsError(f"{_shown(place)} is not a file: take it out of {self.folder}")
            return file.read_bytes()
        except (OSError, ValueError) as error:  # a name may hold what no file system takes
            why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            raise SettingsError(f"{_shown(place)} in {self.folder} cannot be read: {why}") from error


def write(folder: Path, about: About, items: Iterable[Item], name: str, told: Told, prefix: str = "") -> Written:
    """Write the data set in the format of that name. Again, after a kill too, it reads only images that are missing.

    Raises SettingsError, and Refused for a tag that was made meanwhile.
    """
    tags = frozenset(tag.name for tag in about.tags)
    form = formats.named(name, [tag.name for tag in about.tags], prefix)
    _check_free(folder, about, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = _there(folder)
        placed: dict[str, Record] = {}
        already = 0
        with (folder / UNFINISHED).open("a") as journal:
            for place, record, known in in_turn(_checked(items, tags), lambda item: _stored(folder, form, item, there)):
                journal.write(json.dumps({"source": record.source, "place": place}) + "\n")
                journal.flush()
                placed[place] = record
                already += known
                told(len(placed))
        form.write(folder, about, placed)
        _write_beside(folder, about, name, form, placed)
        (folder / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}; name another folder") from error
    left = sorted(place for place in set(there.values()) - set(placed) if (folder / place).is_file())
    return Written(len(placed), already, tuple(left))


def read(folder: Path, name: str = "") -> DataSet:
    """What lies in the folder, in the format of that name or the one it seems to have. Raises SettingsError."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {folder}; give one that holds a data set")
    about, names, beside = _beside(folder)
    name = name or formats.found_in(folder)
    form: Format = ImageFolder(names) if name == "imagefolder" else formats.named(name, ())
    records: dict[str, Record] = {}
    before = dict[str, frozenset[str]]()
    try:
        for place, tags in form.read(folder):
            if not _within(place):
                raise SettingsError(f"{_shown(place)} lies outside of {folder}; put all images into the folder")
            known = beside.get(PurePosixPath(place).name)
            records[place] = _merged(form, place, tags, known)
            before[place] = frozenset(known[1].tags if known else ())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{folder} cannot be read as {name}: {_shown(str(error))}") from error
    by_name = {PurePosixPath(place).name for place in records}
    for file, (place, record) in ((file, one) for file, one in beside.items() if name == "azureml"):
        if file not in by_name and not record.labels and _within(place) and formats.is_file(folder / place):
            records[place] = record  # Azure ML's form has no line for an image without a tag
    names_known = {tag.name for tag in about.tags}
    new = dict.fromkeys(tag for record in records.values() for tag in record.tags if tag not in names_known)
    many = about.multilabel or any(len(record.labels) > 1 for record in records.values())
    about = replace(
        about, tags=(*about.tags, *map(Tag, new)), multilabel=many, name=about.name or folder.resolve().name
    )
    left_out = form.left_out(folder) if isinstance(form, ImageFolder) else ()
    return DataSet(folder, about, records, tuple(left_out), before)


def _checked(items: Iterable[Item], tags: frozenset[str]) -> Iterator[Item]:
    for item in items:
        check_tags(item.record, tags)
        yield item


def _stored(folder: Path, form: Format, item: Item, there: Mapping[str, str]) -> tuple[str, Record, bool]:
    """The image's file at its place: as it is, moved from another tag's folder, or written."""
    old = there.get(item.record.source) if item.record.source else None
    if old is not None and (folder / old).is_file():
        name = PurePosixPath(old).name
        record = replace(item.record, id=item.record.id or PurePosixPath(old).stem)
        place = form.place(record, name)
        if place != old:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / old).replace(folder / place)
        return place, record, True
    image = item.read()
    record = replace(item.record, id=image_id(image))
    place = form.place(record, record.id + formats.ending_of(image))
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    write_whole(folder / place, image)
    return place, record, False


def _there(folder: Path) -> dict[str, str]:
    """The places of images that an earlier run wrote, by their ids at the source."""
    found: dict[str, str] = {}
    for file in (folder / BESIDE, folder / UNFINISHED):
        for line in _lines(file):
            if line.get("source") and _within(str(line.get("place", "..")), parts=2):
                found[str(line["source"])] = str(line["place"])
    return found


def _check_free(folder: Path, about: About, name: str) -> None:
    """Raises SettingsError where another data set, or this one in another format, lies in the folder."""
    first = next(_lines(folder / BESIDE), None)
    if first is None:
        return
    there = first.get("dataset")
    if first.get("format") != name or not isinstance(there, dict) or there.get("project") != about.project:
        raise SettingsError(f"{folder} holds another data set, or this one in another format; name another folder")


def _write_beside(folder: Path, about: About, name: str, form: Format, placed: Mapping[str, Record]) -> None:
    first = {
        "dataset": asdict(about),
        "format": name,
        "folders": dict(form.folders) if isinstance(form, ImageFolder) else {},
    }
    lines = [first, *({"place": place} | asdict(record) for place, record in placed.items())]
    write_whole(folder / BESIDE, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _beside(folder: Path) -> tuple[About, dict[str, str], dict[str, tuple[str, Record]]]:
    """What is said of the data set, its folders' names by tag, and each file's place and record by its name."""
    lines = _lines(folder / BESIDE)
    try:
        first: dict[str, Any] = next(lines, {"dataset": {}, "folders": {}})
        about = dict(first["dataset"])
        about["tags"] = tuple(_texts(Tag(**tag)) for tag in about.get("tags", ()))
        records = {}
        for line in lines:
            place = str(line.pop("place"))
            line["labels"] = tuple(_texts(Label(**label)) for label in line["labels"])
            records[PurePosixPath(place).name] = (place, _texts(Record(**line)))
        return _texts(About(**about)), _words(first["folders"]), records
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SettingsError(
            f"{folder / BESIDE} is damaged ({_shown(str(error))}); take it away, then only the tags count"
        ) from error


def _texts(value: Made) -> Made:
    """The value, if what should be text is. Raises TypeError."""
    for one in fields(value):
        content = getattr(value, one.name)
        if one.type == "str" and not isinstance(content, str):
            raise TypeError(f"{one.name} is no text")
        if one.name == "metadata":
            _words(content)
    return value


def _words(value: object) -> dict[str, str]:
    """An object of texts. Raises TypeError."""
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise TypeError("metadata and folders are objects of texts")
    return dict(value)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; none where there is no file. A line cut short by a kill is left out."""
    try:
        text = file.read_text()
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        try:
            value = json.loads(line or "null")
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _merged(form: Format, place: str, tags: tuple[str, ...], known: tuple[str, Record] | None) -> Record:
    """The record of one file: the tags as the index has them, the rest as it was known."""
    if known is None:
        return Record(labels=tuple(map(Label, tags)))
    old_place, record = known
    if isinstance(form, ImageFolder) and old_place == place:
        return record  # where it was: all of its tags hold, not just the folder's
    labels = {label.tag: label for label in record.labels}
    return replace(record, labels=tuple(labels.get(tag, Label(tag)) for tag in tags))


def _shown(text: str) -> str:
    """A name from outside, for a line of words."""
    return plain(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


def _within(place: str, parts: int = 0) -> bool:
    path = PurePosixPath(place)
    return not path.is_absolute() and ".." not in path.parts and (not parts or len(path.parts) == parts)
