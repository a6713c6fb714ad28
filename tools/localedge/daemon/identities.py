"""The identities of a device's modules: created once, kept over restarts."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ripeloop.disk import write_whole
from ripeloop.errors import NotFound, SettingsError


@dataclass(frozen=True, slots=True)
class Identity:
    """One module of the device, with the key its tokens are signed with."""

    device: str
    module: str
    generation: str
    key: str

    @property
    def client_id(self) -> str:
        """The MQTT client id: `device/module`."""
        return f"{self.device}/{self.module}"


class Identities:
    """The modules' identities and the service's key, in one private file."""

    def __init__(self, path: Path, device: str) -> None:
        self.device = device
        self._path = path
        known = _read(path)
        self.owner_key: str = known.get("ownerKey") or new_key()
        self._modules = {
            name: Identity(device, name, entry["generation"], entry["key"])
            for name, entry in known.get("modules", {}).items()
        }

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._modules.values())

    def get(self, module: str) -> Identity:
        """The identity of `module`. Raises NotFound."""
        try:
            return self._modules[module]
        except KeyError:
            raise NotFound(f"no module {module} in the deployment") from None

    def deploy(self, modules: Iterable[str]) -> frozenset[str]:
        """Give each of `modules` an identity and take it from all others; returns those that lost theirs."""
        wanted = list(modules)
        gone = frozenset(self._modules).difference(wanted)
        self._modules = {name: self._modules.get(name) or self._new(name) for name in wanted}
        self._save()
        return gone

    def rekey(self, module: str) -> Identity:
        """Give `module` a new key: tokens signed with the old one are refused from now on."""
        self._modules[module] = replace(self.get(module), key=new_key())
        self._save()
        return self._modules[module]

    def _new(self, module: str) -> Identity:
        return Identity(self.device, module, str(secrets.randbelow(10**18)), new_key())

    def _save(self) -> None:
        modules = {
            name: {key: value for key, value in asdict(identity).items() if key in ("generation", "key")}
            for name, identity in self._modules.items()
        }
        write_whole(self._path, json.dumps({"ownerKey": self.owner_key, "modules": modules}).encode(), 0o600)


def new_key() -> str:
    """A fresh base64 key of 256 bits."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        known: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise SettingsError(f"{path} is damaged; remove the state folder to start afresh") from error
    return known
