"""What a route sees of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Message(Protocol):
    """A message on its way: its sender's path, its properties, and a body that may be JSON."""

    @property
    def source(self) -> str:
        """The path routes select by, as in `/messages/modules/NAME/outputs/NAME`."""

    @property
    def body(self) -> bytes:
        """The bytes that were sent."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What the sender attached."""

    @property
    def system(self) -> Mapping[str, str]:
        """What the SDK and the hub attached: contentType, connectionModuleId, ..."""
