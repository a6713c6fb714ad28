"""The holdout: a frozen share of the labelled samples that no model ever learns from, and the folder it is judged in.

Whether a sample is held out is decided once, by its id, and then stands in the mark of its blob (`use`).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from retrain.data.formats import ImageFolder
from retrain.judging.holdout import ENDINGS, MANIFEST, Holdout, LeftOut, find
from retrain.turn.tag.facts import OPEN, Fact, is_held, merged
from retrain.turn.tag.marking import at_once, patiently
from ripeloop.blobs import Blobs
from ripeloop.disk import write_whole
from ripeloop.errors import NotFound, SettingsError
from ripeloop.prediction import image_id
from ripeloop.uncertainty import AUDIT

AT_ONCE = 8

Seen = Callable[[int, int], None]

FROM = "from"
"""A field of the manifest that only lines written here have: the blob's name. Files without it are somebody else's."""

_FILE = re.compile(r"(?!\.)[^/]+/[0-9a-f]{64}\.\w+")
_UNFINISHED = re.compile(r"(.+)\.\d+\.tmp")


def is_held_out(image_id: str, share: float) -> bool:
    """Whether the sample with that id belongs to the given share, 0 to 1, of all samples.

    A larger share holds all of a smaller one. The hash has a salt: nothing else that goes by ids goes along with it.
    """
    digest = hashlib.blake2b(image_id.encode(), digest_size=8, person=b"ripeloop holdout").digest()
    return int.from_bytes(digest) < share * 2**64


@dataclass(frozen=True, slots=True)
class _Place:
    """Where one image belongs in the folder, and the blob it comes from."""

    file: str
    blob: str
    tag: str
    audit: bool

    @property
    def line(self) -> dict[str, str]:
        words = {"file": self.file, "tag": self.tag, FROM: self.blob}
        return words | ({"reason": AUDIT} if self.audit else {})


async def fetch_holdout(
    blobs: Blobs, folder: Path, negative: str = "Negative", seen: Seen = lambda _done, _total: None
) -> Holdout:
    """Make `folder` hold all labelled samples that `tag` held out, and nothing else of ours: `FOLDER/<tag>/<id>.jpg`.

    Files that are right already are not fetched again. Whenever this is killed, what lies there can be judged by.
    `negative` is the tag of images that show none of the others. Files of others and their lines in the manifest stay.
    Raises SettingsError, Offline, Denied.
    """
    places, left_out = await _places(blobs, negative)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = await asyncio.to_thread(_read_manifest, folder)
        wanted = {place.file for place in places.values()}
        ours = {file for file, line in before.items() if FROM in line and _FILE.fullmatch(file)}
        there = await asyncio.to_thread(_files, folder, ours | wanted)
        others = {
            file: line for file, line in before.items() if file not in ours | wanted and (folder / file).is_file()
        }
        lines = others | {place.file: place.line for place in places.values()}
        # until all is in its place, old files keep their old lines: a kill leaves no file under a wrong tag
        await asyncio.to_thread(_write_manifest, folder, before | lines)
        ids = list(places)
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            whys = await at_once([_place(blobs, folder, id_, places[id_], there.get(id_, [])) for id_ in some])
            for place, why in ((places[id_], why) for id_, why in zip(some, whys, strict=True) if why):
                left_out.append(LeftOut(place.file, why))
                lines.pop(place.file)
            seen(start + len(some), len(ids))
        await asyncio.to_thread(_clear, folder, there, wanted)
        await asyncio.to_thread(_write_manifest, folder, lines)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}; name another folder") from error
    if not any(path.suffix.lower() in ENDINGS for path in folder.glob("*/*")):
        return Holdout((), tuple(left_out))
    found = await asyncio.to_thread(find, folder)
    return Holdout(found.cases, (*found.left_out, *left_out))


async def _places(blobs: Blobs, negative: str) -> tuple[dict[str, _Place], list[LeftOut]]:
    """Where each held out and labelled sample belongs, by its id; and those that cannot be judged."""
    found: dict[str, Fact] = {}
    async for blob in blobs.list():
        fact = Fact.of(blob)
        if fact is not None and (fact.kind != OPEN or is_held(fact)):  # the same image may lie there twice
            found[fact.id] = merged((found[fact.id], fact)) if fact.id in found else fact
    labelled = {id_: fact for id_, fact in sorted(found.items()) if fact.labelled and is_held(fact)}
    tags = {id_: fact.wanted(negative) for id_, fact in labelled.items()}
    folders = ImageFolder.of({tag for words in tags.values() for tag in words}).folders
    places = dict[str, _Place]()
    left_out = list[LeftOut]()
    for id_, fact in labelled.items():
        name = PurePosixPath(fact.names[0])
        if len(tags[id_]) > 1:
            left_out.append(LeftOut(f"{id_}{name.suffix}", "it has more tags than one"))
            continue
        (tag,) = tags[id_]
        places[id_] = _Place(f"{folders[tag]}/{id_}{name.suffix}", str(name), tag, fact.audit)
    return places, left_out


async def _place(blobs: Blobs, folder: Path, id_: str, place: _Place, there: list[Path]) -> str:
    """Bring one image to its place; why it cannot be, else nothing."""
    path = folder / place.file
    for old in sorted(there, key=lambda one: one != path):
        if await asyncio.to_thread(_is, old, id_):
            if old != path:
                path.parent.mkdir(parents=True, exist_ok=True)
                await asyncio.to_thread(old.replace, path)
            return ""
    why = ""
    try:
        image = await patiently(lambda: blobs.get(place.blob))
        why = "" if image_id(image) == id_ else "its blob holds other bytes than its name says"
    except NotFound:
        why = "its blob is gone"
    if why:
        path.unlink(missing_ok=True)
        return why
    path.parent.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(write_whole, path, image)
    return ""


def _is(path: Path, id_: str) -> bool:
    try:
        return image_id(path.read_bytes()) == id_
    except FileNotFoundError:
        return False


def _files(folder: Path, ours: set[str]) -> dict[str, list[Path]]:
    """The files of ours that are there, by their ids; what killed writers left of them half written goes."""
    for path in (*folder.glob("*.tmp"), *folder.glob("*/*.tmp")):
        whole = _UNFINISHED.fullmatch(path.relative_to(folder).as_posix())
        if whole and (whole[1] in ours or whole[1] == MANIFEST) and path.is_file():
            path.unlink(missing_ok=True)
    found: dict[str, list[Path]] = {}
    for path in (folder / file for file in sorted(ours)):
        if path.is_file():
            found.setdefault(path.stem, []).append(path)
    return found


def _clear(folder: Path, there: Mapping[str, list[Path]], wanted: set[str]) -> None:
    """Take away the images that no longer belong there, and folders that hold nothing any more."""
    for path in (path for paths in there.values() for path in paths):
        if path.relative_to(folder).as_posix() not in wanted:
            path.unlink(missing_ok=True)
    for inside in {path.parent for paths in there.values() for path in paths}:
        if not any(inside.iterdir()):
            inside.rmdir()


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines by their files; one that cannot be read is left to be written anew."""
    try:
        text = (folder / MANIFEST).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    lines: dict[str, dict[str, Any]] = {}
    for line in text.split("\n"):
        try:
            entry = json.loads(line or "null")
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and isinstance(entry.get("file"), str):
            lines[entry["file"]] = entry
    return lines


def _write_manifest(folder: Path, lines: Mapping[str, Mapping[str, Any]]) -> None:
    text = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for _, line in sorted(lines.items()))
    if not (folder / MANIFEST).is_file() or (folder / MANIFEST).read_text("utf-8", errors="replace") != text:
        write_whole(folder / MANIFEST, text.encode())
