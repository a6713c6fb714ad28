"""What is wanted of one device: a property of its module's twin. What was wanted before stands in the twin's tags."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from retrain.devices.fleet import Fleet, Twin
from retrain.release.plan import Device
from retrain.release.ringwishes import is_ours
from retrain.release.wishes import MODEL, Held, Undone, Wish, replacing, tell_to_roll_back
from ripeloop.errors import Refused
from ripeloop.prediction import format_time

TAG = "ripeloop"


class DeviceWishes:
    """The twin of one module."""

    def __init__(self, fleet: Fleet, device: str, module: str) -> None:
        self._fleet = fleet
        self._device = device
        self._module = module
        self._seen: Twin | None = None

    async def look(self) -> tuple[Wish | None, list[Twin]]:
        """What the twin wants, and the twin. Raises Refused where a release to a ring wants it."""
        self._seen = twin = await self._fleet.twin(self._device, self._module)
        if others := [name for name, status in twin.applied.items() if is_ours(name) and status == "Applied"]:
            raise Refused(
                f"what {self._device} runs is wanted by the configuration {others[0]}, which would win: release to its "
                "ring, or take the device out of the ring first"
            )
        return _wish(twin), [twin]

    async def newest(self) -> int:
        """The number in the twin's tags."""
        twin = self._seen or await self._fleet.twin(self._device, self._module)
        return _number(twin)

    async def want(self, section: Mapping[str, Any], number: int) -> None:
        """One patch has the wish and remembers the one before."""
        twin = self._seen or await self._fleet.twin(self._device, self._module)
        old, tag = twin.desired.get(MODEL) or {}, _tag(twin)
        before = tag.get("previous") if old.get("sha256") == section.get("sha256") else old
        remembered = {"number": number, "sha256": section["sha256"]} | ({"previous": before} if before else {})
        await self._patch(twin, section, remembered)

    async def held(self) -> list[Held]:
        """What the twin wants, where a release wanted it."""
        wish, _ = await self.look()
        return [Held(Device(self._device), wish.number, wish.sha256, wish.version)] if wish and wish.number else []

    async def undo(self, sha256: str, reason: str, never: Collection[str] = ()) -> Undone:
        """One patch has the wish before, and says why."""
        twin = await self._fleet.twin(self._device, self._module)
        wish = _wish(twin)
        if wish is None or wish.sha256 != sha256:
            return Undone(wish)
        previous = _tag(twin).get("previous") or {}
        undone = {
            "version": wish.version,
            "sha256": sha256,
            "reason": reason[:500],
            "at": format_time(datetime.now(UTC)),
        }
        twin = await self._patch(twin, previous, {"number": wish.number, "undone": undone})
        told = not previous
        kept = await tell_to_roll_back(self._fleet, [twin], self._module, sha256, never) if told else ()
        return Undone(_wish(twin), kept)

    async def _patch(self, twin: Twin, section: Mapping[str, Any], tag: Mapping[str, Any]) -> Twin:
        old = twin.desired.get(MODEL)
        wanted = replacing(old if isinstance(old, Mapping) else {}, section) if section else None
        return await self._fleet.patch_twin(
            self._device, self._module, {MODEL: wanted}, twin.etag, {TAG: replacing(_tag(twin), tag)}
        )


def _wish(twin: Twin) -> Wish | None:
    section = twin.desired.get(MODEL)
    if not isinstance(section, Mapping) or not section:
        return None
    ours = _tag(twin).get("sha256") == section.get("sha256")
    return Wish(section, _number(twin) if ours else 0)


def _number(twin: Twin) -> int:
    number = _tag(twin).get("number")
    return int(number) if isinstance(number, int | float) else 0


def _tag(twin: Twin) -> Mapping[str, Any]:
    tag = twin.tags.get(TAG)
    return tag if isinstance(tag, Mapping) else {}
