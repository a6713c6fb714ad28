"""IoT Hub's devices and modules: the one that runs here, and simulated ones that are nothing but their twins.

The twin of a simulated module has the name `device/module`, that of its device `device/`. What such a module reports
and answers comes through the control API.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from localedge.deployment import AGENT, HUB
from localedge.edgehub.edgehub import EdgeHub
from localedge.edgehub.twins import Document, Section, Twin
from localedge.iothub import answers
from localedge.iothub.answers import Problem
from localedge.iothub.query import DEVICES, Query
from ripeloop.errors import NotFound, Refused

NEVER = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Said:
    """What a simulated module does: whether it is connected, and what its methods answer, as (status, payload)."""

    connected: bool = False
    methods: Mapping[str, tuple[int, Any]] | None = None
    active: str = NEVER


class Registry:
    """All devices and modules of the hub, by the names of their twins."""

    def __init__(self, hub: EdgeHub) -> None:
        self._hub = hub
        self._said: dict[str, Said] = {}
        self.called: list[str] = []
        """The methods of simulated modules that were called, as `device/module/method`."""

    def name(self, device: str, module: str = "") -> str:
        """The name of the twin of a module, or of the device. Raises Problem where the hub knows none."""
        if device != self._hub.device:
            known = self._hub.twins.exists
            if not known(f"{device}/"):
                raise Problem(404, "DeviceNotFound", device)
            if not known(f"{device}/{module}"):
                raise Problem(404, "ModuleNotFound", f"{device}/{module}")
            return f"{device}/{module}"
        if module not in ("", AGENT, HUB):
            try:
                self._hub.identities.get(module)
            except NotFound:
                raise Problem(404, "ModuleNotFound", f"{device}/{module}") from None
        return module

    def create(self, device: str, module: str = "", tags: Document | None = None) -> str:
        """A simulated device or module, with tags; the name of its twin. Raises Problem."""
        if device == self._hub.device:
            raise Problem(409, "DeviceAlreadyExists", f"{device} runs here; a deployment gives it modules")
        if module and not self._hub.twins.exists(f"{device}/"):
            raise Problem(404, "DeviceNotFound", device)
        name = f"{device}/{module}"
        if self._hub.twins.exists(name):
            raise Problem(409, "ModuleAlreadyExistsOnDevice" if module else "DeviceAlreadyExists", name)
        try:
            self._hub.twins.change(name, {}, tags or {})
        except Refused as error:
            raise Problem(400, "ArgumentInvalid", str(error)) from None
        return name

    def delete(self, device: str) -> None:
        """Forget a simulated device with its modules. Raises Problem."""
        name = self.name(device)
        if not name:
            raise Problem(400, "ArgumentInvalid", f"{device} runs here")
        for other in self._hub.twins.names():
            if other.startswith(name):
                self._hub.twins.drop(other)
                self._said.pop(other, None)

    def modules(self, device: str) -> list[str]:
        """The ids of the device's modules. Raises Problem."""
        name = self.name(device)
        if not name:
            return [AGENT, HUB, *(identity.module for identity in self._hub.identities)]
        return [
            other.removeprefix(name) for other in self._hub.twins.names() if other.startswith(name) and other != name
        ]

    def say(self, name: str, said: Said, reported: Document) -> None:
        """A simulated module says something. Raises Refused where that is over a limit."""
        if "/" not in name:
            raise Refused("a module that runs here speaks for itself")
        if reported:
            self._hub.twins.report(name, reported)
            self._hub.twins.sync(name)
        self._said[name] = said

    def said(self, name: str) -> Said:
        """What a simulated module said last."""
        return self._said.get(name, Said())

    def rows(self, query: Query) -> list[Document]:
        """The answer to a query."""
        of_devices = query.source == DEVICES
        return query.rows(
            self.document(name, twin) for name, twin in self.twins().items() if is_device(name) == of_devices
        )

    def twins(self) -> dict[str, Twin]:
        """Every twin by its name, also one that nobody wrote to yet."""
        stored = self._hub.twins.all()
        ours = {name: stored.get(name, Twin()) for name in ("", *self.modules(self._hub.device))}
        return ours | {name: twin for name, twin in stored.items() if "/" in name}

    def document(self, name: str, twin: Twin) -> Document:
        """The twin as IoT Hub shows it."""
        device, _, module = name.rpartition("/") if "/" in name else (self._hub.device, "", name)
        return {
            "deviceId": device,
            **({"moduleId": module} if module else {"capabilities": {"iotEdge": True}}),
            "etag": twin.etag,
            "status": "enabled",
            "connectionState": self.connection(name),
            "lastActivityTime": self._active(name),
            "authenticationType": "sas",
            "version": twin.revision + twin.reported_at_hub.version,
            "tags": twin.tags,
            "properties": {"desired": _section(twin.desired), "reported": _section(twin.reported_at_hub)},
            **({"configurations": twin.configurations} if twin.configurations else {}),
        }

    def identity(self, device: str, module: str = "") -> Document:
        """The device or module as the registry shows it. Raises Problem."""
        name = self.name(device, module)
        return {
            "deviceId": device,
            **({"moduleId": module, "managedBy": "iotEdge"} if module else {"capabilities": {"iotEdge": True}}),
            "status": "enabled",
            "connectionState": self.connection(name),
            "lastActivityTime": self._active(name),
        }

    def connection(self, name: str) -> str:
        """IoT Hub's word for whether it is connected."""
        if "/" in name:
            there = self.said(f"{name}").connected or (is_device(name) and self._any_connected(name))
        else:
            there = (name in ("", AGENT, HUB) or self._hub.clients.connected(name)) and self._hub.online
        return "Connected" if there else "Disconnected"

    def _any_connected(self, device: str) -> bool:
        return any(said.connected for name, said in self._said.items() if name.startswith(device))

    def _active(self, name: str) -> str:
        if "/" in name:
            return self.said(name).active
        return answers.now() if self.connection(name) == "Connected" else NEVER


def is_device(name: str) -> bool:
    """Whether it is the name of a device's own twin."""
    return name == "" or name.endswith("/")


def texts(found: Mapping[str, Any], *names: str) -> Iterable[str]:
    """Fields that must be texts. Raises Problem."""
    for name in names:
        value = found.get(name, "")
        if not isinstance(value, str):
            raise Problem(400, "ArgumentInvalid", f"{name} is no text: {json.dumps(value)[:50]}")
        yield value


def _section(section: Section) -> Document:
    metadata = {"$lastUpdated": section.updated, "$lastUpdatedVersion": section.version}
    return {**section.values, "$metadata": metadata, "$version": section.version}
