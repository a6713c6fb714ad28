"""Deployments the device was given: by the file at the start, for this one device, or by automatic configurations."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from dataclasses import dataclass
from typing import Any

from localedge.database import Database
from localedge.deployment import Deployment, parse
from localedge.edgehub.edgehub import EdgeHub
from localedge.edgehub.twins import check_desired
from localedge.iothub.targeting import effective
from ripeloop.errors import NotFound, SettingsError

log = logging.getLogger(__name__)

FROM_FILE, ACTIVE, WAITING = "#file", "#active", "#waiting"  # no module has such a name


@dataclass(frozen=True, slots=True)
class Configuration:
    """An automatic configuration as IoT Hub stores it."""

    document: dict[str, Any]
    revision: int

    @property
    def etag(self) -> str:
        """IoT Hub's name for this state of the configuration."""
        return base64.b64encode(self.revision.to_bytes(8, "big")).decode()


class Configurations:
    """What the device must be, and why; all of it on disk."""

    def __init__(self, database: Database, hub: EdgeHub) -> None:
        self._db = database
        self._hub = hub

    def start(self, file: Deployment) -> None:
        """Be what the file says where it has changed since the last start, else what was last applied.

        Raises SettingsError for a deployment that cannot be.
        """
        active = self._stored(ACTIVE)
        if active is None or self._load(FROM_FILE) != file.manifest:
            self._be(file)
            self._save(FROM_FILE, file.manifest)
        else:
            self._hub.deploy(active)
        self.retarget()
        self.set_online(self._hub.online)

    def set_online(self, online: bool) -> None:
        """Reach IoT Hub, or lose it; what was applied there meanwhile is deployed now."""
        self._hub.set_online(online)
        if online and (waiting := self._stored(WAITING)) is not None:
            self._db.write("DELETE FROM deployed WHERE name = ?", [(WAITING,)])
            self._be(waiting)

    def retarget(self) -> None:
        """Be what the automatic configurations say that are for this device, where there are any."""
        tags = self._hub.twins.get("").tags
        manifest = effective((stored.document for stored in self.all()), self._hub.device, tags)
        if manifest is None:
            return
        try:
            deployment = parse(manifest)
            if deployment.manifest != self._load(ACTIVE):
                self.apply(deployment)
        except SettingsError as error:
            log.warning("the configurations for this device make no deployment: %s", error)

    def apply(self, deployment: Deployment) -> asyncio.Future[None]:
        """Be what the deployment says, now or once upstream is online; done when that is on disk.

        Raises SettingsError, and changes nothing then.
        """
        check_desired(deployment.desired)
        return self._be(deployment) if self._hub.online else self._save(WAITING, deployment.manifest)

    def get(self, id_: str) -> Configuration:
        """A stored configuration. Raises NotFound."""
        rows = self._db.read("SELECT document FROM configuration WHERE id = ?", (id_,))
        if not rows:
            raise NotFound(f"no configuration {id_}")
        return Configuration(**json.loads(rows[0][0]))

    def all(self) -> list[Configuration]:
        """All stored configurations, by id."""
        return [
            Configuration(**json.loads(row[0]))
            for row in self._db.read("SELECT document FROM configuration ORDER BY id")
        ]

    def put(self, id_: str, configuration: Configuration) -> asyncio.Future[None]:
        """Store a configuration; done when it is on disk."""
        text = json.dumps({"document": configuration.document, "revision": configuration.revision})
        return self._db.write("INSERT OR REPLACE INTO configuration VALUES (?, ?)", [(id_, text)])

    def delete(self, id_: str) -> asyncio.Future[None]:
        """Remove a configuration; done when that is on disk."""
        return self._db.write("DELETE FROM configuration WHERE id = ?", [(id_,)])

    def _be(self, deployment: Deployment) -> asyncio.Future[None]:
        self._hub.deploy(deployment)
        return self._save(ACTIVE, deployment.manifest)

    def _stored(self, name: str) -> Deployment | None:
        """A deployment that was taken earlier; one that can be no more, in a later version of this program, is none."""
        text = self._load(name)
        if text is None:
            return None
        try:
            deployment = parse(json.loads(text))
            check_desired(deployment.desired)
        except SettingsError as error:
            log.warning("a stored deployment cannot be any more and is left out: %s", error)
            return None
        return deployment

    def _load(self, name: str) -> str | None:
        rows = self._db.read("SELECT document FROM deployed WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None

    def _save(self, name: str, text: str) -> asyncio.Future[None]:
        return self._db.write("INSERT OR REPLACE INTO deployed VALUES (?, ?)", [(name, text)])
