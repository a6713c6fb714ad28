"""Edge hub without its sockets: who may connect, where messages go, twins and methods."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable

from localedge.daemon import sas
from localedge.daemon.identities import Identities, Identity
from localedge.database import Database
from localedge.deployment import Deployment
from localedge.edgehub.clients import Client, Clients
from localedge.edgehub.delivery import Delivery
from localedge.edgehub.methods import Methods
from localedge.edgehub.queues import Queues, Upstream, Waiting
from localedge.edgehub.sessions import Sessions
from localedge.edgehub.twins import Twins, check_desired, parse_patch
from localedge.protocol import topics
from localedge.protocol.message import Message
from localedge.protocol.mqtt import Connect
from localedge.protocol.topics import Event, Feature, MethodAnswer, TwinGet, TwinReport, UnknownTwinRequest
from ripeloop.errors import NotFound, Refused

log = logging.getLogger(__name__)


class EdgeHub:
    """The device's edge hub; `hosts` are the names a module's token may be for.

    `on_deployed` is called after each deployment.
    """

    def __init__(
        self,
        database: Database,
        identities: Identities,
        hosts: Iterable[str],
        *,
        online: bool,
        on_deployed: Callable[[Deployment], None],
    ) -> None:
        self.identities = identities
        self.device = identities.device
        self.clients = Clients()
        self.methods = Methods(self.clients)
        self.queues = Queues(database)
        self.upstream = Upstream(database)
        self.sessions = Sessions(database)
        self.twins = Twins(database)
        self.delivery = Delivery(self.device, self.queues, self.upstream, self.clients, online=online)
        self.stats = {"received": 0, "routed": 0, "unrouted": 0, "expired": 0}
        self._hosts = tuple(hosts)
        self._database = database
        self._on_deployed = on_deployed
        self._deployment = Deployment((), ())

    # What modules do; the broker calls these.

    def authenticate(self, connect: Connect, now: float) -> tuple[Identity, int]:
        """Who connects, and when its token expires. Raises Refused."""
        claim = sas.parse_username(connect.username)
        try:
            identity = self.identities.get(claim.module)
        except NotFound as error:
            raise Refused(str(error)) from None
        if (claim.device, connect.client_id) != (identity.device, identity.client_id):
            raise Refused(f"{connect.client_id} is not {identity.client_id}")
        token = sas.parse_token(connect.password)
        resources = [f"{host}/devices/{identity.device}/modules/{identity.module}" for host in self._hosts]
        sas.check_token(token, resources=resources, keys=[identity.key], now=now)
        return identity, token.expires

    def subscribed(self, client: Client) -> None:
        """A module's subscriptions have changed, or came back with its session."""
        self.clients.changed()
        self.delivery.wake(client.module)

    def received(self, client: Client, topic: str, payload: bytes) -> asyncio.Future[None] | None:
        """Take a module's message; acknowledge it when the future is done, or at once where there is none."""
        match topics.read(self.device, client.module, topic, payload):
            case Event(message):
                return self.route(message)
            case TwinGet(request):
                body = json.dumps(self.twins.get(client.module).for_module()).encode()
                client.send(topics.twin_answer(200, request), body, Feature.TWIN, dup=False)
                return None
            case TwinReport() as report:
                return self._report(client, report)
            case MethodAnswer() as answer:
                self.methods.answered(answer)
                return None
            case UnknownTwinRequest():
                client.close(f"unknown twin request {topic}")
                return None

    def route(self, message: Message) -> asyncio.Future[None] | None:
        """Queue a message for each route that takes it; one that none takes is dropped, as edge hub does."""
        self.stats["received"] += 1
        waiting = [
            Waiting(route.endpoint, message, route.priority, route.time_to_live or self._deployment.time_to_live)
            for route in self._deployment.routes
            if route.takes(message)
        ]
        if not waiting:
            self.stats["unrouted"] += 1
            return None
        self.stats["routed"] += len(waiting)
        return self.delivery.put(waiting)

    # What the cloud does; the service REST and the control API call these.

    @property
    def online(self) -> bool:
        """Whether IoT Hub can be reached."""
        return self.delivery.online

    def set_online(self, online: bool) -> None:
        """Reach IoT Hub, or lose it."""
        if online != self.online:
            log.info("upstream is %s", "online" if online else "offline")
        self.delivery.set_online(online)
        self.sync(*self.twins.names())

    def sync(self, *names: str) -> None:
        """Exchange twins with IoT Hub, where it can be reached, and tell the modules what is new."""
        if not self.online:
            return
        for name in names:
            change = self.twins.sync(name)
            if change is not None and self.clients.wants(name, Feature.DESIRED):
                self.clients.send(name, topics.desired_change(change.version), change.body(), Feature.DESIRED)

    def deploy(self, deployment: Deployment) -> None:
        """Be what the deployment says from now on. Raises SettingsError, and changes nothing then.

        A module's desired properties are set when the deployment's differ from those of the last one, so that a
        change made to the twin since then stays.
        """
        check_desired(deployment.desired)
        self._deployment = deployment
        for module in self.identities.deploy(deployment.modules):
            self._remove(module)
        for name, desired in deployment.desired.items():
            if self._last_deployed(name) != (document := json.dumps(desired, sort_keys=True)):
                self.twins.replace_desired(name, desired)
                self._database.write("INSERT OR REPLACE INTO deployed VALUES (?, ?)", [(name, document)])
        self.sync(*self.twins.names())
        self._on_deployed(deployment)
        log.info("%d modules, %d routes", len(deployment.modules), len(deployment.routes))

    def expire(self) -> None:
        """Drop messages that have waited longer than their time to live, and what arrived very long ago."""
        self.stats["expired"] += self.queues.expire()
        self.upstream.trim()

    def _report(self, client: Client, report: TwinReport) -> asyncio.Future[None] | None:
        try:
            version, stored = self.twins.report(client.module, parse_patch(report.patch))
        except Refused as error:
            log.warning("reported properties of %s refused: %s", client.module, error)
            client.send(topics.twin_answer(400, report.request), b"", Feature.TWIN, dup=False)
            return None
        self.sync(client.module)

        def answer(done: asyncio.Future[None]) -> None:
            if done.exception() is None:
                client.send(topics.twin_answer(204, report.request, version), b"", Feature.TWIN, dup=False)

        stored.add_done_callback(answer)
        return stored

    def _remove(self, module: str) -> None:
        self.clients.drop(module, "the deployment has no such module any more")
        self.sessions.drop(module)
        self.twins.drop(module)
        self.queues.forget(module)
        self._database.write("DELETE FROM deployed WHERE name = ?", [(module,)])

    def _last_deployed(self, name: str) -> str | None:
        rows = self._database.read("SELECT document FROM deployed WHERE name = ?", (name,))
        return str(rows[0][0]) if rows else None
