"""The devices, through IoT Hub's service REST: twins, direct methods, deployments.

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

from retrain.sas import HubKey
from ripeloop.errors import NotFound, Offline, Refused, SettingsError

API_VERSION = "2021-04-12"
TOKEN_SECONDS = 3600
ANSWER_SECONDS = 30.0
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

    @classmethod
    def from_json(cls, device: str, module: str, document: Mapping[str, Any]) -> Twin:
        """The twin as the hub sends it; the hub's own fields in the sections ($version, $metadata) are left out."""
        properties = document.get("properties", {})
        return cls(
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

    async def patch_twin(self, device: str, module: str, desired: Mapping[str, Any], etag: str = "*") -> Twin:
        """Change desired properties (None removes one); the twin as it is now.

        With the `etag` of a twin read before, Refused says that somebody changed it meanwhile: read it again.
        """
        body = {"properties": {"desired": desired}}
        headers = {"If-Match": etag if etag == "*" else f'"{etag.strip(chr(34))}"'}
        document = await self._ask("PATCH", _twin_path(device, module), body, headers=headers)
        return Twin.from_json(device, module, document)

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
                f"--hub-ca ({error.certificate_error})"
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            raise Offline(f"{self._key.host} cannot be reached: {error or type(error).__name__}") from error
        if response.status >= 300:
            raise _reason(response.status, text, f"{verb} {path}")
        return _json(text) if text.strip() else None


def _reason(status: int, text: str, request: str) -> Exception:
    """The hub's refusal as one of our errors."""
    words = _words(text) or "no reason given"
    if status == 404 and (not request.endswith("/methods") or any(code in text for code in UNKNOWN)):
        return NotFound(f"the hub knows no such device or module ({words})")
    if status == 404:
        return Offline(f"the module is not connected to the hub now ({words})")
    if status == 401:
        return Refused(f"the hub did not take the key: is the connection string of this hub, and still good? ({words})")
    if status == 403:
        return Refused(f"the key may not do this: its policy needs service connect and registry write ({words})")
    if status == 412:
        return Refused(f"somebody changed the twin meanwhile; read it again ({words})")
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


def _without_system(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if not name.startswith("$")}
