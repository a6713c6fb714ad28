"""The routes of the exported Custom Vision container and of the cloud's prediction endpoint, without their faults."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError

from classifier.numbers.metrics import Metrics
from classifier.pixels.decoding import is_image
from classifier.serving.answers import as_cloud, as_container
from classifier.serving.classify import Answer, Busy, Classifier
from classifier.serving.guard import Bodies, Limits
from classifier.serving.messages import Predictions
from classifier.serving.multipart import image_in
from classifier.serving.problems import WrongKey, problem
from classifier.serving.url import Fetch, url_in
from ripeloop.errors import RipeloopError

_KIND = "{kind:classify|detect}"
_CONTAINER = ("", "/{project}", f"/{{project}}/{_KIND}/iterations/{{name}}")
# Custom Vision's page shows the address with a capital, its SDK asks without
_CLOUD = "/customvision/{api:v3\\.[01]}/{_:[Pp]rediction}/{project}/classify/iterations/{name}"

MAX_FETCHES = 8  # images fetched by URL at once: a slow host must not keep the cameras out

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the HTTP side may have beside the classifier.

    Images and bodies over `limits` are refused. With a `prediction_key` images are classified for those who send it;
    without `fetch` none is classified by URL.
    """

    limits: Limits
    metrics: Metrics
    prediction_key: str = ""
    fetch: Fetch | None = None
    predictions: Predictions | None = None


def application(classifier: Classifier, options: Options) -> web.Application:
    """The HTTP side of `classifier`."""
    http = _Http(classifier, options)
    app = web.Application(middlewares=[http.answer])
    app.router.add_get("/", http.root)
    app.router.add_get("/healthz", http.health)
    app.router.add_get("/readyz", http.ready)
    app.router.add_get("/metrics", http.metrics)
    for prefix in (_CLOUD, *_CONTAINER):
        for store in ("", "/nostore"):
            app.router.add_post(f"{prefix}/image{store}", http.image, expect_handler=http.expect)
            app.router.add_post(f"{prefix}/url{store}", http.url, expect_handler=http.expect)
    app.on_shutdown.append(http.stopping)
    return app


def is_our_fault(record: logging.LogRecord) -> bool:
    """A filter for aiohttp's log: what a client does wrong is answered, and a port scan must not fill the disk."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


class _Http:
    def __init__(self, classifier: Classifier, options: Options) -> None:
        self._classifier = classifier
        self._options = options
        self._key = options.prediction_key.encode()
        self._bodies = Bodies(options.limits)
        self._fetches = 0
        self._for_images = (self.image, self.url)
        self._stopping = False

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        status = 500  # of a fault that nobody foresaw, which aiohttp logs and answers
        try:
            response = await _told(request, handler)
            status = response.status
        finally:
            if request.match_info.handler in self._for_images:  # what else is posted is no image
                if status >= 400:
                    self._classifier.refused()
                self._options.metrics.responded(status, time.perf_counter() - started)
        return response

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Ask for the body that waits for it; what else is expected is refused in words that do not repeat it."""
        if request.version < HttpVersion11:
            return None
        if request.headers.get("Expect", "").lower() != "100-continue":
            told = problem(web.HTTPExpectationFailed(text="only 'Expect: 100-continue' is known: leave it out"))
            return told.response() if told else None
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp does: that line is no part of the answer
        return None

    async def stopping(self, _: web.Application) -> None:
        self._stopping = True

    async def root(self, _: web.Request) -> web.Response:
        return web.Response(text="CustomVision.ai model host harness")

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "model": self._classifier.model.version})

    async def ready(self, _: web.Request) -> web.Response:
        if self._stopping:
            return web.json_response({"status": "stopping"}, status=503)
        if not self._classifier.has_place:
            return web.json_response({"status": "busy"}, status=503)
        return web.json_response({"status": "ready", "model": self._classifier.model.version})

    async def metrics(self, request: web.Request) -> web.Response:
        page, content_type = await self._options.metrics.page(request.headers.get("Accept", ""))
        return web.Response(body=page, headers={"Content-Type": content_type})

    async def image(self, request: web.Request) -> web.Response:
        self._check_key(request)
        self._classifier.check_place()  # before the body is sent in vain
        async with self._bodies.of(request) as body:
            posted = _posted_image(request, body)
            if len(posted) > self._options.limits.largest:
                raise web.HTTPRequestEntityTooLarge(self._options.limits.largest)
            del body  # a form's holds the image once more
            with self._classifier.place():
                return await self._classified(request, posted)

    async def url(self, request: web.Request) -> web.Response:
        self._check_key(request)
        fetch = self._options.fetch
        if fetch is None:
            raise web.HTTPNotFound(text="classifying by URL is off: post the image itself to /image")
        self._classifier.check_place()
        async with self._bodies.of(request) as body:
            url = url_in(body)
        image = await self._fetched(fetch, url)
        with self._classifier.place():
            return await self._classified(request, image)

    async def _fetched(self, fetch: Fetch, url: str) -> bytes:
        if self._fetches >= MAX_FETCHES:
            raise Busy(f"{self._fetches} images are being fetched: post this URL again in a moment")
        self._fetches += 1
        try:
            return await fetch(url)
        finally:
            self._fetches -= 1

    async def _classified(self, request: web.Request, image: bytes) -> web.Response:
        keep = not request.path.endswith("/nostore")
        camera = request.query.get("application", "")  # Custom Vision's own way to say who is asking
        answer = await self._classifier.classify(image, keep=keep, camera=camera)
        if self._options.predictions is not None:
            self._options.predictions.posted(image, answer)
        return web.json_response(_in_the_routes_form(request, image, answer))

    def _check_key(self, request: web.Request) -> None:
        given = request.headers.get("Prediction-Key", "").encode("utf-8", "surrogateescape")
        if self._key and not hmac.compare_digest(given, self._key):
            raise WrongKey


async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The handler's answer, or what went wrong as JSON."""
    try:
        return await handler(request)
    except (RipeloopError, web.HTTPException, TimeoutError, MemoryError) as error:
        told = problem(error)
        if told is None:
            raise
        return told.response()


def _in_the_routes_form(request: web.Request, image: bytes, answer: Answer) -> dict[str, Any]:
    now = datetime.now(UTC)
    if "api" in request.match_info:
        return as_cloud(answer, image, request.match_info["project"], now=now)
    return as_container(answer, now=now)


def _posted_image(request: web.Request, body: bytes) -> bytes:
    kind = request.headers.get("Content-Type", "")  # aiohttp's own reading of it fails on hostile ones
    is_form = kind.strip().lower().startswith("multipart/") and not is_image(body)
    return image_in(kind, body) if is_form else body
