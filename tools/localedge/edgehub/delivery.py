"""Brings queued messages to their endpoints: inputs of connected modules, and upstream while it is online."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from localedge.edgehub.clients import Clients
from localedge.edgehub.queues import Queues, Stored, Upstream, Waiting
from localedge.protocol.topics import Feature, to_input
from manifests.routes import UPSTREAM

WINDOW = 16  # messages an input may have unacknowledged


class Delivery:
    """At least once and in order: a message leaves its queue when its endpoint has acknowledged it."""

    def __init__(self, device: str, queues: Queues, upstream: Upstream, clients: Clients, *, online: bool) -> None:
        self._device = device
        self._queues = queues
        self._upstream = upstream
        self._clients = clients
        self._online = online
        self._on_the_way: defaultdict[str, set[int]] = defaultdict(set)
        self._tried: set[int] = set()
        self.redelivered = 0

    @property
    def online(self) -> bool:
        """Whether IoT Hub can be reached."""
        return self._online

    def set_online(self, online: bool) -> None:
        """Reach IoT Hub, or lose it; what waited goes at once."""
        self._online = online
        self._deliver(UPSTREAM)

    def put(self, messages: Sequence[Waiting]) -> asyncio.Future[None]:
        """Queue messages; done when they are on disk. They are delivered after that."""
        stored = self._queues.put(messages)

        def deliver(_: asyncio.Future[None]) -> None:
            for endpoint in {waiting.endpoint for waiting in messages}:
                self._deliver(endpoint)

        stored.add_done_callback(deliver)
        return stored

    def wake(self, module: str | None = None) -> None:
        """Deliver what waits: for a module that has just subscribed, or everywhere."""
        for endpoint in self._queues.endpoints():
            if module is None or endpoint.startswith(f"{module}/"):
                self._deliver(endpoint)

    def _deliver(self, endpoint: str) -> None:
        if endpoint == UPSTREAM:
            if self._online:
                self._upstream.take()
            return
        module, _, input_ = endpoint.partition("/")
        if not self._clients.wants(module, Feature.INPUTS):
            return
        on_the_way = self._on_the_way[endpoint]
        for stored in self._queues.next(endpoint, WINDOW - len(on_the_way), on_the_way):
            self._send(endpoint, to_input(self._device, module, input_, stored.message), stored)

    def _send(self, endpoint: str, topic: str, stored: Stored) -> None:
        module = endpoint.partition("/")[0]
        again = stored.id in self._tried
        self.redelivered += again
        self._tried.add(stored.id)
        self._on_the_way[endpoint].add(stored.id)

        def acknowledged(answer: asyncio.Future[None]) -> None:
            self._on_the_way[endpoint].discard(stored.id)
            if not answer.cancelled():
                self._tried.discard(stored.id)
                self._queues.done(stored.id)
            self._deliver(endpoint)

        answer = self._clients.send(module, topic, stored.message.body, Feature.INPUTS, dup=again)
        answer.add_done_callback(acknowledged)
