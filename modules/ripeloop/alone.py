"""The hub of a module that runs outside IoT Edge."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ripeloop.link import Message


class Alone:
    """No edge hub: what is sent goes nowhere, and nothing ever comes."""

    def __init__(self, device: str) -> None:
        self.device = device

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """Do nothing."""

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        """Do nothing."""

    async def messages(self, input_: str) -> AsyncIterator[Message]:  # noqa: ARG002 - the contract of Hub
        """Wait for ever."""
        await asyncio.Event().wait()
        yield Message(b"")  # never reached; it makes this a generator

    async def desired(self) -> AsyncIterator[dict[str, Any]]:
        """One empty section, then wait for ever."""
        yield {}
        await asyncio.Event().wait()

    async def report(self, patch: Mapping[str, Any]) -> None:
        """Do nothing."""
