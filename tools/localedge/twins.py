"""Module twins: what the cloud wants and what modules say, with IoT Hub's limits.

A twin lives twice: at IoT Hub, where the service changes it, and at edge hub, where the module sees it. `Twins.sync`
makes both the same, and is called only while upstream is online.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from localedge import jsontext
from localedge.database import Database
from ripeloop.errors import Refused, SettingsError

MAX_DEPTH: Final = 10
MAX_VALUE_BYTES: Final = 4096
MAX_NAME_BYTES: Final = 1024
MAX_DOCUMENT_BYTES: Final = 32 * 1024
LARGEST_WHOLE: Final = 2**52 - 1
SMALLEST_WHOLE: Final = -(2**52)

Document = dict[str, Any]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Section:
    """Desired or reported properties, with the number of their last change."""

    values: Document = field(default_factory=dict)
    version: int = 1
    updated: str = field(default_factory=_now)

    def changed(self, patch: Document) -> Section:
        """The section after a patch. Raises Refused where that is over a limit."""
        check(patch)
        values = merge(self.values, patch)
        size = len(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_DOCUMENT_BYTES:
            raise Refused(f"the properties are {size} bytes; the limit is {MAX_DOCUMENT_BYTES}")
        return Section(values, self.version + 1)


@dataclass(frozen=True, slots=True)
class Twin:
    """One twin, at IoT Hub and at edge hub."""

    desired: Section = field(default_factory=Section)
    """As IoT Hub has it."""
    reported: Section = field(default_factory=Section)
    """As edge hub has it."""
    desired_at_edge: Section = field(default_factory=Section)
    reported_at_hub: Section = field(default_factory=Section)
    tags: Document = field(default_factory=dict)
    revision: int = 1
    """Counts the service's changes."""

    @property
    def etag(self) -> str:
        """IoT Hub's name for this state of the twin."""
        return base64.b64encode(self.revision.to_bytes(8, "big")).decode()

    def for_module(self) -> Document:
        """The twin as edge hub gives it to the module."""
        return {
            "desired": {**self.desired_at_edge.values, "$version": self.desired_at_edge.version},
            "reported": {**self.reported.values, "$version": self.reported.version},
        }


@dataclass(frozen=True, slots=True)
class DesiredChange:
    """What the module must be told after a sync."""

    patch: Document
    version: int

    def body(self) -> bytes:
        """The patch as edge hub sends it; the SDK needs its $version."""
        return json.dumps({**self.patch, "$version": self.version}).encode()


class Twins:
    """The twins of a device and its modules on disk; the device's own has the name ''."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, name: str) -> Twin:
        """The twin; a new one where there is none."""
        rows = self._db.read("SELECT document FROM twin WHERE name = ?", (name,))
        return _load(json.loads(rows[0][0])) if rows else Twin()

    def change(self, name: str, desired: Document, tags: Document) -> asyncio.Future[None]:
        """The service's change, at IoT Hub. Raises Refused where it is over a limit."""
        twin = self.get(name)
        if desired:
            twin = replace(twin, desired=twin.desired.changed(desired))
        if tags:
            twin = replace(twin, tags=Section(twin.tags).changed(tags).values)
        return self._put(name, replace(twin, revision=twin.revision + 1))

    def replace_desired(self, name: str, values: Document) -> asyncio.Future[None]:
        """A deployment's desired properties, in place of all others."""
        twin = self.get(name)
        desired = Section(values, twin.desired.version + 1)
        return self._put(name, replace(twin, desired=desired, revision=twin.revision + 1))

    def report(self, name: str, patch: Document) -> tuple[int, asyncio.Future[None]]:
        """The module's change, at edge hub: its version, and a future for the disk. Raises Refused."""
        twin = self.get(name)
        reported = twin.reported.changed(patch)
        return reported.version, self._put(name, replace(twin, reported=reported))

    def sync(self, name: str) -> DesiredChange | None:
        """Bring both sides up to date; returns what is new for the module."""
        twin = self.get(name)
        behind = twin.desired.version != twin.desired_at_edge.version
        if not behind and twin.reported.version == twin.reported_at_hub.version:
            return None
        self._put(name, replace(twin, desired_at_edge=twin.desired, reported_at_hub=twin.reported))
        if not behind:
            return None
        return DesiredChange(difference(twin.desired_at_edge.values, twin.desired.values), twin.desired.version)

    def names(self) -> list[str]:
        """The twins there are."""
        return [row[0] for row in self._db.read("SELECT name FROM twin")]

    def drop(self, name: str) -> None:
        """Forget a twin, with its module."""
        self._db.write("DELETE FROM twin WHERE name = ?", [(name,)])

    def _put(self, name: str, twin: Twin) -> asyncio.Future[None]:
        return self._db.write("INSERT OR REPLACE INTO twin VALUES (?, ?)", [(name, json.dumps(asdict(twin)))])


def merge(document: Mapping[str, Any], patch: Mapping[str, Any]) -> Document:
    """The document after a patch: null takes a key away, objects are merged, all else is replaced."""
    merged = dict(document)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            below = merged.get(name)
            merged[name] = merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Document:
    """The patch that makes `new` of `old`."""
    patch: Document = dict.fromkeys(name for name in old if name not in new)
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            if below := difference(before, value):
                patch[name] = below
        elif name not in old or before != value or type(before) is not type(value):
            patch[name] = value
    return patch


def check(patch: Document) -> None:
    """Let a patch pass that is within IoT Hub's limits. Raises Refused."""
    for name, value in patch.items():
        _check_name(name)
        _check_value(name, value, 1, in_array=False)


def check_desired(sections: Mapping[str, Document]) -> None:
    """Let modules' desired properties pass that are within IoT Hub's limits. Raises SettingsError.

    The sections of system modules follow schemas of their own.
    """
    for name, desired in sections.items():
        if name.startswith("$"):
            continue
        try:
            Section().changed(desired)
        except Refused as error:
            raise SettingsError(f"{name} properties.desired: {error}") from None


def parse_patch(body: bytes) -> Document:
    """The JSON object in a patch. Raises Refused."""
    try:
        patch = jsontext.read(body)
    except Refused as error:
        raise Refused(f"the patch is not JSON: {error}") from None
    if not isinstance(patch, dict):
        raise Refused("the patch is not an object")
    return patch


def _check_name(name: str) -> None:
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        raise Refused(f"the name {name[:10]}… is over {MAX_NAME_BYTES} bytes")
    if any(letter in ".$#" or letter.isspace() or ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name):
        raise Refused(f"the name {name!r} holds a dot, $, #, a space or a control character")


def _check_value(name: str, value: object, depth: int, *, in_array: bool) -> None:
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise Refused(f"{name} is nested deeper than {MAX_DEPTH}")
        _check_inside(name, value, depth + 1, in_array=in_array)
    elif value is None and in_array:
        raise Refused(f"{name}: an array may not hold null")
    elif isinstance(value, int) and not SMALLEST_WHOLE <= value <= LARGEST_WHOLE:
        raise Refused(f"{name}: {value} is not between -2^52 and 2^52 - 1")
    elif isinstance(value, str) and len(value.encode(errors="replace")) > MAX_VALUE_BYTES:
        raise Refused(f"{name}: a value over {MAX_VALUE_BYTES} bytes")


def _check_inside(name: str, value: Document | list[object], depth: int, *, in_array: bool) -> None:
    if isinstance(value, list):
        for item in value:
            _check_value(name, item, depth, in_array=True)
        return
    for key, item in value.items():
        _check_name(key)
        _check_value(key, item, depth, in_array=in_array)


def _load(stored: Document) -> Twin:
    sections = ("desired", "reported", "desired_at_edge", "reported_at_hub")
    fields: dict[str, Any] = {name: Section(**stored[name]) for name in sections}
    return Twin(tags=stored["tags"], revision=stored["revision"], **fields)
