"""The labelling server as an aiohttp application: guards, pages, and every failure in the words of this project."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from retrain.label.asking.asking import MAX_BODY
from retrain.label.pages.shown import in_words, page
from retrain.label.parts import Parts
from retrain.label.routes import PAGES
from retrain.label.security import Guard
from ripeloop.errors import Changed, Denied, NotFound, Offline, Refused, RipeloopError

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
WORDS = {
    401: "sign_in", 403: "forbidden", 404: "not_found", 405: "method", 409: "changed", 413: "too_large",
    421: "host", 422: "refused", 429: "too_many", 503: "away",
}  # fmt: skip

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def templates() -> Environment:
    """The templates, which escape all that is put into them."""
    return Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, auto_reload=False
    )


def application(parts: Parts) -> web.Application:
    """The HTTP side of `parts`."""
    guard = Guard(parts.settings, parts.people)
    failures = _Failures(parts)
    app = web.Application(
        middlewares=[failures.answer, guard.hosts, guard.people, guard.forgery], client_max_size=MAX_BODY
    )
    app.on_response_prepare.append(guard.headers)
    for routes in PAGES:
        app.add_routes(routes(parts))
    app.router.add_static("/static/", HERE / "static")
    return app


class _Failures:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What went wrong: JSON for a script, a page for a person."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return self._told(request, error.status, error.text or error.reason, dict(error.headers))
        except RipeloopError as error:
            return self._told(request, _status(error), str(error), {})
        except TimeoutError:
            return self._told(request, 408, "the request did not arrive in time: send it again", {})

    def _told(self, request: web.Request, status: int, message: str, headers: dict[str, str]) -> web.Response:
        word = "csrf" if message.startswith("csrf: ") else WORDS.get(status, "failed")
        kept = {name: value for name, value in headers.items() if name in ("Retry-After", "Allow")}
        if status == 503:
            kept["Retry-After"] = "5"
        if request.path.startswith(("/api/", "/image/", "/static/")):
            told = in_words(request, {"error": word, "message": message})
            return web.json_response(told, status=status, headers=kept)
        response = page(request, self._parts, "error.html", {"status": status, "message": message}, status)
        response.headers.update(kept)
        return response


def _status(error: RipeloopError) -> int:
    if isinstance(error, Offline | Denied):
        return 503
    if isinstance(error, NotFound):
        return 404
    if isinstance(error, Changed):
        return 409
    return 422 if isinstance(error, Refused) else 500
