"""Which automatic configurations are for this device, and what deployment they make together."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from localedge.conditions import compile_condition
from localedge.deployment import AGENT
from localedge.message import Message
from ripeloop.errors import SettingsError

log = logging.getLogger(__name__)

DESIRED = "properties.desired"
Document = dict[str, Any]


def effective(configurations: Iterable[Document], device: str, tags: Document) -> Document | None:
    """The manifest of the configurations that target the device; None where there is none to start from.

    The base with the highest priority wins, the newest of two equal ones; layered configurations of a higher priority
    go on top of it, the highest last.
    """
    ours = sorted(
        (one for one in configurations if _content(one) and targets(one, device, tags)),
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
    return DESIRED in _content(configuration).get(AGENT, {})


def _content(configuration: Document) -> Document:
    content: Document = (configuration.get("content") or {}).get("modulesContent") or {}
    return content


def _lay(content: Document, layer: Mapping[str, Any]) -> None:
    for module, sections in layer.items():
        for path, value in sections.items():
            at: Document = content.setdefault(module, {}).setdefault(DESIRED, {})
            if path == DESIRED:
                content[module][DESIRED] = value
                continue
            *steps, last = path.removeprefix(f"{DESIRED}.").split(".")
            for step in steps:
                at = at.setdefault(step, {})
            at[last] = value


def _flat(prefix: str, tags: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in tags.items():
        path = f"{prefix}.{name}"
        if isinstance(value, dict):
            yield from _flat(path, value)
        elif isinstance(value, str):
            yield path, value
