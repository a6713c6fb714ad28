"""IoT Hub's service REST for identities and queries: simulated devices are made here, and whole fleets are asked."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from aiohttp import web

from localedge import jsontext
from localedge.iothub import answers
from localedge.iothub.answers import Problem
from localedge.iothub.query import parse
from localedge.iothub.registry import Registry, texts
from ripeloop.errors import Refused

PAGE = 100  # IoT Hub's own most
MOST_AT_ONCE = 100  # identities in one bulk request


def add_routes(app: web.Application, registry: Registry, retarget: Callable[..., None]) -> None:
    """Serve identities and queries; `retarget` is called with the names of twins that are new."""
    service = _Identities(registry, retarget)
    app.router.add_post("/devices/query", service.query)
    app.router.add_post("/devices", service.bulk)
    app.router.add_get("/devices/{device}", service.get)
    app.router.add_put("/devices/{device}", service.put)
    app.router.add_delete("/devices/{device}", service.delete)
    app.router.add_get("/devices/{device}/modules", service.modules)
    app.router.add_get("/devices/{device}/modules/{module}", service.get)
    app.router.add_put("/devices/{device}/modules/{module}", service.put)


class _Identities:
    def __init__(self, registry: Registry, retarget: Callable[..., None]) -> None:
        self._registry = registry
        self._retarget = retarget

    async def query(self, request: web.Request) -> web.Response:
        text = (await answers.body(request)).get("query")
        if not isinstance(text, str):
            raise Problem(400, "ArgumentInvalid", "query is missing")
        try:
            query = parse(text)
        except Refused as error:
            raise Problem(400, "IotHubFormatError", str(error)) from None
        start, size = _page(request)
        rows = self._registry.rows(query)
        headers = {"x-ms-item-type": "raw" if query.columns else "twin"}
        if start + size < len(rows):
            headers["x-ms-continuation"] = base64.b64encode(str(start + size).encode()).decode()
        return web.json_response(rows[start : start + size], headers=headers)

    async def bulk(self, request: web.Request) -> web.Response:
        try:
            wanted = jsontext.read(await request.read())
        except Refused as error:
            raise Problem(400, "ArgumentInvalid", f"the body is not JSON: {error}") from None
        if not isinstance(wanted, list) or not 0 < len(wanted) <= MOST_AT_ONCE:
            raise Problem(400, "ArgumentInvalid", f"the body is not a list of 1 to {MOST_AT_ONCE} identities")
        made, errors = [], []
        for one in wanted:
            try:
                made.append(self._make(one))
            except Problem as problem:
                id_ = one.get("id") if isinstance(one, dict) else None
                errors.append({"deviceId": id_, "errorCode": problem.code, "errorStatus": str(problem)})
        if made:
            self._retarget(*made)
        return web.json_response(
            {"isSuccessful": not errors, "errors": errors, "warnings": []}, status=400 if errors else 200
        )

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self._registry.identity(*_names(request)))

    async def put(self, request: web.Request) -> web.Response:
        device, module = _names(request)
        body = await answers.body(request)
        if body.get("deviceId", device) != device or body.get("moduleId", module) != module:
            raise Problem(400, "ArgumentInvalid", "the body is about another one")
        self._retarget(self._registry.create(device, module))
        return web.json_response(self._registry.identity(device, module))

    async def delete(self, request: web.Request) -> web.Response:
        self._registry.delete(request.match_info["device"])
        return web.Response(status=204)

    async def modules(self, request: web.Request) -> web.Response:
        device, _ = _names(request)
        names = self._registry.modules(device)
        return web.json_response([self._registry.identity(device, name) for name in names])

    def _make(self, one: Any) -> str:
        if not isinstance(one, dict):
            raise Problem(400, "ArgumentInvalid", "an identity is not an object")
        device, module, mode = texts(one, "id", "moduleId", "importMode")
        if not device or mode != "create":
            raise Problem(400, "ArgumentInvalid", "only importMode create is served here, with an id")
        return self._registry.create(device, module, answers.part(one, "tags"))


def _names(request: web.Request) -> tuple[str, str]:
    return request.match_info["device"], request.match_info.get("module", "")


def _page(request: web.Request) -> tuple[int, int]:
    """Where the page begins, and how many rows it has."""
    token, most = request.headers.get("x-ms-continuation", ""), request.headers.get("x-ms-max-item-count", "")
    try:
        start = int(base64.b64decode(token, validate=True)) if token else 0
        size = int(most) if most else PAGE
    except (ValueError, binascii.Error):
        raise Problem(400, "ArgumentInvalid", "x-ms-continuation or x-ms-max-item-count cannot be read") from None
    if size < 1 or start < 0:
        raise Problem(400, "ArgumentInvalid", "x-ms-max-item-count is below 1")
    return start, min(size, PAGE)
