"""How IoT Hub's service REST takes a request apart and says no."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from localedge import jsontext
from ripeloop.errors import Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Problem(Refused):
    """An answer of IoT Hub that is not a success."""

    def __init__(self, status: int, code: str, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.code = code


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Middleware: each Problem becomes IoT Hub's answer."""
    try:
        return await handler(request)
    except Problem as problem:
        return _problem(problem.status, problem.code, str(problem))
    except web.HTTPException as error:
        return _problem(error.status, error.reason.replace(" ", ""), error.text or error.reason)


def _problem(status: int, code: str, text: str) -> web.Response:
    tracking = f"Tracking ID:{uuid.uuid4().hex}-TimeStamp:{now()}"
    return web.json_response({"Message": f"ErrorCode:{code};{text}", "ExceptionMessage": tracking}, status=status)


def match(request: web.Request, etag: str) -> None:
    """Let a request pass whose If-Match, if it has one, is of `etag`. Raises Problem."""
    wanted = request.headers.get("If-Match", "*").strip()
    if wanted != "*" and wanted.removeprefix("W/").strip('"') != etag:
        raise Problem(412, "PreconditionFailed", "Precondition failed: it was changed since you read it")


async def body(request: web.Request) -> dict[str, Any]:
    """The JSON object in the request. Raises Problem."""
    try:
        found = jsontext.read(await request.read())
    except Refused as error:
        raise Problem(400, "ArgumentInvalid", f"the body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Problem(400, "ArgumentInvalid", "the body is not an object")
    return found


def part(whole: dict[str, Any], name: str) -> dict[str, Any]:
    """An object in the body; empty where it is missing. Raises Problem."""
    found = whole.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise Problem(400, "ArgumentInvalid", f"{name} is not an object")
    return found


def seconds(whole: dict[str, Any], name: str, least: int, default: int) -> int:
    """A time limit in the body. Raises Problem."""
    value = whole.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or not least <= value <= 300:
        raise Problem(400, "ArgumentInvalid", f"{name} must be from {least} to 300")
    return value


def now() -> str:
    """The time as IoT Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
