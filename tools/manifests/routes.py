"""The routes of a deployment: `FROM source [WHERE condition] INTO sink`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from manifests.conditions import compile_condition
from manifests.message import Message
from ripeloop.errors import SettingsError

UPSTREAM = "$upstream"
LOWEST_PRIORITY = 2_000_000_000  # edge hub's default; deployments may say 0, the highest, to 9
FOREVER = 0.0

_ROUTE = re.compile(
    r"\s*(?:SELECT\s+\*\s+)?FROM\s+(?P<source>/\S*)\s+(?:WHERE\s+(?P<condition>.+?)\s+)?INTO\s+(?P<sink>\S.*?)\s*",
    re.IGNORECASE | re.DOTALL,
)
_INPUT = re.compile(
    r"""BrokeredEndpoint\(\s*(["'])/?modules/(?P<module>[^/"']+)/inputs/(?P<input>[^/"']+)/?\1\s*\)""", re.IGNORECASE
)
_NAME = re.compile(r"[^.$# ]+")


@dataclass(frozen=True, slots=True)
class Route:
    """Where messages of one source go, if they meet the condition."""

    name: str
    source: tuple[str, ...]
    """Lower-case segments of the path; a message's source begins with them."""
    endpoint: str
    """`$upstream` or `module/input`."""
    condition: Callable[[Message], bool] | None = None
    priority: int = LOWEST_PRIORITY
    time_to_live: float = FOREVER
    """Seconds a message may wait; 0: the deployment's."""

    def takes(self, message: Message) -> bool:
        """Whether the route is for this message."""
        path = segments(message.source)
        if path[: len(self.source)] != self.source:
            return False
        return self.condition is None or self.condition(message)


def parse(name: str, value: object) -> Route:
    """A route as the deployment writes it: a string, or an object with priority and timeToLiveSecs (hub 1.1 and up).

    Raises SettingsError with the route's name.
    """
    spec = {"route": value} if isinstance(value, str) else value
    if not isinstance(spec, Mapping):
        raise SettingsError(f"route {name}: it is neither a text nor an object")
    try:
        return _parse(name, spec)
    except SettingsError as error:
        raise SettingsError(f"route {name}: {error}") from None


def segments(path: str) -> tuple[str, ...]:
    """The parts of a path, without their case."""
    return tuple(part.lower() for part in path.split("/") if part)


def endpoint(module: str, input_: str) -> str:
    """The name of the queue of a module's input."""
    return f"{module}/{input_}"


def _parse(name: str, spec: Mapping[str, Any]) -> Route:
    if not _NAME.fullmatch(name):
        raise SettingsError("a route's name may not hold dots, $, # or spaces")
    parts = _ROUTE.fullmatch(str(spec.get("route", "")))
    if parts is None:
        raise SettingsError(f"{spec.get('route')!r} is not FROM /source [WHERE condition] INTO sink")
    return Route(
        name=name,
        source=_source(parts["source"]),
        endpoint=_sink(parts["sink"]),
        condition=compile_condition(parts["condition"]) if parts["condition"] else None,
        priority=_whole(spec, "priority", LOWEST_PRIORITY, 9),
        time_to_live=float(_whole(spec, "timeToLiveSecs", 0, 4_294_967_295)),
    )


def _source(text: str) -> tuple[str, ...]:
    path = segments(text)
    if path and path[-1] == "*":
        path = path[:-1]
    if "*" in "".join(path):
        raise SettingsError(f"source {text}: a * may only be its last segment")
    return path


def _sink(text: str) -> str:
    if text.lower() == UPSTREAM:
        return UPSTREAM
    parts = _INPUT.fullmatch(text)
    if parts is None:
        raise SettingsError(f'{text} is neither $upstream nor BrokeredEndpoint("/modules/NAME/inputs/NAME")')
    return endpoint(parts["module"], parts["input"])


def _whole(spec: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = spec.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise SettingsError(f"{key} must be a whole number from 0 to {most}, not {value!r}")
    return value
