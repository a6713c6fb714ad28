"""The credential for the cloud: from the settings, or by direct method, tried first and kept in a file of its own.

It is a secret: in no log, no twin, no answer, and in a file that only this user may read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ripeloop import disk
from ripeloop.blobs import Blobs, open_blobs, try_blobs
from ripeloop.blobsas import Sas
from ripeloop.errors import Denied, Offline, Refused, RipeloopError, SettingsError
from ripeloop.prediction import format_time
from sampler.uploading.cloud import Cloud

log = logging.getLogger(__name__)

MODE = 0o600
MAX_ADDRESS = 4096


@dataclass(frozen=True, slots=True)
class Credential:
    """Where images go and by what right. `address` is as in --cloud-blobs, and never shown."""

    address: str = field(repr=False)
    container: str
    api_version: str | None = None

    def open(self) -> AbstractAsyncContextManager[Blobs]:
        """The store. Raises SettingsError."""
        return open_blobs(self.address, self.container, self.api_version)

    @property
    def expires(self) -> str:
        """When it ends, as text; empty where it does not say."""
        sas = Sas.in_address(self.address)
        return format_time(sas.expires) if sas is not None and sas.expires is not None else ""


class Credentials:
    """The newest of what the settings say and what was sent: a sent one holds until the settings change."""

    def __init__(self, path: Path, start: Credential, cloud: Cloud) -> None:
        self._path = path
        self._start = start
        self._cloud = cloud
        self._now = start

    @property
    def expires(self) -> str:
        """When the one in use ends; empty where it does not say."""
        return self._now.expires

    async def begin(self) -> None:
        """Open the store with the newest credential. Raises SettingsError for what the settings say."""
        sent = await asyncio.to_thread(self._read)
        if sent is not None:
            try:
                await self._cloud.become(sent.open)
            except SettingsError as error:
                log.error("the credential in %s cannot be used, the settings' is: %s", self._path, error)
            else:
                self._now = sent
                return
        if self._start.address:
            await self._cloud.become(self._start.open)

    async def take(self, payload: Any, changed: Callable[[], None]) -> tuple[int, dict[str, Any]]:
        """The answer to the direct method `credential`: taken, or refused with the reason and the old one kept."""
        try:
            sent = self._parse(payload)
            await try_blobs(sent.address, sent.container, sent.api_version)
            await asyncio.to_thread(self._write, sent)
            await self._cloud.become(sent.open)
        except RipeloopError as error:
            log.warning("a credential was refused, the old one is kept: %s", error)
            return _status(error), {"error": str(error), "kind": error.kind}
        self._now = sent
        log.info("a new credential for the container %s was taken", sent.container)
        changed()
        return 200, {"container": sent.container, "expires": sent.expires}

    def _parse(self, payload: Any) -> Credential:
        """Raises SettingsError, which never repeats the address."""
        wanted = 'send {"address": a container\'s SAS URL or a connection string, "container": its name}'
        if not isinstance(payload, Mapping):
            raise SettingsError(wanted)
        address, container = payload.get("address"), payload.get("container") or self._start.container
        if not isinstance(address, str) or not isinstance(container, str) or not 0 < len(address) <= MAX_ADDRESS:
            raise SettingsError(wanted)
        if not address.startswith(("http://", "https://")) and ";" not in address:
            raise SettingsError(f"a folder is no credential: {wanted}")
        if address.startswith("http"):  # it names its own
            container = address.partition("?")[0].rstrip("/").rpartition("/")[2]
        return Credential(address, container, self._start.api_version)

    def _read(self) -> Credential | None:
        """What was sent; None where nothing was, or where the settings were changed since."""
        try:
            told = json.loads(self._path.read_bytes())
            if told["instead_of"] != _digest(self._start):
                log.warning("the settings name another cloud than when a credential was sent: the settings' is used")
                return None
            return Credential(str(told["address"]), str(told["container"]), self._start.api_version)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s cannot be read (%s): send the credential again", self._path, type(error).__name__)
            return None

    def _write(self, sent: Credential) -> None:
        told = {"address": sent.address, "container": sent.container, "instead_of": _digest(self._start)}
        try:
            disk.write_whole(self._path, json.dumps(told).encode(), MODE)
        except OSError as error:
            raise Offline(f"the credential cannot be written down: {error.strerror}", kind="state") from error


def _digest(credential: Credential) -> str:
    return hashlib.sha256(f"{credential.address}\n{credential.container}".encode()).hexdigest()


def _status(error: RipeloopError) -> int:
    if isinstance(error, SettingsError):
        return 400
    if isinstance(error, Denied | Refused):
        return 403
    return 503
