"""Module twins: what the cloud wants and what modules say, with IoT Hub's limits.

A twin lives twice: at IoT Hub, where the service changes it, and at edge hub, where the module sees it. `Twins.sync`
makes both the same, and is called only while upstream is online.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from localedge import jsontext
from localedge.database import Database
from manifests.limits import check, check_size
from ripeloop.errors import Refused, SettingsError

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
        check_size(values)
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
    configurations: Document = field(default_factory=dict)
    """The module configurations that target it, by id, with their status."""
    configured: Document = field(default_factory=dict)
    """What the strongest of them set, by the dotted path below the desired properties."""

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
        rows = database.read("SELECT name, document FROM twin ORDER BY name")
        self._twins = {name: _load(json.loads(document)) for name, document in rows}

    def get(self, name: str) -> Twin:
        """The twin; a new one where there is none."""
        return self._twins.get(name) or Twin()

    def change(self, name: str, desired: Document, tags: Document) -> asyncio.Future[None]:
        """The service's change, at IoT Hub. Raises Refused where it is over a limit."""
        twin = self.get(name)
        if desired:
            twin = replace(twin, desired=twin.desired.changed(desired))
        if tags:
            twin = replace(twin, tags=Section(twin.tags).changed(tags).values)
        return self._put(name, replace(twin, revision=twin.revision + 1))

    def configure(self, name: str, configured: Document, statuses: Document) -> bool:
        """Have a module configuration's content be so, in place of the last one's; False where nothing changes."""
        twin = self.get(name)
        wanted = copy.deepcopy(twin.desired.values)
        for path in twin.configured:
            _remove(wanted, path.split("."))
        for path, value in configured.items():
            lay(wanted, path.split("."), value)
        patch = difference(twin.desired.values, wanted)
        if not patch and (twin.configured, twin.configurations) == (configured, statuses):
            return False
        desired = twin.desired.changed(patch) if patch else twin.desired
        changed = replace(twin, desired=desired, configured=configured, configurations=statuses)
        self._put(name, replace(changed, revision=twin.revision + 1))
        return True

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
        return list(self._twins)

    def exists(self, name: str) -> bool:
        """Whether there is a twin of this name."""
        return name in self._twins

    def all(self) -> dict[str, Twin]:
        """Every twin by its name."""
        return dict(self._twins)

    def drop(self, name: str) -> None:
        """Forget a twin, with its module."""
        self._twins.pop(name, None)
        self._db.write("DELETE FROM twin WHERE name = ?", [(name,)])

    def _put(self, name: str, twin: Twin) -> asyncio.Future[None]:
        self._twins[name] = twin
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


def lay(document: Document, path: list[str], value: Any) -> None:
    """Put a copy of the value at the path; what is no object on the way becomes one."""
    *steps, last = path
    for step in steps:
        below = document.get(step)
        if not isinstance(below, dict):
            below = document[step] = {}
        document = below
    document[last] = copy.deepcopy(value)


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


def _remove(document: Document, path: list[str]) -> None:
    *steps, last = path
    for step in steps:
        below = document.get(step)
        if not isinstance(below, dict):
            return
        document = below
    document.pop(last, None)


def _load(stored: Document) -> Twin:
    sections = ("desired", "reported", "desired_at_edge", "reported_at_hub")
    fields: dict[str, Any] = {name: Section(**stored[name]) for name in sections}
    for name in ("configurations", "configured"):  # twins of earlier versions of this program have none
        fields[name] = stored.get(name, {})
    return Twin(tags=stored["tags"], revision=stored["revision"], **fields)
