"""One message on its way through edge hub, and the property bag it travels with in a topic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from urllib.parse import quote, unquote

# the names of system properties in a topic, as modules send them and as edge hub hands them on
INCOMING: Final = {
    "$.mid": "messageId",
    "$.cid": "correlationId",
    "$.uid": "userId",
    "$.ct": "contentType",
    "$.ce": "contentEncoding",
    "$.on": "outputName",
    "$.exp": "absoluteExpiryTime",
    "$.schema": "messageSchema",
    "$.ctime": "creationTime",
    "$.ifid": "interfaceId",
}
OUTGOING: Final = {
    "messageId": "$.mid",
    "correlationId": "$.cid",
    "userId": "$.uid",
    "contentType": "$.ct",
    "contentEncoding": "$.ce",
    "absoluteExpiryTime": "$.exp",
    "connectionDeviceId": "$.cdid",
    "connectionModuleId": "$.cmid",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a module sent it."""

    module: str
    """Who sent it."""
    body: bytes
    output: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, str] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The path routes select by."""
        return f"/messages/modules/{self.module}" + (f"/outputs/{self.output}" if self.output else "")

    def head(self) -> str:
        """Everything but the body, as JSON."""
        fields = asdict(self)
        del fields["body"]
        return json.dumps(fields)

    @classmethod
    def from_head(cls, head: str, body: bytes) -> Message:
        """The message whose `head` and body these are."""
        fields: dict[str, Any] = json.loads(head)
        return cls(body=body, **fields)


def decode_bag(bag: str) -> tuple[dict[str, str], dict[str, str]]:
    """The application and the system properties in the last part of a topic."""
    properties: dict[str, str] = {}
    system: dict[str, str] = {}
    for pair in filter(None, bag.strip("/").removeprefix("?").split("&")):
        name, _, value = (unquote(part) for part in pair.partition("="))
        if name in INCOMING:
            system[INCOMING[name]] = value
        else:
            properties[name] = value
    return properties, system


def encode_bag(message: Message) -> str:
    """The last part of the topic that brings `message` to a module."""
    pairs = dict(message.properties)
    pairs.update({OUTGOING[name]: value for name, value in message.system.items() if name in OUTGOING})
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs.items())
