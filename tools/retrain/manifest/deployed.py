"""A manifest as its parts. What is not of the right kind is left out: the schema tells of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from retrain.manifest.finding import Finding, Place
from retrain.manifest.shape import anything, record

DESIRED = "properties.desired"
MICROSOFTS = "mcr.microsoft.com/"

_CONTENT = Place(("modulesContent",))
AGENT_PLACE = _CONTENT / "$edgeAgent" / DESIRED
HUB_PLACE = _CONTENT / "$edgeHub" / DESIRED


@dataclass(frozen=True, slots=True)
class Module:
    """A container that the device is to run. `options` are Docker's create options, out of their chunks."""

    name: str
    place: Place
    is_system: bool
    image: str
    order: int | None
    status: str
    restart: str
    env: Mapping[str, str]
    options: Mapping[str, Any]
    wrong: tuple[Finding, ...] = ()

    @property
    def host(self) -> Mapping[str, Any]:
        """The create options' HostConfig."""
        return _object(self.options.get("HostConfig"))

    @property
    def options_place(self) -> Place:
        """Where the create options stand."""
        return self.place / "settings" / "createOptions"

    @property
    def image_name(self) -> str:
        """Its image's name, without registry, tag and digest."""
        return self.image.rpartition("/")[2].partition(":")[0].partition("@")[0]

    @property
    def is_microsofts(self) -> bool:
        """Whether its image is one of Microsoft's."""
        return self.image.startswith(MICROSOFTS)

    @property
    def binds(self) -> list[tuple[str, str]]:
        """What is mounted where: a volume or a folder of the device, and the container's folder."""
        texts = [bind.split(":") for bind in _list(self.host.get("Binds")) if isinstance(bind, str)]
        return [(parts[0], parts[1].rstrip("/") or "/") for parts in texts if len(parts) >= 2]


@dataclass(frozen=True, slots=True)
class Deployed:
    """The modules, those of the system first, the routes by name, and the desired properties by module."""

    modules: tuple[Module, ...] = ()
    routes: Mapping[str, Any] = field(default_factory=dict)
    desired: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def module(self, name: str) -> Module | None:
        """The module of that name; messages and routes do not mind its case."""
        return next((one for one in self.modules if one.name.lower() == name.lower()), None)


def deployed(manifest: object) -> Deployed:
    """The parts of `manifest`."""
    content = _object(_object(manifest).get("modulesContent"))
    sections = {name: _object(_object(section).get(DESIRED)) for name, section in content.items()}
    agent = sections.get("$edgeAgent", {})
    modules = [
        _module(name, spec, AGENT_PLACE / kind / name, is_system=kind == "systemModules")
        for kind in ("systemModules", "modules")
        for name, spec in _object(agent.get(kind)).items()
        if isinstance(spec, dict)
    ]
    return Deployed(tuple(modules), _object(sections.get("$edgeHub", {}).get("routes")), sections)


def place_of(module: str) -> Place:
    """Where a module's desired properties stand."""
    return _CONTENT / module / DESIRED


def _module(name: str, spec: Mapping[str, Any], place: Place, *, is_system: bool) -> Module:
    settings = _object(spec.get("settings"))
    options, wrong = _options(settings, place / "settings")
    order = spec.get("startupOrder")
    return Module(
        name,
        place,
        is_system,
        image=_text(settings.get("image")),
        order=order if isinstance(order, int) else None,
        status=_text(spec.get("status")),
        restart=_text(spec.get("restartPolicy")),
        env={key: _text(_object(entry).get("value")) for key, entry in _object(spec.get("env")).items()},
        options=options,
        wrong=wrong,
    )


def _options(settings: Mapping[str, Any], place: Place) -> tuple[Mapping[str, Any], tuple[Finding, ...]]:
    """The create options, and what is wrong with their chunks. edgeAgent stops reading at the first gap."""
    names = sorted(name for name in settings if name.startswith("createOptions"))
    expected = ["createOptions", *(f"createOptions{number:02d}" for number in range(1, len(names)))]
    if names != expected[: len(names)]:
        missing = next(name for name in expected if name not in names)
        return {}, (Finding(place, f"lacks {missing}: what comes after it is never read"),)
    written = "".join(_text(settings[name]) for name in names)
    if not written:
        return {}, ()
    try:
        found = json.loads(written)
    except ValueError as error:
        return {}, (Finding(place / names[0], f"is not JSON: {error}"),)
    wrong = tuple(_WANTED(found, place / names[0]))
    return ({}, wrong) if wrong else (found, ())


_WANTED = record({}, {"HostConfig": record({}, others=(".*", anything))}, others=(".*", anything))


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
