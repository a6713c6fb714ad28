"""IoT Hub's service REST, as far as the tools call it: twins, methods, deployments and configurations."""

from __future__ import annotations

import re
import time
from typing import Any

from aiohttp import web

from localedge.daemon import sas
from localedge.deployment import parse
from localedge.edgehub.edgehub import EdgeHub
from localedge.iothub import answers, registryservice, targeting
from localedge.iothub.answers import Handler, Problem
from localedge.iothub.configurations import Configuration, Configurations
from localedge.iothub.moduleconfigurations import ModuleConfigurations, check_configuration, is_for_modules
from localedge.iothub.registry import Registry
from ripeloop.errors import NotFound, Refused, SettingsError

POLICY = "iothubowner"
MAX_BODY = 1024 * 1024
MAX_METHOD_NAME = 1024  # it becomes part of a topic, which has an end
_ID = re.compile(r"[a-z0-9\-:+%_#*?!(),=@;$']{1,128}")


def application(hub: EdgeHub, configurations: Configurations, registry: Registry, hosts: list[str]) -> web.Application:
    """Serves the service REST; `hosts` are the names a token may be for."""
    service = _Service(hub, configurations, registry)
    app = web.Application(middlewares=[answers.problems, _Gate(hub, hosts).check], client_max_size=MAX_BODY)
    app.router.add_get("/twins/{device}", service.get_twin)
    app.router.add_patch("/twins/{device}", service.patch_twin)
    app.router.add_get("/twins/{device}/modules/{module}", service.get_twin)
    app.router.add_patch("/twins/{device}/modules/{module}", service.patch_twin)
    app.router.add_post("/twins/{device}/modules/{module}/methods", service.call_method)
    registryservice.add_routes(app, registry, service.retarget)
    app.router.add_post("/devices/{device}/applyConfigurationContent", service.apply)
    app.router.add_get("/configurations", service.get_configurations)
    app.router.add_get("/configurations/{id}", service.get_configuration)
    app.router.add_put("/configurations/{id}", service.put_configuration)
    app.router.add_delete("/configurations/{id}", service.delete_configuration)
    return app


class _Gate:
    """Lets requests pass that carry an api-version and the owner's signature."""

    def __init__(self, hub: EdgeHub, hosts: list[str]) -> None:
        self._hub = hub
        self._hosts = hosts

    @web.middleware
    async def check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            token = sas.parse_token(request.headers.get("Authorization", ""))
            sas.check_token(token, resources=self._hosts, keys=[self._hub.identities.owner_key], now=time.time())
        except Refused as error:
            raise Problem(401, "IotHubUnauthorizedAccess", f"Unauthorized: {error}") from None
        if token.policy != POLICY:
            raise Problem(401, "IotHubUnauthorizedAccess", f"Unauthorized: no policy {token.policy}")
        if not request.query.get("api-version"):
            raise Problem(400, "InvalidProtocolVersion", "the api-version is missing")
        return await handler(request)


class _Service:
    def __init__(self, hub: EdgeHub, configurations: Configurations, registry: Registry) -> None:
        self._hub = hub
        self._configurations = configurations
        self._registry = registry
        self._for_modules = ModuleConfigurations(registry, hub.twins)

    def retarget(self, *names: str) -> None:
        """Have the module configurations be so on the twins of these names, or on all."""
        documents = (stored.document for stored in self._configurations.all())
        try:
            self._hub.sync(*self._for_modules.retarget(documents, names or None))
        except Refused as error:
            raise Problem(400, "ArgumentInvalid", str(error)) from None

    async def get_twin(self, request: web.Request) -> web.Response:
        return self._twin(self._name(request))

    async def patch_twin(self, request: web.Request) -> web.Response:
        name = self._name(request)
        body = await answers.body(request)
        answers.match(request, self._hub.twins.get(name).etag)
        desired = answers.part(answers.part(body, "properties"), "desired")
        try:
            stored = self._hub.twins.change(name, _without_dollars(desired), answers.part(body, "tags"))
        except Refused as error:
            raise Problem(400, "ArgumentInvalid", str(error)) from None
        await stored
        self._hub.sync(name)
        if not name:  # the device's tags may say that other configurations are for it
            self._configurations.retarget()
        self.retarget(name)
        return self._twin(name)

    async def call_method(self, request: web.Request) -> web.Response:
        module = self._name(request)
        body = await answers.body(request)
        name = body.get("methodName")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_METHOD_NAME:
            raise Problem(400, "ArgumentInvalid", f"methodName is missing or longer than {MAX_METHOD_NAME}")
        response_timeout = answers.seconds(body, "responseTimeoutInSeconds", 5, 30)
        connect_timeout = answers.seconds(body, "connectTimeoutInSeconds", 0, 0)
        if "/" in module:
            return self._simulated(module, name)
        if not self._hub.online:
            raise Problem(404, "DeviceNotOnline", "Timed out waiting for device to connect.")
        try:
            answer = await self._hub.methods.call(
                module,
                name,
                body.get("payload"),
                response_timeout=response_timeout,
                connect_timeout=connect_timeout,
            )
        except NotFound:
            raise Problem(404, "DeviceNotOnline", "Timed out waiting for device to connect.") from None
        except TimeoutError:
            raise Problem(504, "GatewayTimeout", "Timed out waiting for the response from device.") from None
        return web.json_response({"status": answer.status, "payload": answer.payload})

    def _simulated(self, module: str, name: str) -> web.Response:
        said = self._registry.said(module)
        answer = (said.methods or {}).get(name) if said.connected else None
        if answer is None:
            raise Problem(404, "DeviceNotOnline", "Timed out waiting for device to connect.")
        self._registry.called.append(f"{module}/{name}")
        return web.json_response({"status": answer[0], "payload": answer[1]})

    async def apply(self, request: web.Request) -> web.Response:
        self._check_device(request)
        try:
            await self._configurations.apply(parse(await answers.body(request)))
        except SettingsError as error:
            raise Problem(400, "InvalidConfigurationContent", str(error)) from None
        self.retarget()
        return web.Response(status=204)

    async def get_configurations(self, _: web.Request) -> web.Response:
        return web.json_response([self._shown(stored) for stored in self._configurations.all()])

    async def get_configuration(self, request: web.Request) -> web.Response:
        return self._answer(request.match_info["id"])

    async def put_configuration(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        body = await answers.body(request)
        if _ID.fullmatch(id_) is None or body.get("id", id_) != id_:
            raise Problem(400, "ArgumentInvalid", "the id is 1 to 128 lower-case letters, digits or -:+%_#*?!(),=@;$'")
        now = answers.now()
        document = {**body, "id": id_, "createdTimeUtc": now, "lastUpdatedTimeUtc": now}
        for ours in ("etag", "systemMetrics"):
            document.pop(ours, None)
        _check_content(document)
        await self._configurations.put(id_, Configuration(*self._next(request, id_, document)))
        self._configurations.retarget()
        self.retarget()
        return self._answer(id_)

    async def delete_configuration(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        answers.match(request, self._configuration(id_).etag)
        await self._configurations.delete(id_)
        self._configurations.retarget()
        self.retarget()
        return web.Response(status=204)

    def _next(self, request: web.Request, id_: str, document: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """A configuration that may be stored, and its revision."""
        try:
            old = self._configurations.get(id_)
        except NotFound:
            if request.headers.get("If-Match", "*") != "*":
                raise Problem(412, "PreconditionFailed", "there is no such configuration yet") from None
            return document, 1
        if "If-Match" not in request.headers:
            raise Problem(409, "ConfigurationAlreadyExists", f"{id_} exists; say with If-Match which one to change")
        answers.match(request, old.etag)
        if document.get("content") != old.document.get("content"):
            raise Problem(400, "ArgumentInvalid", "the content of a configuration cannot be changed; make a new one")
        return {**document, "createdTimeUtc": old.document["createdTimeUtc"]}, old.revision + 1

    def _configuration(self, id_: str) -> Configuration:
        try:
            return self._configurations.get(id_)
        except NotFound as error:
            raise Problem(404, "ConfigurationNotFound", str(error)) from None

    def _answer(self, id_: str) -> web.Response:
        stored = self._configuration(id_)
        return web.json_response(self._shown(stored), headers={"ETag": f'"{stored.etag}"'})

    def _shown(self, stored: Configuration) -> dict[str, Any]:
        return {**stored.document, **self._for_modules.metrics(stored.document), "etag": stored.etag}

    def _check_device(self, request: web.Request) -> None:
        if request.match_info["device"] != self._hub.device:
            raise Problem(404, "DeviceNotFound", request.match_info["device"])

    def _name(self, request: web.Request) -> str:
        """The name of the twin a request is about."""
        return self._registry.name(request.match_info["device"], request.match_info.get("module", ""))

    def _twin(self, name: str) -> web.Response:
        twin = self._hub.twins.get(name)
        return web.json_response(self._registry.document(name, twin), headers={"ETag": f'"{twin.etag}"'})


def _check_content(configuration: dict[str, Any]) -> None:
    sections = answers.part(answers.part(configuration, "content"), "modulesContent")
    for module, section in sections.items():
        if not isinstance(section, dict):
            raise Problem(400, "ArgumentInvalid", f"{module} is not an object")
    if not isinstance(configuration.get("priority", 0), int):
        raise Problem(400, "ArgumentInvalid", "priority is not a whole number")
    try:
        (check_configuration if is_for_modules(configuration) else targeting.check)(configuration)
    except SettingsError as error:
        raise Problem(400, "InvalidConfigurationContent", str(error)) from None


def _without_dollars(desired: dict[str, Any]) -> dict[str, Any]:
    """What a caller sends back of a twin it has read holds $metadata and $version, which are not its to change."""
    return {name: value for name, value in desired.items() if name not in ("$metadata", "$version")}
