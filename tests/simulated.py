"""A fleet of simulated classifiers: twins in the local edge runtime's IoT Hub, and a task that does what they want."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from depot import packed
from edge import Edge
from retrain.devices.fleet import Fleet
from retrain.release import Plan, release, ring
from ripeloop.blobs import FolderBlobs

ALL = "moduleId = 'classifier'"
BULK = 100

CANARY, EVERYBODY = ring("canary"), ring("all")
LINES = ring("lines", {"lines": "deviceId != 'desk'"})
QUICK = Plan(CANARY, EVERYBODY, wait=30, watch=0.2, poll=0.05, pace=0)

Verdict = Callable[[str, str], tuple[str, str]]
"""What becomes of a version on a device: a state and a reason."""


def good(_device: str, _version: str) -> tuple[str, str]:
    return "active", ""


@dataclass
class Simulated:
    """What the devices run, and how they take what is wanted of them. Those in `away` hear nothing."""

    edge: Edge
    fleet: Fleet
    verdict: Verdict = good
    away: set[str] = field(default_factory=set)
    running: dict[str, dict[str, str]] = field(default_factory=dict)
    counters: dict[str, Any] = field(default_factory=dict)
    rolled_back: list[str] = field(default_factory=list)
    _heard: dict[str, Any] = field(default_factory=dict)

    async def add(self, count: int, canaries: int = 0, prefix: str = "line") -> list[str]:
        """So many devices with a classifier, the first in the canary ring, as a registry is filled: in bulk."""
        names = [f"{prefix}-{number:04}" for number in range(count)]
        devices = [{"id": name, "importMode": "create"} for name in names]
        modules = [
            {"id": name, "moduleId": "classifier", "importMode": "create"}
            | ({"tags": {"ring": "canary"}} if place < canaries else {})
            for place, name in enumerate(names)
        ]
        for identities in (devices, modules):
            for start in range(0, count, BULK):
                status, answer = await self.edge.service("POST", "/devices", identities[start : start + BULK])
                assert (status, answer["isSuccessful"]) == (200, True), answer
        for name in names:
            self.running[name] = {"version": "first", "sha256": ""}
        await self.say(names, {"state": "active", "wanted": None, "reason": None, "since": "2026-11-22T02:10:00Z"})
        return names

    async def say(self, names: list[str], model: dict[str, Any]) -> None:
        """Have the modules report the same."""
        await self._say({name: model | self.running[name] for name in names})

    async def _say(self, reported: dict[str, dict[str, Any]]) -> None:
        modules = [
            {
                "device": name,
                "module": "classifier",
                "connected": name not in self.away,
                "reported": {"model": model},
                "methods": {"rollback": {}} | ({"status": self.counters} if self.counters else {}),
            }
            for name, model in reported.items()
        ]
        await self.edge.control("POST", "/say", {"modules": modules})

    async def step(self) -> None:
        """Every device that is there does what is wanted of it by now."""
        news = []
        for twin in await self.fleet.modules_where(ALL):
            wanted = twin.desired.get("model")
            if twin.device in self.away or wanted == self._heard.get(twin.device):
                continue
            self._heard[twin.device] = wanted
            if wanted:
                news.append((twin.device, wanted))
        reported = {}
        for device, wanted in news:
            state, reason = self.verdict(device, wanted["version"])
            if state == "active":
                self.running[device] = {"version": wanted["version"], "sha256": wanted["sha256"]}
            about = {"state": state, "wanted": wanted["version"], "reason": reason or None}
            reported[device] = about | {"since": "2026-11-22T03:00:00Z"} | self.running[device]
        if reported:
            await self._say(reported)

    async def follow(self, ended: asyncio.Event) -> None:
        """Until that is set: a request cancelled half-way would leave its connection to the garbage collector."""
        while not ended.is_set():
            await self.step()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def simulated(edge: Edge, count: int, canaries: int, **how: Any) -> AsyncIterator[Simulated]:
    """A fleet that follows its twins until the end of the block."""
    async with Fleet.open(edge.connection_string, edge.ca_file) as fleet:
        devices = Simulated(edge, fleet, **how)
        await devices.add(count, canaries)
        ended = asyncio.Event()
        following = asyncio.create_task(devices.follow(ended))
        try:
            yield devices
        finally:
            ended.set()
            await asyncio.wait({following})


def package(folder: Path, version: str) -> Path:
    """A package of that version, made once."""
    if not (folder / f"{version}.zip").exists():
        packed(folder / f"{version}.zip", version)
    return folder / f"{version}.zip"


async def brought(devices: Simulated, store: FolderBlobs, folder: Path, version: str, **plan: Any) -> Any:
    """What came of releasing that version."""
    return await release(devices.fleet, store, package(folder, version), "", replace(QUICK, **plan))


async def versions(devices: Simulated) -> dict[str, int]:
    """How many devices want which version."""
    twins = await devices.fleet.modules_where("moduleId = 'classifier'")
    wanted = [twin.desired.get("model", {}).get("version", "") for twin in twins]
    return {version: wanted.count(version) for version in sorted(set(wanted))}
