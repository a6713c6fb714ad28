"""What went wrong, as JSON in the cloud's shape and with the right status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from classifier.serving.classify import Busy
from classifier.serving.url import BadUrl, BigImage, ForbiddenUrl
from ripeloop.errors import BadImage, BadModel, RipeloopError

RETRY_SECONDS = 1
SHORT_OF_MEMORY = "there is no memory for this image now: post it again in a moment, or give this module more"

DENIED = {
    "error": {
        "code": "401",
        "message": "Access denied due to invalid subscription key: send the right one in the header Prediction-Key.",
    }
}

_ANSWERS: Mapping[type[RipeloopError], tuple[int, str]] = {
    BadImage: (400, "BadRequestImageFormat"),
    BadUrl: (400, "BadRequestImageUrl"),
    ForbiddenUrl: (403, "Forbidden"),
    BigImage: (413, "BadRequestImageSizeBytes"),
    BadModel: (500, "ErrorPrediction"),
    Busy: (503, "ServiceUnavailable"),
}


class WrongKey(web.HTTPUnauthorized):
    """The request lacks the Prediction-Key."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal: its HTTP status, its JSON and the headers that go with it."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """The refusal over HTTP."""
        return web.json_response(self.body, status=self.status, headers=self.headers)


def refusal(error: RipeloopError | MemoryError) -> Problem:
    """What an image that cannot be answered is told."""
    if isinstance(error, MemoryError):
        return refusal(Busy(SHORT_OF_MEMORY))
    status, code = _ANSWERS.get(type(error), (500, "ErrorUnknown"))
    return _problem(status, code, str(error), {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {})


def problem(error: Exception) -> Problem | None:
    """What a request that failed is told; None for what is no error, such as a redirect."""
    if isinstance(error, RipeloopError | MemoryError):
        return refusal(error)
    if isinstance(error, TimeoutError):
        return _problem(408, "RequestTimeout", "the image arrived too slowly: post it again")
    if isinstance(error, WrongKey):  # the cloud's gateway answers this, in a shape of its own
        return Problem(401, DENIED)
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return _problem(413, "BadRequestImageSizeBytes", f"{error.text}: post a smaller image")
    if isinstance(error, web.HTTPException) and error.status >= 400:
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return _problem(error.status, error.reason.replace(" ", ""), error.text or error.reason, kept)
    return None


def _problem(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Problem:
    return Problem(status, {"code": code, "message": message}, headers or {})
