"""The one place that knows azure-iot-device."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Method = Callable[[Any], Awaitable[tuple[int, Any]]]
"""A direct method: takes the decoded payload (None without one), returns status and a JSON-able payload."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message from a route, as it arrived."""

    body: bytes
    properties: Mapping[str, str] = field(default_factory=dict)


class Hub(Protocol):
    """The edge hub as the modules see it."""

    device: str
    """The IoT Edge device's id; the host's name where the module runs alone."""

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """One message to `output`, acknowledged by the hub when this returns. Raises Offline, TooLarge."""

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """As `send`, but returns once the message is on disk: it is delivered at least once, later if need be.

        Its `message_id` stays the same over all deliveries. Raises TooLarge.
        """

    def messages(self, input_: str) -> AsyncIterator[Message]:
        """What routes bring to `input_`, for ever. A wake-up: the reader may miss one when the process dies."""

    def desired(self) -> AsyncIterator[dict[str, Any]]:
        """The whole desired section of the twin: once at the start, then after each change and each reconnect."""

    async def report(self, patch: Mapping[str, Any]) -> None:
        """Change reported properties; kept and sent again when offline, the newest value of a key wins."""
