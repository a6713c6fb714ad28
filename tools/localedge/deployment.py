"""What a deployment says: modules, routes, desired properties. Reads templates and rendered manifests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localedge import jsontext
from manifests import routes
from manifests.routes import FOREVER, Route
from manifests.variables import expand, why_unread
from ripeloop.errors import Refused, SettingsError

AGENT, HUB = "$edgeAgent", "$edgeHub"
DEFAULT_TIME_TO_LIVE = 7200.0
HUB_SCHEMAS = ("1.0", "1.1", "1.2", "1.3")
MOST_SECONDS = 4_294_967_295

_MODULE = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")  # as IoT Hub; such a name is a file's name too

# unset variables are looked for in upper case only: $upstream, $body and $connectionModuleId belong to routes
_LEFTOVER = re.compile(r"\$\{?(?P<name>[A-Z_][A-Z0-9_]*)\b(?![a-z])")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the device is told to be."""

    modules: tuple[str, ...]
    routes: tuple[Route, ...]
    time_to_live: float = DEFAULT_TIME_TO_LIVE
    """Seconds a message may wait for its endpoint; 0: for ever."""
    desired: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Desired properties by module, where the deployment gives any; those of the system modules too."""
    environment: Mapping[str, dict[str, str]] = field(default_factory=dict)
    """Environment variables by module."""
    manifest: str = ""
    """The JSON all this was read from, in one fixed form."""


def load(path: Path, variables: Mapping[str, str]) -> Deployment:
    """Read a template or a rendered manifest, with $VARIABLES filled in as iotedgedev does.

    Raises SettingsError with the file and the place in it.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"cannot read the deployment {path}: {why_unread(error)}; name one with --deployment"
        ) from None
    try:
        document = jsontext.read(expand(text, variables))
    except Refused as error:
        raise SettingsError(f"{path} is not JSON: {error}") from None
    try:
        return parse(document)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def parse(document: object) -> Deployment:
    """The deployment in a manifest's JSON. Raises SettingsError with the place and what is wrong there."""
    content = _content(document)
    agent = _section(content, AGENT)
    hub = _section(content, HUB)
    if hub.get("schemaVersion") not in HUB_SCHEMAS:
        raise SettingsError(f"{HUB} schemaVersion must be one of {', '.join(HUB_SCHEMAS)}")
    modules = _object(agent.get("modules", {}), f"{AGENT} modules")
    for name in modules:
        if _MODULE.fullmatch(name) is None:
            raise SettingsError(f"{AGENT} modules: {name!r} is not 1 to 128 letters, digits or -:.+%_#*?!(),=@;$'")
    return Deployment(
        modules=tuple(modules),
        routes=_routes(hub),
        time_to_live=_time_to_live(hub),
        desired={
            name: _desired(name, section)
            for name, section in content.items()
            if "properties.desired" in _object(section, name)
        },
        manifest=json.dumps(document, sort_keys=True),
        environment={name: _environment(name, _object(module, name)) for name, module in modules.items()},
    )


def _content(document: object) -> dict[str, Any]:
    whole = _object(document, "the deployment")
    content = whole.get("modulesContent", whole.get("moduleContent"))
    if content is None:
        raise SettingsError("there is no modulesContent; this is not a deployment of IoT Edge")
    return _object(content, "modulesContent")


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = _object(content.get(name), name)
    return _object(section.get("properties.desired"), f"{name} properties.desired")


def _routes(hub: Mapping[str, Any]) -> tuple[Route, ...]:
    specs = _object(hub.get("routes", {}), f"{HUB} routes")
    for name, spec in specs.items():
        _all_set(spec, f"route {name}")
        if isinstance(spec, dict) and hub["schemaVersion"] == "1.0":
            raise SettingsError(f"route {name}: priority and timeToLiveSecs need {HUB} schemaVersion 1.1 or later")
    # an empty route is how a layered deployment takes one away
    return tuple(routes.parse(name, spec) for name, spec in specs.items() if spec)


def _time_to_live(hub: Mapping[str, Any]) -> float:
    store = _object(hub.get("storeAndForwardConfiguration", {}), f"{HUB} storeAndForwardConfiguration")
    seconds = store.get("timeToLiveSecs", DEFAULT_TIME_TO_LIVE)
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or seconds > MOST_SECONDS:
        raise SettingsError(f"timeToLiveSecs must be seconds, up to {MOST_SECONDS}; -1 keeps messages for ever")
    return float(seconds) if seconds >= 0 else FOREVER


def _desired(name: str, section: Mapping[str, Any]) -> dict[str, Any]:
    desired = _object(section["properties.desired"], f"{name} properties.desired")
    if name not in (AGENT, HUB):  # images, credentials and create options of containers are not run here
        _all_set(desired, f"{name} properties.desired")
    return desired


def _environment(name: str, module: Mapping[str, Any]) -> dict[str, str]:
    values = {}
    for key, entry in _object(module.get("env", {}), f"{name} env").items():
        value = _object(entry, f"{name} env {key}").get("value", "")
        _all_set(value, f"{name} env {key}")
        values[key] = value if isinstance(value, str) else json.dumps(value)
    return values


def _object(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{place} is missing or not an object")
    return value


def _all_set(value: object, place: str) -> None:
    for text in _strings(value):
        if found := _LEFTOVER.search(text):
            raise SettingsError(
                f"{place}: ${found['name']} is not set; give it in the environment or an --env-file "
                "(.env.template says what it is)"
            )


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
