"""A hub in memory that keeps the contract of ripeloop.hub.Hub: what was sent, posted and reported can be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from ripeloop.errors import Offline
from ripeloop.hub import Message


class Wire:
    """Online until told otherwise; `hangs` makes a send wait for ever."""

    def __init__(self) -> None:
        self.device = "laptop"
        self.online = True
        self.hangs = False
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.posted: list[tuple[str, bytes, dict[str, str]]] = []
        self.reported: list[dict[str, Any]] = []
        self.news: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.arriving: asyncio.Queue[Message] = asyncio.Queue()
        self.twin: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def send(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if not self.online:
            raise Offline("the hub cannot be reached")
        self.sent.append((output, body, dict(properties or {})))

    async def post(self, output: str, body: bytes, properties: Mapping[str, str] | None = None) -> None:
        self.posted.append((output, body, dict(properties or {})))

    async def messages(self, input_: str) -> AsyncIterator[Message]:
        while True:
            yield await self.arriving.get()

    async def desired(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self.twin.get()

    async def report(self, patch: Mapping[str, Any]) -> None:
        self.reported.append(dict(patch))
        self.news.put_nowait(dict(patch))
