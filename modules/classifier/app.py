"""The routes and the JSON of the exported Custom Vision container, without its faults."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from classifier.classify import Busy, Classifier
from classifier.guard import Bodies, Limits
from classifier.multipart import image_in
from ripeloop.errors import BadImage, BadModel, RipeloopError
from ripeloop.prediction import Prediction

RETRY_SECONDS = 1

_KIND = "{kind:classify|detect}"
_PREFIXES = ("", "/{project}", f"/{{project}}/{_KIND}/iterations/{{name}}")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(classifier: Classifier, *, max_body: int, limits: Limits | None = None) -> web.Application:
    """The HTTP side of `classifier`; images over `max_body` bytes are refused, bodies by `limits`."""
    http = _Http(classifier, max_body, Bodies(limits or Limits(max_body)))

    @web.middleware
    async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (RipeloopError, web.HTTPException, TimeoutError) as error:
            answer = _problem(error)
            if answer is None:
                raise
            if request.method == "POST":
                classifier.refused()
            return answer

    app = web.Application(middlewares=[problems])
    app.router.add_get("/", http.root)
    app.router.add_get("/healthz", http.health)
    for prefix in _PREFIXES:
        for store in ("", "/nostore"):
            app.router.add_post(f"{prefix}/image{store}", http.image)
            app.router.add_post(f"{prefix}/url{store}", http.url)
    return app


def is_our_fault(record: logging.LogRecord) -> bool:
    """A filter for aiohttp's log: what a client does wrong is answered, and a port scan must not fill the disk."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionError)


class _Http:
    def __init__(self, classifier: Classifier, max_image: int, bodies: Bodies) -> None:
        self._classifier = classifier
        self._max_image = max_image
        self._bodies = bodies

    async def root(self, _: web.Request) -> web.Response:
        return web.Response(text="CustomVision.ai model host harness")

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "model": self._classifier.model.version})

    async def image(self, request: web.Request) -> web.Response:
        self._classifier.check_place()  # before the body is sent in vain
        async with self._bodies.of(request) as body:
            posted = _posted_image(request, body)
            if len(posted) > self._max_image:
                raise web.HTTPRequestEntityTooLarge(self._max_image)
            keep = not request.path.endswith("/nostore")
            with self._classifier.place():
                return web.json_response(_answer(await self._classifier.classify(posted, keep=keep)))

    async def url(self, _: web.Request) -> web.Response:
        raise web.HTTPNotFound(text="classifying by URL is off: post the image itself to /image")


def _posted_image(request: web.Request, body: bytes) -> bytes:
    kind = request.headers.get("Content-Type", "")  # aiohttp's own reading of it fails on hostile ones
    return image_in(kind, body) if kind.strip().lower().startswith("multipart/") else body


def _answer(predictions: tuple[Prediction, ...]) -> dict[str, Any]:
    return {
        "id": "",
        "project": "",
        "iteration": "",
        "created": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds"),
        "predictions": [
            {"tagName": p.tag, "probability": round(p.probability, 8), "tagId": "", "boundingBox": None}
            for p in predictions
        ],
    }


def _problem(error: Exception) -> web.Response | None:
    """The error in the cloud's shape; None for what is no error, such as a redirect."""
    if isinstance(error, BadImage):
        return _refusal(400, "BadRequestImageFormat", str(error))
    if isinstance(error, Busy):
        return _refusal(503, "ServiceUnavailable", str(error), {"Retry-After": str(RETRY_SECONDS)})
    if isinstance(error, BadModel):
        return _refusal(500, "ErrorPrediction", str(error))
    if isinstance(error, TimeoutError):
        return _refusal(408, "RequestTimeout", "the image arrived too slowly: post it again")
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return _refusal(413, "BadRequestImageSizeBytes", f"{error.text}: post a smaller image")
    if isinstance(error, web.HTTPException) and error.status >= 400:
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return _refusal(error.status, error.reason.replace(" ", ""), error.text or error.reason, kept)
    return None


def _refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status, headers=headers)
