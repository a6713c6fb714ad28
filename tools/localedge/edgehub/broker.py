"""MQTT over TLS for azure-iot-device. Topics are each client's own, so no topic tree is needed."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from typing import Final, cast

from localedge.daemon.identities import Identity
from localedge.edgehub.edgehub import EdgeHub
from localedge.faults import Faults
from localedge.protocol import mqtt, topics
from localedge.protocol.topics import Feature
from ripeloop.errors import Refused

log = logging.getLogger(__name__)

CONNECT_WITHIN = 60.0
STOP_WITHIN = 2.0
TICK = 0.1
# The client leaves Nagle's algorithm on and writes an acknowledgement and a message apart: each such pair waits 40 ms
# for our delayed ACK. Linux can be asked to send ACKs at once, again after every read.
QUICK_ACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Connection(asyncio.Protocol):
    """One client's connection, from the TLS handshake to its end."""

    def __init__(self, broker: Broker) -> None:
        self.module = ""
        self._broker = broker
        self._hub = broker.hub
        self._loop = asyncio.get_running_loop()
        self._decoder = mqtt.Decoder()
        self._transport = cast(asyncio.Transport, None)
        self._identity: Identity | None = None
        self._filters: dict[str, int] = {}
        self._features: dict[Feature, int] = {}
        self._unacknowledged: dict[int, asyncio.Future[None]] = {}
        self._packet_id = 0
        self._timers: list[asyncio.TimerHandle] = []
        self._heard = self._loop.time()
        self._held: list[bytes] | None = None
        self._why = "by the client"
        self.lost: asyncio.Future[None] = self._loop.create_future()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self._transport = cast(asyncio.Transport, transport)
        self._broker.connections.add(self)
        self._timers.append(self._loop.call_later(CONNECT_WITHIN, self._too_late))
        self.silence(self._broker.faults.silent)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._heard = self._loop.time()
        if QUICK_ACK is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        try:
            for packet in self._decoder.feed(data):
                if self._transport.is_closing():
                    return
                self._take(packet)
        except mqtt.ProtocolError as error:
            self.close(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._broker.connections.discard(self)
        self.lost.set_result(None)
        for timer in self._timers:
            timer.cancel()
        if self._identity is not None:
            self._hub.clients.detach(self)
            log.info("%s disconnected: %s", self.module, exc or self._why)
        for answer in list(self._unacknowledged.values()):
            answer.cancel()
        self._unacknowledged.clear()

    # edge hub calls these

    def features(self) -> frozenset[Feature]:
        """What the module has subscribed to."""
        return frozenset() if self._transport.is_closing() else frozenset(self._features)

    def send(self, topic: str, payload: bytes, feature: Feature, *, dup: bool) -> asyncio.Future[None]:
        """Send a message; done when acknowledged, cancelled when the connection is lost before."""
        answer: asyncio.Future[None] = self._loop.create_future()
        if self._transport.is_closing():
            answer.cancel()
            return answer
        qos = self._features.get(feature, 0)
        packet_id = 0
        if qos:
            packet_id = self._next_packet_id()
            self._unacknowledged[packet_id] = answer
        else:
            answer.set_result(None)
        self._write(mqtt.publish(mqtt.Publish(topic, payload, qos, packet_id, dup)))
        return answer

    def close(self, why: str) -> None:
        """End the connection, after what is written has gone out."""
        if not self._transport.is_closing():
            self._why = why
            log.warning("closing the connection of %s: %s", self.module or "a client", why)
            self._transport.close()

    def silence(self, silent: bool) -> None:
        """Read and answer nothing for a time; afterwards it all comes through late, as from a process that hung."""
        if silent and self._held is None:
            self._held = []
            self._transport.pause_reading()
        elif not silent and self._held is not None:
            held, self._held = self._held, None
            self._heard = self._loop.time()
            self._transport.resume_reading()
            self._write(b"".join(held))

    def abort(self) -> None:
        """End the connection now."""
        self._transport.abort()

    # packets

    def _take(self, packet: mqtt.Packet) -> None:
        if isinstance(packet, mqtt.Connect):
            self._connect(packet)
        elif self._identity is None:
            self.close("the first packet is not CONNECT")
        elif isinstance(packet, mqtt.Publish):
            self._received(packet)
        elif isinstance(packet, mqtt.PubAck):
            if (answer := self._unacknowledged.pop(packet.packet_id, None)) is not None and not answer.done():
                answer.set_result(None)
        elif isinstance(packet, mqtt.Subscribe):
            self._subscribe(self._filters | dict(packet.filters), _suback(packet))
        elif isinstance(packet, mqtt.Unsubscribe):
            rest = {topic: qos for topic, qos in self._filters.items() if topic not in packet.filters}
            self._subscribe(rest, mqtt.unsuback(packet.packet_id))
        elif isinstance(packet, mqtt.PingReq):
            self._write(mqtt.pingresp())
        else:
            self._why = "as it meant to"
            self._transport.close()

    def _connect(self, packet: mqtt.Connect) -> None:
        refusal = self._broker.faults.connack
        if self._identity is not None:
            self.close("a second CONNECT")
        elif packet.level != 4:
            self._refuse(mqtt.BAD_VERSION, "not MQTT 3.1.1")
        elif refusal:
            self._refuse(refusal, f"told to answer {refusal}")
        else:
            try:
                identity, expires = self._hub.authenticate(packet, time.time())
            except Refused as error:
                self._refuse(mqtt.NOT_AUTHORIZED, str(error))
            else:
                self._accept(packet, identity, expires)

    def _accept(self, packet: mqtt.Connect, identity: Identity, expires: int) -> None:
        self._identity, self.module = identity, identity.module
        session = None if packet.clean else self._hub.sessions.load(self.module)
        if packet.clean:
            self._hub.sessions.drop(self.module)
        self._set_filters(session or {})
        for timer in self._timers:
            timer.cancel()
        self._check_token(expires)
        if packet.keep_alive:
            self._check_alive(packet.keep_alive * 1.5)
        self._write(mqtt.connack(mqtt.ACCEPTED, session_present=session is not None))
        log.info("%s connected, with %s session", self.module, "a new" if session is None else "its old")
        self._hub.clients.attach(self)
        self._hub.subscribed(self)

    def _refuse(self, code: int, why: str) -> None:
        self._write(mqtt.connack(code))
        self.close(why)

    def _received(self, packet: mqtt.Publish) -> None:
        stored = self._hub.received(self, packet.topic, packet.payload)
        if not packet.qos:
            return
        if stored is None:
            self._acknowledge(packet.packet_id)
        else:
            stored.add_done_callback(lambda done: self._stored(done, packet.packet_id))

    def _stored(self, done: asyncio.Future[None], packet_id: int) -> None:
        if (error := done.exception()) is None:
            self._acknowledge(packet_id)
        else:  # without an acknowledgement the client sends it again
            self.close(f"a message could not be stored: {error}")

    def _acknowledge(self, packet_id: int) -> None:
        if self._broker.faults.puback:
            self._write(mqtt.puback(packet_id))

    def _subscribe(self, filters: dict[str, int], answer: bytes) -> None:
        self._set_filters(filters)

        def saved(done: asyncio.Future[None]) -> None:
            if done.exception() is None:
                self._write(answer)
                self._hub.subscribed(self)

        self._hub.sessions.save(self.module, filters).add_done_callback(saved)

    def _set_filters(self, filters: dict[str, int]) -> None:
        self._filters = filters
        self._features = topics.features(filters, self._hub.device, self.module)

    def _check_token(self, expires: int) -> None:
        left = expires - time.time()
        if left <= 0 and self._held is None:
            self.close("its token has expired")
        else:
            self._timers[:1] = [self._loop.call_later(max(left, TICK), self._check_token, expires)]

    def _check_alive(self, limit: float) -> None:
        left = limit - (self._loop.time() - self._heard)
        if left <= 0 and self._held is None:
            self.close("nothing heard for one and a half keep-alives")
        else:
            self._timers[1:] = [self._loop.call_later(max(left, TICK), self._check_alive, limit)]

    def _too_late(self) -> None:
        self.close("no CONNECT")

    def _next_packet_id(self) -> int:
        self._packet_id = self._packet_id % 65535 + 1
        return self._packet_id if self._packet_id not in self._unacknowledged else self._next_packet_id()

    def _write(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif data and not self._transport.is_closing():
            self._transport.write(data)


class Broker:
    """The MQTT server."""

    def __init__(self, hub: EdgeHub, faults: Faults) -> None:
        self.hub = hub
        self.faults = faults
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        """Listen. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, ssl=tls, reuse_address=True)

    def silence(self, silent: bool) -> None:
        """Let all connections fall silent, or speak again."""
        for connection in list(self.connections):
            connection.silence(silent)

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close("the runtime stops")
        ends = [connection.lost for connection in self.connections]
        if ends:
            await asyncio.wait(ends, timeout=STOP_WITHIN)
        for connection in list(self.connections):
            connection.abort()


def _suback(packet: mqtt.Subscribe) -> bytes:
    return mqtt.suback(packet.packet_id, [qos for _, qos in packet.filters])
