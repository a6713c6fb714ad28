"""The control API: what tests and the demo ask of the runtime itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from localedge import jsontext
from localedge.edgehub.broker import Broker
from localedge.edgehub.edgehub import EdgeHub
from localedge.edgehub.queues import Stored, Waiting
from localedge.iothub.answers import now
from localedge.iothub.configurations import Configurations
from localedge.iothub.registry import Registry, Said
from localedge.protocol.message import Message
from manifests.routes import LOWEST_PRIORITY, endpoint
from ripeloop.errors import NotFound, Refused

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(hub: EdgeHub, broker: Broker, configurations: Configurations, registry: Registry) -> web.Application:
    """Serves the state of the runtime, what reached upstream, the switches, and what simulated modules say."""
    control = _Control(hub, broker, configurations, registry)
    app = web.Application(middlewares=[_problems], client_max_size=8 * 1024 * 1024)
    app.router.add_get("/state", control.state)
    app.router.add_put("/upstream", control.upstream)
    app.router.add_get("/messages", control.messages)
    app.router.add_post("/input", control.input)
    app.router.add_get("/faults", control.faults)
    app.router.add_put("/faults", control.switch)
    app.router.add_post("/drop", control.drop)
    app.router.add_post("/forget", control.forget)
    app.router.add_post("/rekey", control.rekey)
    app.router.add_post("/say", control.say)
    app.router.add_get("/called", control.called)
    return app


class _Control:
    def __init__(self, hub: EdgeHub, broker: Broker, configurations: Configurations, registry: Registry) -> None:
        self._hub = hub
        self._registry = registry
        self._configurations = configurations
        self._broker = broker

    async def state(self, _: web.Request) -> web.Response:
        hub = self._hub
        return web.json_response(
            {
                "connected": sorted(client.module for client in hub.clients),
                "subscriptions": {client.module: sorted(client.features()) for client in hub.clients},
                "queues": hub.queues.depths(),
                "stats": hub.stats | {"redelivered": hub.delivery.redelivered},
                "online": hub.online,
            }
        )

    async def upstream(self, request: web.Request) -> web.Response:
        online = (await _body(request)).get("online")
        if not isinstance(online, bool):
            raise Refused("online must be true or false")
        self._configurations.set_online(online)
        return web.json_response({"online": online})

    async def messages(self, request: web.Request) -> web.Response:
        try:
            after = int(request.query.get("after", "0"))
        except ValueError:
            raise Refused("after must be the id of a message") from None
        return web.json_response({"messages": [_as_json(stored) for stored in self._hub.upstream.after(after)]})

    async def input(self, request: web.Request) -> web.Response:
        body = await _body(request)
        properties = body.get("properties", {})
        if not isinstance(properties, dict) or not all(isinstance(value, str) for value in properties.values()):
            raise Refused("properties must be an object of texts")
        message = Message(
            module="",
            body=_text(body, "body").encode(),
            properties=properties,
            system={"connectionDeviceId": self._hub.device},
        )
        to = endpoint(self._module(body), _text(body, "input"))
        await self._hub.delivery.put([Waiting(to, message, LOWEST_PRIORITY)])
        return web.json_response({})

    async def faults(self, _: web.Request) -> web.Response:
        return web.json_response(self._broker.faults.as_json())

    async def switch(self, request: web.Request) -> web.Response:
        faults = self._broker.faults
        faults.switch(await _body(request))
        self._broker.silence(faults.silent)
        return web.json_response(faults.as_json())

    async def drop(self, request: web.Request) -> web.Response:
        self._hub.clients.drop(self._module(await _body(request)), "told to drop it")
        return web.json_response({})

    async def forget(self, request: web.Request) -> web.Response:
        module = self._module(await _body(request))
        self._hub.sessions.drop(module)
        self._hub.clients.drop(module, "told to forget it")
        return web.json_response({})

    async def rekey(self, request: web.Request) -> web.Response:
        module = self._module(await _body(request))
        self._hub.identities.rekey(module)
        self._hub.clients.drop(module, "it has a new key")
        return web.json_response({})

    async def say(self, request: web.Request) -> web.Response:
        for one in _list(await _body(request), "modules"):
            reported, methods = one.get("reported", {}), one.get("methods", {})
            if not isinstance(reported, dict) or not isinstance(methods, dict):
                raise Refused("reported and methods must be objects")
            said = Said(
                connected=bool(one.get("connected", True)),
                methods={name: (200, payload) for name, payload in methods.items()},
                active=now(),
            )
            self._registry.say(self._registry.name(_text(one, "device"), _text(one, "module")), said, reported)
        return web.json_response({})

    async def called(self, _: web.Request) -> web.Response:
        return web.json_response({"called": self._registry.called})

    def _module(self, body: dict[str, Any]) -> str:
        return self._hub.identities.get(_text(body, "module")).module


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        return web.json_response({"message": str(error)}, status=400)
    except NotFound as error:
        return web.json_response({"message": str(error)}, status=404)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = jsontext.read(await request.read())
    except Refused as error:
        raise Refused(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused("the body is not an object")
    return body


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Refused(f"{name} is missing or not text")
    return value


def _list(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Refused(f"{name} must be a list of objects")
    return value


def _as_json(stored: Stored) -> dict[str, Any]:
    message = stored.message
    return {
        "id": stored.id,
        "module": message.module,
        "output": message.output,
        "properties": dict(message.properties),
        "system": dict(message.system),
        "body": message.body.decode(errors="replace"),
    }
