"""What the topics of azure-iot-device mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs

from localedge.protocol.message import Message, decode_bag, encode_bag


class Feature(StrEnum):
    """What a module can subscribe to."""

    INPUTS = "inputs"
    METHODS = "methods"
    DESIRED = "desired"
    TWIN = "twin"


@dataclass(frozen=True, slots=True)
class Event:
    """A module sends a message."""

    message: Message


@dataclass(frozen=True, slots=True)
class TwinGet:
    """A module asks for its twin."""

    request: str


@dataclass(frozen=True, slots=True)
class TwinReport:
    """A module changes its reported properties."""

    request: str
    patch: bytes


@dataclass(frozen=True, slots=True)
class MethodAnswer:
    """A module answers a direct method."""

    request: str
    status: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class UnknownTwinRequest:
    """A topic below `$iothub/twin/` that edge hub does not know; it closes the connection."""


Request = Event | TwinGet | TwinReport | MethodAnswer | UnknownTwinRequest


def read(device: str, module: str, topic: str, payload: bytes) -> Request:
    """What `module` means by a message on `topic`.

    As in edge hub, a message on a topic that means nothing is taken for one without an output.
    """
    path, _, query = topic.partition("?")
    request = parse_qs(query).get("$rid", [""])[0]
    if path.startswith("$iothub/twin/GET/"):
        return TwinGet(request)
    if path.startswith("$iothub/twin/PATCH/properties/reported/"):
        return TwinReport(request, payload)
    if path.startswith("$iothub/twin/"):
        return UnknownTwinRequest()
    if path.startswith("$iothub/methods/res/"):
        status = path.split("/")[3]
        return MethodAnswer(request, int(status) if status.isdecimal() else 500, payload)
    return Event(_message(device, module, topic, payload))


def features(filters: Mapping[str, int], device: str, module: str) -> dict[Feature, int]:
    """What topic filters ask for, and the quality of service of each; others are accepted and mean nothing."""
    known = {
        f"devices/{device}/modules/{module}/inputs/": Feature.INPUTS,
        "$iothub/methods/POST/": Feature.METHODS,
        "$iothub/twin/PATCH/properties/desired/": Feature.DESIRED,
        "$iothub/twin/res/": Feature.TWIN,
    }
    return {
        feature: qos for topic, qos in filters.items() for prefix, feature in known.items() if topic.startswith(prefix)
    }


def to_input(device: str, module: str, input_: str, message: Message) -> str:
    """The topic that brings `message` to an input."""
    return f"devices/{device}/modules/{module}/inputs/{input_}/{encode_bag(message)}"


def twin_answer(status: int, request: str, version: int | None = None) -> str:
    """The topic of the answer to a twin request."""
    return f"$iothub/twin/res/{status}/?$rid={request}" + (f"&$version={version}" if version is not None else "")


def desired_change(version: int) -> str:
    """The topic of a change of desired properties."""
    return f"$iothub/twin/PATCH/properties/desired/?$version={version}"


def method_call(name: str, request: str) -> str:
    """The topic of a direct method call."""
    return f"$iothub/methods/POST/{name}/?$rid={request}"


def _message(device: str, module: str, topic: str, payload: bytes) -> Message:
    base = f"devices/{device}/modules/{module}/messages/events"
    properties, system = decode_bag(topic.removeprefix(base)) if topic.startswith(base) else ({}, {})
    system |= {"connectionDeviceId": device, "connectionModuleId": module}
    return Message(module, payload, system.get("outputName", ""), properties, system)
