"""The classifier's HTTP side on a free port, with a real model that answers by colour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from classifier.numbers.metrics import Metrics
from classifier.numbers.summary import Counts
from classifier.serving.app import Options, application
from classifier.serving.classify import Classifier
from classifier.serving.guard import Limits

MAX_BODY = 100_000
PROJECT = "0f2d6b1c-8a52-4c39-9b1d-3f1f6a1f0001"
ITERATION = "11111111-2222-3333-4444-555555555555"
TAG_IDS = {"red": "0f2d6b1c-8a52-4c39-9b1d-3f1f6a1f00f1", "blue": "0f2d6b1c-8a52-4c39-9b1d-3f1f6a1f00f3"}


@asynccontextmanager
async def serving(
    classifier: Classifier, limits: Limits | None = None, counts: Counts | None = None, **options: Any
) -> AsyncIterator[TestClient[Any, Any]]:
    """A client of the classifier, which is closed with the block."""
    options.setdefault("metrics", Metrics(classifier, counts or Counts()))
    app = application(classifier, Options(limits or Limits(MAX_BODY), **options))
    async with TestClient(TestServer(app)) as client:
        try:
            yield client
        finally:
            classifier.close()


class WebServer:
    """Another server on 127.0.0.1, that images are fetched from."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, dict[str, Any]] = {}
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._server = TestServer(app)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.port}"

    def add(self, path: str, *, delay: float = 0, **answer: Any) -> None:
        """Answer `path` with the aiohttp.web.Response of these arguments."""
        self._answers[path] = {"delay": delay, **answer}

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        answer = dict(self._answers.get(request.path, {"delay": 0, "status": 404}))
        await asyncio.sleep(answer.pop("delay"))
        return web.Response(**answer)

    async def __aenter__(self) -> WebServer:
        await self._server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.close()


@pytest.fixture
async def web_server() -> AsyncIterator[WebServer]:
    async with WebServer() as server:
        yield server
