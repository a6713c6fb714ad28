"""The devices, through IoT Hub's service REST: twins, queries, direct methods, deployments, configurations.

The same against Azure and against localedge.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp

from retrain.devices.sas import HubKey
from retrain.unreached import why_unreached
from ripeloop.errors import Changed, NotFound, Offline, Refused, SettingsError

API_VERSION = "2021-04-12"
TOKEN_SECONDS = 3600
ANSWER_SECONDS = 30.0
PAGE = 100  # twins in one answer, IoT Hub's most
# codes in the text of a 404: nothing has that name, as against "is not connected now"
UNKNOWN = ("DeviceNotFound", "ModuleNotFound", "404001", "404010")


@dataclass(frozen=True, slots=True)
class Twin:
    """What the cloud wants of one module and what the module says is so."""

    device: str
    module: str
    connected: bool = False
    desired: Mapping[str, Any] = field(default_factory=dict)
    reported: Mapping[str, Any] = field(default_factory=dict)
    etag: str = "*"
    tags: Mapping[str, Any] = field(default_factory=dict)
    applied: Mapping[str, str] = field(default_factory=dict)
    """The automatic configurations that are for it, by id: `Applied`, or `Targeted` where a stronger one is."""
    active: str = ""
    """When the hub heard of it last; empty for never."""
    changed: str = ""
    """When desired properties changed last, by the hub's clock."""

    @classmethod
    def from_json(cls, device: str, module: str, document: Mapping[str, Any]) -> Twin:
        """The twin as the hub sends it; the hub's own fields in the sections ($version, $metadata) are left out."""
        properties = document.get("properties", {})
        active = str(document.get("lastActivityTime") or "")
        configurations = document.get("configurations") or {}
        return cls(
            tags=document.get("tags") or {},
            applied={name: str(one.get("status", "")) for name, one in configurations.items()},
            active="" if active.startswith("0001") else active,
            changed=str(properties.get("desired", {}).get("$metadata", {}).get("$lastUpdated", "")),
            device=device,
            module=module,
            connected=document.get("connectionState") == "Connected",
            desired=_without_system(properties.get("desired", {})),
            reported=_without_system(properties.get("reported", {})),
            etag=str(document.get("etag", "*")),
        )


class Fleet:
    """One IoT Hub. Use `Fleet.open`. Every call raises Offline, Refused or NotFound, with the hub's own words."""

    def __init__(self, key: HubKey, session: aiohttp.ClientSession) -> None:
        self._key = key
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, connection_string: str, ca_file: Path | None = None) -> AsyncIterator[Fleet]:
        """The hub of this connection string; `ca_file` holds its authority where the system does not know it.

        Nothing is sent yet. Raises SettingsError.
        """
        key = HubKey.from_connection_string(connection_string)
        connector = aiohttp.TCPConnector(ssl=_trust(ca_file))
        async with aiohttp.ClientSession(f"https://{key.host}", connector=connector) as session:
            yield cls(key, session)

    async def modules(self, device: str) -> list[str]:
        """The ids of the modules of `device`."""
        found = await self._ask("GET", f"/devices/{quote(device, safe='')}/modules")
        return sorted(str(module["moduleId"]) for module in found)

    async def twin(self, device: str, module: str) -> Twin:
        """The twin of one module."""
        return Twin.from_json(device, module, await self._ask("GET", _twin_path(device, module)))

    async def modules_where(self, condition: str) -> list[Twin]:
        """The twins of all modules that meet a condition of IoT Hub's query language, in calls of a hundred."""
        body, found = {"query": f"SELECT * FROM devices.modules WHERE {condition}"}, []  # noqa: S608 - the hub's
        headers = {"x-ms-max-item-count": str(PAGE)}
        more: str | None = ""
        while more is not None:
            token = {"x-ms-continuation": more} if more else {}
            answer, told = await self._told("POST", "/devices/query", body, headers=headers | token)
            found += [Twin.from_json(str(one["deviceId"]), str(one["moduleId"]), one) for one in answer]
            more = told.get("x-ms-continuation") or None
        return found

    async def patch_twin(
        self,
        device: str,
        module: str,
        desired: Mapping[str, Any],
        etag: str = "*",
        tags: Mapping[str, Any] | None = None,
    ) -> Twin:
        """Change desired properties, and tags (None removes one); the twin as it is now.

        With the `etag` of a twin read before, Changed says that somebody changed it meanwhile: read it again.
        """
        body = {"properties": {"desired": desired}} | ({"tags": tags} if tags is not None else {})
        document = await self._ask("PATCH", _twin_path(device, module), body, headers=_if_match(etag))
        return Twin.from_json(device, module, document)

    async def configurations(self) -> list[dict[str, Any]]:
        """All automatic configurations, as the hub has them."""
        return list(await self._ask("GET", "/configurations"))

    async def add_configuration(self, configuration: Mapping[str, Any]) -> None:
        """Make an automatic configuration. Raises Changed where its id is taken."""
        await self._ask("PUT", _configuration_path(str(configuration["id"])), configuration)

    async def label_configuration(self, configuration: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        """Give a configuration, as it was read, other labels. Raises Changed, NotFound."""
        etag, body = str(configuration["etag"]), {**configuration, "labels": dict(labels)}
        await self._ask("PUT", _configuration_path(str(configuration["id"])), body, headers=_if_match(etag))

    async def remove_configuration(self, id_: str, etag: str = "*") -> None:
        """Take a configuration away: its devices take the next strongest that is for them. Raises Changed, NotFound."""
        await self._ask("DELETE", _configuration_path(id_), headers=_if_match(etag))

    async def invoke(self, device: str, module: str, method: str, payload: Any = None, seconds: int = 30) -> Any:
        """What a direct method of a module answers. Raises Offline where the module is silent, Refused by the module.

        `seconds`: how long the module may take, 5 to 300.
        """
        body = {"methodName": method, "payload": payload, "responseTimeoutInSeconds": seconds}
        answer = await self._ask(
            "POST", f"{_twin_path(device, module)}/methods", body, seconds=seconds + ANSWER_SECONDS
        )
        if not 200 <= answer["status"] < 300:
            raise Refused(f"{module} answers {method} with {answer['status']}: {answer.get('payload')}")
        return answer.get("payload")

    async def apply(self, device: str, manifest: Mapping[str, Any]) -> None:
        """Make this deployment manifest (`{"modulesContent": …}`) the device's own."""
        await self._ask("POST", f"/devices/{quote(device, safe='')}/applyConfigurationContent", manifest)

    async def _ask(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> Any:
        return (await self._told(verb, path, body, headers=headers, seconds=seconds))[0]

    async def _told(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> tuple[Any, Mapping[str, str]]:
        """The answer and its headers."""
        authorization = {"Authorization": self._key.token(int(time.time()) + TOKEN_SECONDS)}
        try:
            async with self._session.request(
                verb,
                path,
                params={"api-version": API_VERSION},
                json=body,
                headers={**authorization, **(headers or {})},
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                text = await response.text()
        except aiohttp.ClientConnectorCertificateError as error:
            raise Refused(
                f"{self._key.host} shows a certificate that nothing here vouches for: name its authority with "
                f"--hub-ca ({why_unreached(error)})"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Offline(f"{self._key.host} cannot be reached: {why_unreached(error)}") from error
        if response.status >= 300:
            raise _reason(response.status, text, f"{verb} {path}")
        return _json(text) if text.strip() else None, response.headers


def _reason(status: int, text: str, request: str) -> Exception:
    """The hub's refusal as one of our errors."""
    words = _words(text) or "no reason given"
    if status == 404 and (not request.endswith("/methods") or any(code in text for code in UNKNOWN)):
        return NotFound(f"the hub knows no such device, module or configuration ({words})")
    if status == 404:
        return Offline(f"the module is not connected to the hub now ({words})")
    if status == 401:
        return Refused(f"the hub did not take the key: is the connection string of this hub, and still good? ({words})")
    if status == 403:
        return Refused(f"the key may not do this: its policy needs service connect and registry write ({words})")
    if status in (409, 412):
        return Changed(f"somebody changed it meanwhile; read it again ({words})")
    if status == 429 or status >= 500:
        return Offline(f"the hub or the module does not answer now, try again later ({status}: {words})")
    return Refused(f"the hub refused {request}: {status}, {words}")


def _words(text: str) -> str:
    """The sentence in an error body, which is JSON in one of several shapes, or plain text."""
    try:
        document = json.loads(text)
    except ValueError:
        return text.strip()[:300]
    if isinstance(document, dict):
        lowered = {str(name).lower(): value for name, value in document.items()}
        return str(lowered.get("message") or lowered.get("exceptionmessage") or document)[:300]
    return str(document)[:300]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Refused(f"the answer is not IoT Hub's: {text.strip()[:100]!r}; check the connection string") from None


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"--hub-ca {ca_file} cannot be read as certificates: {error}") from error


def _twin_path(device: str, module: str) -> str:
    return f"/twins/{quote(device, safe='')}/modules/{quote(module, safe='')}"


def _configuration_path(id_: str) -> str:
    return f"/configurations/{quote(id_, safe='')}"


def _if_match(etag: str) -> dict[str, str]:
    return {"If-Match": etag if etag == "*" else f'"{etag.strip(chr(34))}"'}


def _without_system(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if not name.startswith("$")}
