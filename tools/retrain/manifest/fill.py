"""A template and its values in, a manifest out: as `iotedgedev solution genconfig` does, but nothing stays unfilled."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from manifests.variables import expand
from retrain.manifest.finding import Finding, Place
from retrain.manifest.schema import CHUNK

TEMPLATE_MARK = "$schema-template"

# in capitals: $upstream, $edgeHub and $body are IoT Edge's own words
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}?|(?P<plain>[A-Z_][A-Z0-9_]*)\b)")
_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Filled:
    """The manifest, and what is left in it that no value was found for."""

    manifest: dict[str, Any]
    unfilled: tuple[Finding, ...]


def fill(template: Mapping[str, Any], values: Mapping[str, str], images: Mapping[str, str]) -> Filled:
    """The template with its variables' `values`, and with `images` for what stands in `${…}`.

    Values are filled into texts, so one with a quote in it is still one text.
    """
    known = {name: value for name, value in values.items() if _NAME.fullmatch(name)} | dict(images)
    content = {name: part for name, part in template.items() if name != TEMPLATE_MARK}
    unfilled = tuple(Finding(place, _cure(name)) for place, name in variables(content) if name not in known)
    manifest = _filled(content, known)
    _write_options(manifest)
    return Filled(manifest, unfilled)


def variables(value: object, place: Place = Place()) -> Iterator[tuple[Place, str]]:
    """The variables that stand in the texts and names of a document, each with its place."""
    if isinstance(value, str):
        for found in _VARIABLE.finditer(value):
            yield place, found["plain"] or found["braced"] or ""
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from variables(name, place)
            yield from variables(inner, place / name)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from variables(inner, place / number)


def chunks(options: str) -> dict[str, str]:
    """Create options in pieces that a twin's value can hold, by their names."""
    pieces = [options[at : at + CHUNK] for at in range(0, len(options), CHUNK)] or [""]
    return {f"createOptions{number:02d}" if number else "createOptions": piece for number, piece in enumerate(pieces)}


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return expand(value, values)
    if isinstance(value, dict):
        return {expand(name, values): _filled(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, values) for inner in value]
    return value


def _cure(name: str) -> str:
    if name.startswith("MODULES."):
        module = name.split(".")[1]
        return f"${{{name}}} is not filled: modules/{module}/module.json must be there and name the platform"
    return f"${name} is not set: set {name} in .env or in the environment; .env.template says what it is"


def _write_options(manifest: Mapping[str, Any]) -> None:
    """Create options that are objects become text, in its pieces."""
    for settings in _settings(manifest):
        options = settings.get("createOptions")
        if not isinstance(options, dict | str):
            continue
        text = options if isinstance(options, str) else json.dumps(options, separators=(",", ":"))
        settings.update(chunks(text))


def _settings(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    agent: Any = manifest
    for name in ("modulesContent", "$edgeAgent", "properties.desired"):
        agent = agent.get(name) if isinstance(agent, dict) else None
    for kind in ("systemModules", "modules"):
        modules = agent.get(kind) if isinstance(agent, dict) else None
        for module in modules.values() if isinstance(modules, dict) else ():
            if isinstance(module, dict) and isinstance(module.get("settings"), dict):
                yield module["settings"]
