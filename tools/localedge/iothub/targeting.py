"""Which automatic configurations are for this device, and what deployment they make together."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from localedge.deployment import AGENT, parse
from localedge.edgehub.twins import check_desired
from localedge.protocol.message import Message
from manifests.conditions import compile_condition
from ripeloop.errors import SettingsError

log = logging.getLogger(__name__)

DESIRED = "properties.desired"
BELOW = f"{DESIRED}."
Document = dict[str, Any]


def check(configuration: Document) -> None:
    """Let a configuration pass that can be deployed: a whole one, or a layer. Raises SettingsError."""
    content = _content(configuration)
    if is_base(configuration):
        check_desired(parse({"modulesContent": content}).desired)
        return
    for module, sections in content.items():
        if not isinstance(sections, dict):
            raise SettingsError(f"{module} is not an object")
        _check_paths(module, [path.split(".") for path in sections])
    laid: Document = {}
    _lay(laid, content)
    desired = {module: sections.get(DESIRED, {}) for module, sections in laid.items()}
    for module, section in desired.items():
        if not isinstance(section, dict):
            raise SettingsError(f"{module} {DESIRED} is not an object")
    check_desired(desired)


def effective(configurations: Iterable[Document], device: str, tags: Document) -> Document | None:
    """The manifest of the configurations that target the device; None where there is none to start from.

    The base with the highest priority wins, the newest of two equal ones; layered configurations of a higher priority
    go on top of it, the highest last.
    """
    ours = sorted(
        (one for one in configurations if _content(one) and _is_sound(one) and targets(one, device, tags)),
        key=lambda one: (one.get("priority", 0), one.get("createdTimeUtc", "")),
    )
    bases = [one for one in ours if is_base(one)]
    if not bases:
        return None
    base = bases[-1]
    content = copy.deepcopy(_content(base))
    for one in ours[ours.index(base) + 1 :]:
        if not is_base(one):
            _lay(content, _content(one))
    return {"modulesContent": content}


def targets(configuration: Document, device: str, tags: Document) -> bool:
    """Whether the target condition is true of the device; one that cannot be read here is not."""
    condition = str(configuration.get("targetCondition") or "").strip()
    if condition in ("", "*"):
        return condition == "*"
    facts = {"deviceId": device, **dict(_flat("tags", tags))}
    try:
        return compile_condition(condition)(Message("", b"", properties=facts))
    except SettingsError as error:
        log.warning("configuration %s targets nothing here: %s", configuration.get("id"), error)
        return False


def is_base(configuration: Document) -> bool:
    """Whether it is a whole deployment, not a layer."""
    agent = _content(configuration).get(AGENT)
    return isinstance(agent, dict) and DESIRED in agent


def _content(configuration: Document) -> Document:
    content: Document = (configuration.get("content") or {}).get("modulesContent") or {}
    return content


def _is_sound(configuration: Document) -> bool:
    try:
        check(configuration)
    except SettingsError as error:
        log.warning("configuration %s is left out: %s", configuration.get("id"), error)
        return False
    return True


def _check_paths(module: str, paths: list[list[str]]) -> None:
    root = DESIRED.split(".")
    for path in paths:
        name = f"{module} {'.'.join(path)}"
        if path[: len(root)] != root or "" in path:
            raise SettingsError(f"{name} is neither {DESIRED} nor {BELOW}NAME")
        if any(other is not path and other[: len(path)] == path for other in paths):
            raise SettingsError(f"{name} is said twice: another path of this layer goes below it")


def _lay(content: Document, layer: Mapping[str, Any]) -> None:
    """Put a layer on top; where it goes below what is no object, the layer wins."""
    for module, sections in layer.items():
        under = content.setdefault(module, {})
        for path, value in sections.items():
            if path == DESIRED:
                under[DESIRED] = copy.deepcopy(value)
                continue
            *steps, last = path.removeprefix(BELOW).split(".")
            at = _object_at(under, DESIRED)
            for step in steps:
                at = _object_at(at, step)
            at[last] = copy.deepcopy(value)


def _object_at(parent: Document, name: str) -> Document:
    """The object of that name, made where there is none."""
    found = parent.get(name)
    if not isinstance(found, dict):
        found = parent[name] = {}
    return found


def _flat(prefix: str, tags: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in tags.items():
        path = f"{prefix}.{name}"
        if isinstance(value, dict):
            yield from _flat(path, value)
        elif isinstance(value, str):
            yield path, value
