"""Automatic module configurations: which are for a module's twin, what they want of it, and how far they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localedge.edgehub.twins import Document, Twins, lay
from localedge.iothub.query import Query, parse, parse_target
from localedge.iothub.registry import Registry, is_device
from manifests.limits import check
from ripeloop.errors import Refused, SettingsError

BELOW = "properties.desired."


@dataclass(frozen=True, slots=True)
class _ForModules:
    id: str
    priority: int
    created: str
    content: Document
    targets: Query


def is_for_modules(document: Mapping[str, Any]) -> bool:
    """Whether a configuration is for module twins, and no deployment."""
    return bool((document.get("content") or {}).get("moduleContent"))


def check_configuration(document: Mapping[str, Any]) -> None:
    """Let a module configuration pass that can be applied. Raises SettingsError."""
    desired: Document = {}
    try:
        for path, value in _read(document).content.items():
            lay(desired, path.split("."), value)
        check(desired)
    except Refused as error:
        raise SettingsError(str(error)) from None


class ModuleConfigurations:
    """Applies the configurations for modules to all module twins.

    Each takes the content of the one with the highest priority, of the newest of two equal ones.
    """

    def __init__(self, registry: Registry, twins: Twins) -> None:
        self._registry = registry
        self._twins = twins

    def retarget(self, documents: Iterable[Mapping[str, Any]], names: Iterable[str] | None = None) -> list[str]:
        """Apply them to the twins of these names, or to all; the names of the twins that changed.

        Raises Refused where a twin would be over a limit.
        """
        ours = [_read(document) for document in documents if is_for_modules(document)]
        ours.sort(key=lambda one: (one.priority, one.created), reverse=True)
        twins = self._registry.twins()
        if names is not None:
            twins = {name: twins[name] for name in names if name in twins}
        changed = []
        for name, twin in twins.items():
            if is_device(name) or not (ours or twin.configurations):
                continue
            document = self._registry.document(name, twin)
            here = [one for one in ours if one.targets.finds(document)]
            statuses = {one.id: {"status": "Targeted" if place else "Applied"} for place, one in enumerate(here)}
            if self._twins.configure(name, here[0].content if here else {}, statuses):
                changed.append(name)
        return changed

    def metrics(self, document: Mapping[str, Any]) -> Document:
        """The system's and the user's counts of one configuration, as IoT Hub adds them."""
        if not is_for_modules(document):
            return {}
        id_ = str(document["id"])
        select = "select deviceId, moduleId"
        system = {
            "targetedCount": f"{select} {document.get('targetCondition', '')}",
            "appliedCount": f"{select} from devices.modules where configurations.[[{id_}]].status = 'Applied'",
        }
        users = (document.get("metrics") or {}).get("queries") or {}
        return {"systemMetrics": self._counted(system), "metrics": self._counted(users)}

    def _counted(self, queries: Mapping[str, str]) -> Document:
        results = {name: len(self._registry.rows(parse(query))) for name, query in queries.items()}
        return {"results": results, "queries": dict(queries)}


def _read(document: Mapping[str, Any]) -> _ForModules:
    """Raises Refused."""
    content = document["content"]["moduleContent"]
    if not isinstance(content, dict):
        raise Refused("moduleContent is not an object")
    for path in content:
        if not path.startswith(BELOW) or "" in path.removeprefix(BELOW).split("."):
            raise Refused(f"{path} is not {BELOW}NAME")
        if any(other.startswith(f"{path}.") for other in content):
            raise Refused(f"{path} is said twice: another path goes below it")
    queries = (document.get("metrics") or {}).get("queries") or {}
    for query in queries.values():
        parse(str(query))
    return _ForModules(
        str(document.get("id", "")),
        int(document.get("priority", 0)),
        str(document.get("createdTimeUtc", "")),
        {path.removeprefix(BELOW): value for path, value in content.items()},
        parse_target(str(document.get("targetCondition") or "")),
    )
