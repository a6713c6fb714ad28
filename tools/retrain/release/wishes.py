"""What the cloud wants of a place: said, and taken back, in the way that IoT Hub has for one device and for a fleet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from retrain.devices.fleet import Fleet, Twin
from retrain.release.plan import Place
from ripeloop.errors import NotFound, Offline, Refused

log = logging.getLogger(__name__)

MODEL = "model"
AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """A model that is wanted somewhere. `number` is that of the attempt, 0 where it was no release of ours."""

    section: Mapping[str, Any] = field(repr=False)
    number: int = 0
    outranked: bool = False
    """Whether a newer release of another package, to another ring, holds for all its devices."""
    as_in: str = ""
    """The other ring whose release holds for all its devices, where that is of the same package."""

    @property
    def sha256(self) -> str:
        """The package."""
        return str(self.section.get("sha256") or "")

    @property
    def version(self) -> str:
        """Its name."""
        return str(self.section.get("version") or "")


@dataclass(frozen=True, slots=True)
class Held:
    """What an undo here can reach: a package that an attempt of that number brought to a place."""

    place: Place
    number: int
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Undone:
    """What is wanted after an undo, and the devices that keep what was undone, each with the reason."""

    wish: Wish | None = None
    kept: tuple[str, ...] = ()


class Wishes(Protocol):
    """One place. Every call raises Offline, Refused and NotFound, with the hub's own words."""

    async def look(self) -> tuple[Wish | None, list[Twin]]:
        """What is wanted there now, None where nothing is; and the module's twins there."""

    async def newest(self) -> int:
        """The highest number that an attempt of this fleet has."""

    async def want(self, section: Mapping[str, Any], number: int) -> None:
        """Want this model. Raises Changed where somebody wanted another one since the last `look`."""

    async def held(self) -> list[Held]:
        """All that an undo here can take back, the newest first."""

    async def undo(self, sha256: str, reason: str, never: Collection[str] = ()) -> Undone:
        """Want again what was wanted before that package; done already, it changes nothing.

        No device goes back to a version in `never`.
        """


def replacing(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that leaves of a section nothing but `new`: a patch alone would keep fields that `new` lacks."""
    patch: dict[str, Any] = dict.fromkeys(name for name in old if name not in new)
    for name, value in new.items():
        before = old.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            patch[name] = replacing(before, value)
        else:
            patch[name] = value
    return patch


async def tell_to_roll_back(
    fleet: Fleet, twins: list[Twin], module: str, sha256: str, never: Collection[str] = ()
) -> tuple[str, ...]:
    """Have the modules in which that package answers take the model before it, unless that is one of `never`.

    Where no model is wanted any more, nothing but this method brings the old one back. Those that keep what they have,
    each with the reason.
    """
    few = asyncio.Semaphore(AT_ONCE)

    async def tell(device: str, previous: str) -> str:
        if previous and previous in never:
            return f"{device}: the model before it there is {previous}, which was undone, too"
        async with few:
            try:
                await fleet.invoke(device, module, "rollback", seconds=60)
            except (Offline, Refused, NotFound) as error:
                return f"{device}: {error}"
        return ""

    async with asyncio.TaskGroup() as tasks:
        told = [
            tasks.create_task(tell(twin.device, str(model.get("previous") or "")))
            for twin in twins
            if isinstance(model := twin.reported.get(MODEL), Mapping) and model.get("sha256") == sha256
        ]
    kept = tuple(why for task in told if (why := task.result()))
    for why in kept:
        log.warning("the model that was undone stays: %s", why)
    return kept
