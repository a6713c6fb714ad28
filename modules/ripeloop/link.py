"""One connection to the hub: what the SDK's side promises to ours, so that ours needs to know nothing of the SDK."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ripeloop.errors import Offline


@dataclass(frozen=True, slots=True)
class Message:
    """One message from a route, as it arrived."""

    body: bytes
    properties: Mapping[str, str] = field(default_factory=dict)


Method = Callable[[Any], Awaitable[tuple[int, Any]]]
"""A direct method: takes the decoded payload (None without one), returns status and a JSON-able payload."""

Answer = Callable[[int, Any], Awaitable[None]]
"""Answers one call of a direct method, with its status and payload. Raises what a link raises."""


class TimedOut(Offline):
    """The hub gave no answer within the limit; it may have got the question."""


class LinkBroken(Offline):
    """The connection will not come back; only a new one helps."""


@dataclass(frozen=True, slots=True)
class HubLimits:
    """How long, in seconds, each thing may take before it is given up, and how much may wait."""

    create: float = 30.0
    """Two answers of the workload API, which the SDK asks without a limit of its own."""
    connect: float = 90.0
    """Longer than the SDK's own limits, so that it cleans up by itself: `keep_alive` for TLS, 60 for the answer."""
    request: float = 30.0
    """One send, twin request or answer to a method."""
    close: float = 5.0
    """The SDK's good-bye; what has not ended by then is left to itself."""
    settle: float = 1.0
    """A renewed SAS token drops the connection, which is back within milliseconds."""
    probe: float = 300.0
    """So often a quiet connection is asked for the twin, to see that it still answers: paho's thread may have died of
    an SSLEOFError unheard. Not more often, as the edge hub may pass each question on to the cloud, which counts."""
    healthy: float = 60.0
    """A connection this old was good: faults before it no longer count."""
    retry: float = 1.0
    retry_most: float = 60.0
    """The wait before the next try, doubled from `retry` to `retry_most` and then up to half of it off by chance."""
    method: float = 60.0
    """The handler of a direct method."""
    token: int = 3600
    """The life of a SAS token. The SDK renews it 120 s before the end, so at 120 or less it would never stop."""
    keep_alive: int = 30
    """A connection without a sign of life for up to twice this long is dropped."""
    faults: int = 3
    inputs: int = 1000
    """Messages that wait for their reader, for each input."""
    methods: int = 8
    """Direct methods at a time."""

    def __post_init__(self) -> None:
        if self.token <= 120:
            raise ValueError("a SAS token must live longer than 120 s, or the SDK renews it for ever")


class Link(Protocol):
    """One connection from its making to its end. Every call ends within its limit.

    Raises Offline when the hub is away, TimedOut, LinkBroken, and Refused when the hub said no.
    """

    @property
    def connected(self) -> bool:
        """Whether it is up at this moment."""

    async def open(self) -> None:
        """Connect with everything subscribed, so that nothing the hub kept for us is lost."""

    async def send(self, output: str, id_: str, body: bytes, properties: Mapping[str, str]) -> None:
        """One message, acknowledged when this returns."""

    async def twin(self) -> dict[str, Any]:
        """The whole twin: {"desired": …, "reported": …}."""

    async def report(self, patch: Mapping[str, Any]) -> None:
        """Change reported properties."""

    async def close(self) -> None:
        """End it and its threads. Raises nothing."""


class Ears(Protocol):
    """Who hears what a link tells; always called in the event loop that opened it."""

    def on_message(self, input_: str, message: Message) -> None:
        """A route brought a message."""

    def on_method(self, name: str, payload: Any, answer: Answer) -> None:
        """Somebody calls a direct method."""

    def on_patch(self, patch: Mapping[str, Any]) -> None:
        """The desired properties changed; `patch` holds the change and its `$version`."""

    def on_change(self) -> None:
        """The link went down or came up."""

    def on_end(self, why: Offline) -> None:
        """The link is over, even if it should come up again: the SDK would not subscribe again."""
