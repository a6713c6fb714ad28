"""The workload API: what a module asks the IoT Edge daemon for."""

from __future__ import annotations

from aiohttp import web

from localedge import jsontext
from localedge.daemon import sas
from localedge.edgehub.edgehub import EdgeHub
from localedge.faults import Faults
from ripeloop.errors import NotFound, Refused


def application(hub: EdgeHub, faults: Faults, trust_bundle: str) -> web.Application:
    """Serves the trust bundle, signatures and the list of modules."""
    workload = _Workload(hub, faults, trust_bundle)
    app = web.Application()
    app.router.add_get("/trust-bundle", workload.trust_bundle)
    app.router.add_post("/modules/{module}/genid/{generation}/sign", workload.sign)
    app.router.add_get("/modules", workload.modules)
    return app


class _Workload:
    def __init__(self, hub: EdgeHub, faults: Faults, trust_bundle: str) -> None:
        self._hub = hub
        self._faults = faults
        self._trust_bundle = trust_bundle

    async def trust_bundle(self, _: web.Request) -> web.Response:
        return web.json_response({"certificate": self._trust_bundle})

    async def sign(self, request: web.Request) -> web.Response:
        await self._faults.until_sign_answers()
        if self._faults.sign == "fail":
            return _problem(500, "told to fail")
        if "api-version" not in request.query:
            return _problem(400, "the api-version is missing")
        try:
            identity = self._hub.identities.get(request.match_info["module"])
        except NotFound as error:
            return _problem(404, str(error))
        if identity.generation != request.match_info["generation"]:
            return _problem(404, f"module {identity.module} has another generation")
        try:
            data = _data_to_sign(await request.read())
        except Refused as error:
            return _problem(400, str(error))
        return web.json_response({"digest": sas.sign(identity.key, data)})

    async def modules(self, _: web.Request) -> web.Response:
        listed = [
            {
                "id": identity.module,
                "name": identity.module,
                "type": "process",
                "config": {"settings": {}, "env": []},
                "status": {"runtimeStatus": {"status": self._status(identity.module)}},
            }
            for identity in self._hub.identities
        ]
        return web.json_response({"modules": listed})

    def _status(self, module: str) -> str:
        return "running" if self._hub.clients.connected(module) else "stopped"


def _data_to_sign(text: bytes) -> bytes:
    try:
        body = jsontext.read(text)  # the SDK sends JSON without saying so
        algorithm, key, data = body["algo"], body["keyId"], body["data"]
    except (Refused, KeyError, TypeError) as error:
        raise Refused("the body is not {keyId, algo, data}") from error
    if algorithm != "HMACSHA256" or key not in ("primary", "secondary") or not isinstance(data, str):
        raise Refused("only HMACSHA256 with the primary or secondary key is served")
    return sas.decode_base64(data)


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
