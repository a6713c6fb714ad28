"""What is wanted of a ring: automatic module configurations, which IoT Hub applies to every device that they are for.

Each release to a ring is a configuration of its own, for the content of one cannot be changed. Its number is its
priority: the newest wins. Where it is taken away, IoT Hub applies the one before: that is how a release is undone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from retrain.devices.fleet import Fleet, Twin
from retrain.release.plan import Ring
from retrain.release.wishes import MODEL, Held, Undone, Wish, tell_to_roll_back
from ripeloop.errors import Changed, NotFound
from ripeloop.prediction import format_time

CONTENT = f"properties.desired.{MODEL}"
PREFIX = "ripeloop-"
KEPT = 2  # configurations of one ring: what is wanted, and what was before
MAX_LABEL = 200  # characters


@dataclass(frozen=True, slots=True)
class Ours:
    """A configuration that a release made."""

    id: str
    number: int
    ring: str
    module: str
    section: Mapping[str, Any] = field(repr=False)
    document: Mapping[str, Any] = field(repr=False)

    @property
    def sha256(self) -> str:
        """The package it wants."""
        return str(self.section.get("sha256") or "")


class RingWishes:
    """The configurations of one ring."""

    def __init__(self, fleet: Fleet, ring: Ring, module: str) -> None:
        self._fleet = fleet
        self._ring = ring
        self._module = module

    async def look(self) -> tuple[Wish | None, list[Twin]]:
        """What the newest configuration of this ring wants, and the twins, by one query."""
        ours, twins = await self._all(), await self._twins()
        here = next((one for one in ours if one.ring == self._ring.name), None)
        if here is None:
            return None, twins
        winning = {id_ for twin in twins for id_, status in twin.applied.items() if status == "Applied"}
        winners = [one for one in ours if one.id in winning]
        if here in winners or not any(here.id in twin.applied for twin in twins):  # or the hub has not come to it yet
            return Wish(here.section, here.number), twins
        same = [one.ring for one in winners if one.sha256 == here.sha256]
        return Wish(here.section, here.number, bool(winners) and not same, same[0] if same else ""), twins

    async def newest(self) -> int:
        """The highest number of all rings."""
        return max((one.number for one in await self._all()), default=0)

    async def _twins(self) -> list[Twin]:
        return await self._fleet.modules_where(self._ring.where(self._module))

    async def want(self, section: Mapping[str, Any], number: int) -> None:
        """Make the next configuration; of two that do so at once, the hub takes one.

        Those before the last one are removed: a hub holds a hundred configurations in all.
        """
        await self._fleet.add_configuration(_document(self._ring, self._module, section, number))
        here = await self._here()
        kept = {one.sha256 for one in here[:1]}
        for one in here[1:]:
            if one.sha256 in kept or len(kept) >= KEPT:
                await self._remove(one)
            kept.add(one.sha256)

    async def held(self) -> list[Held]:
        """The configurations of this ring; where it is all devices, those of each ring."""
        return [
            Held(Ring(one.ring), one.number, one.sha256, str(one.section.get("version") or ""))
            for one in self._reached(await self._all())
        ]

    async def undo(self, sha256: str, reason: str, never: Collection[str] = ()) -> Undone:
        """Take this ring's configurations of that package away; where it is all devices, those of each ring."""
        ours = await self._all()
        bad = [one for one in self._reached(ours) if one.sha256 == sha256]
        twins = await self._twins()
        for one in bad:
            await self._remove(one)
        gone, known = {one.id for one in bad}, {one.id for one in ours}
        alone = [
            twin
            for twin in twins
            if not (twin.applied.keys() & known) - gone and (bad or not twin.desired.get(MODEL))  # cut off before this
        ]
        kept = await tell_to_roll_back(self._fleet, alone, self._module, sha256, never)
        applied = {id_ for twin in twins for id_ in twin.applied} - gone  # those of other rings, too
        rest = [one for one in ours if one.id not in gone and (one.ring == self._ring.name or one.id in applied)]
        if bad and rest:
            await self._say(rest[0], f"{bad[0].section.get('version')} {sha256[:12]} undone: {reason}")
        return Undone(Wish(rest[0].section, rest[0].number) if rest else None, kept)

    def _reached(self, ours: list[Ours]) -> list[Ours]:
        return [one for one in ours if not self._ring.condition or one.ring == self._ring.name]

    async def _all(self) -> list[Ours]:
        """The configurations of all rings, the newest first."""
        found = [one for document in await self._fleet.configurations() if (one := _read(document)) is not None]
        return sorted((one for one in found if one.module == self._module), key=lambda one: one.number, reverse=True)

    async def _here(self) -> list[Ours]:
        return [one for one in await self._all() if one.ring == self._ring.name]

    async def _remove(self, one: Ours) -> None:
        with suppress(NotFound):  # somebody was quicker
            await self._fleet.remove_configuration(one.id)

    async def _say(self, one: Ours, note: str) -> None:
        text = "".join(letter if letter.isascii() and letter.isprintable() else " " for letter in note)[:MAX_LABEL]
        labels = dict(one.document.get("labels") or {}) | {"undone": text, "undoneAt": format_time(datetime.now(UTC))}
        with suppress(Changed, NotFound):  # it is a note for people, and somebody is at work there
            await self._fleet.label_configuration(one.document, labels)


def is_ours(id_: str) -> bool:
    """Whether a configuration of that id was made by a release."""
    return id_.startswith(PREFIX)


def _document(ring: Ring, module: str, section: Mapping[str, Any], number: int) -> dict[str, Any]:
    id_ = f"{PREFIX}{module.lower()}-{number:06}"
    applied = f"select deviceId from devices.modules where configurations.[[{id_}]].status = 'Applied'"  # noqa: S608
    states = {
        state: f"{applied} and properties.reported.model.state = '{state}'" for state in ("failed", "rolled_back")
    }
    answers = f"{applied} and properties.reported.model.sha256 = '{section['sha256']}'"
    return {
        "id": id_,
        "schemaVersion": "2.0",
        "labels": {
            "ripeloop": module,
            "ring": ring.name,
            "version": str(section["version"])[:MAX_LABEL],
            "sha256": str(section["sha256"]),
        },
        "content": {"moduleContent": {CONTENT: dict(section)}},
        "targetCondition": f"FROM devices.modules WHERE {ring.where(module)}",
        "priority": number,
        "metrics": {"queries": {"answers": answers} | states},
    }


def _read(document: Mapping[str, Any]) -> Ours | None:
    """A configuration of ours; None for another's."""
    labels = document.get("labels") or {}
    section = ((document.get("content") or {}).get("moduleContent") or {}).get(CONTENT)
    id_ = str(document.get("id") or "")
    if not is_ours(id_) or not isinstance(section, Mapping) or "ripeloop" not in labels:
        return None
    number = int(document.get("priority") or 0)
    return Ours(id_, number, str(labels.get("ring") or ""), str(labels["ripeloop"]), section, document)
