"""Direct methods: a call waits for the module's answer."""

from __future__ import annotations

import asyncio
import itertools
import json
from dataclasses import dataclass
from typing import Any

from localedge import jsontext
from localedge.edgehub.clients import Clients
from localedge.protocol.topics import Feature, MethodAnswer, method_call
from ripeloop.errors import NotFound, Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """What the module's method returned."""

    status: int
    payload: Any


class Methods:
    """The calls on their way."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._calls: dict[str, asyncio.Future[Answer]] = {}
        self._numbers = itertools.count(1)

    async def call(
        self, module: str, name: str, payload: Any, *, response_timeout: float, connect_timeout: float
    ) -> Answer:
        """Call a module's method. Raises NotFound where the module is not there to hear it, and TimeoutError."""
        if not await self._clients.until_wants(module, Feature.METHODS, connect_timeout):
            raise NotFound(f"module {module} is not connected, or serves no methods")
        request = format(next(self._numbers), "x")
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._calls[request] = answer
        body = b"" if payload is None else json.dumps(payload).encode()
        self._clients.send(module, method_call(name, request), body, Feature.METHODS)
        try:
            async with asyncio.timeout(response_timeout):
                return await answer
        finally:
            del self._calls[request]

    def answered(self, answer: MethodAnswer) -> None:
        """A module has answered; an answer nobody waits for any more is dropped."""
        call = self._calls.get(answer.request)
        if call is None or call.done():
            return
        try:
            payload = jsontext.read(answer.payload) if answer.payload else None
        except Refused:
            payload = answer.payload.decode(errors="replace")
        call.set_result(Answer(answer.status, payload))
