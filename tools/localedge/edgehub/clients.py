"""The modules that are connected, and what they have subscribed to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Protocol

from localedge.protocol.topics import Feature


class Client(Protocol):
    """A module's connection."""

    module: str

    def features(self) -> frozenset[Feature]:
        """What it has subscribed to."""

    def send(self, topic: str, payload: bytes, feature: Feature, *, dup: bool) -> asyncio.Future[None]:
        """Send a message; done when acknowledged, cancelled when the connection is lost before."""

    def close(self, why: str) -> None:
        """End the connection."""


class Clients:
    """At most one connection for each module: a new one takes over from the old."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._change = asyncio.Event()

    def __iter__(self) -> Iterator[Client]:
        return iter(self._clients.values())

    def attach(self, client: Client) -> None:
        """A module has connected."""
        old = self._clients.get(client.module)
        self._clients[client.module] = client
        if old is not None and old is not client:
            old.close("the module has a new connection")

    def detach(self, client: Client) -> None:
        """A connection is gone; nothing happens where a newer one has taken over."""
        if self._clients.get(client.module) is client:
            del self._clients[client.module]

    def drop(self, module: str, why: str) -> None:
        """Close the module's connection, if it has one."""
        if (client := self._clients.get(module)) is not None:
            client.close(why)

    def changed(self) -> None:
        """A module has subscribed to something."""
        self._change.set()
        self._change = asyncio.Event()

    def connected(self, module: str) -> bool:
        """Whether the module has a connection."""
        return module in self._clients

    def wants(self, module: str, feature: Feature) -> bool:
        """Whether the module is connected and has subscribed to `feature`."""
        client = self._clients.get(module)
        return client is not None and feature in client.features()

    async def until_wants(self, module: str, feature: Feature, seconds: float) -> bool:
        """Wait at most so long for the module to be there; returns whether it is."""
        try:
            async with asyncio.timeout(seconds):
                while not self.wants(module, feature):
                    await self._change.wait()
        except TimeoutError:
            return self.wants(module, feature)
        return True

    def send(
        self, module: str, topic: str, payload: bytes, feature: Feature, *, dup: bool = False
    ) -> asyncio.Future[None]:
        """Send to a module; the future is cancelled at once where it is not connected."""
        client = self._clients.get(module)
        if client is not None:
            return client.send(topic, payload, feature, dup=dup)
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lost.cancel()
        return lost
