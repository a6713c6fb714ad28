"""MQTT 3.1.1 as bytes and values, without a socket: the part of it that azure-iot-device speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ripeloop.errors import RipeloopError

MAX_PACKET = 256 * 1024  # edge hub closes the connection on a larger one
AT_LEAST_ONCE = 1

ACCEPTED, BAD_VERSION, NOT_AUTHORIZED = 0, 1, 5


class ProtocolError(RipeloopError):
    """The bytes are not MQTT 3.1.1 as edge hub serves it; the connection must be closed."""


@dataclass(frozen=True, slots=True)
class Connect:
    """The first packet of a connection."""

    level: int
    client_id: str
    clean: bool
    keep_alive: int
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Publish:
    """A message."""

    topic: str
    payload: bytes
    qos: int = 0
    packet_id: int = 0
    dup: bool = False


@dataclass(frozen=True, slots=True)
class PubAck:
    """The other side has the message."""

    packet_id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Topic filters to add, each with the quality of service wanted."""

    packet_id: int
    filters: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Topic filters to remove."""

    packet_id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PingReq:
    """Are you there."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client goes, as it meant to."""


Packet = Connect | Publish | PubAck | Subscribe | Unsubscribe | PingReq | Disconnect


class Decoder:
    """Turns a stream of bytes, cut anywhere, into packets."""

    def __init__(self, max_packet: int = MAX_PACKET) -> None:
        self._buffer = bytearray()
        self._max_packet = max_packet

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets completed by `data`, each before the next is looked at. Raises ProtocolError."""
        self._buffer += data
        while (frame := self._frame()) is not None:
            start, end = frame
            first, body = self._buffer[0], bytes(self._buffer[start:end])
            del self._buffer[:end]
            yield _decode(first, body)

    def _frame(self) -> tuple[int, int] | None:
        """Where the body of the next packet begins and ends; None while it is not all here."""
        length = 0
        for at in range(1, 5):
            if at >= len(self._buffer):
                return None
            length |= (self._buffer[at] & 127) << (7 * (at - 1))
            if not self._buffer[at] & 128:
                break
        else:
            raise ProtocolError("bad packet length")
        if length > self._max_packet:
            raise ProtocolError(f"a packet of {length} bytes; the limit is {self._max_packet}")
        start = at + 1
        return (start, start + length) if start + length <= len(self._buffer) else None


def connack(code: int, *, session_present: bool = False) -> bytes:
    """The answer to a Connect."""
    return bytes((0x20, 2, int(session_present and code == ACCEPTED), code))


def puback(packet_id: int) -> bytes:
    """The answer to a Publish at least once."""
    return b"\x40\x02" + packet_id.to_bytes(2, "big")


def suback(packet_id: int, granted: Sequence[int]) -> bytes:
    """The answer to a Subscribe."""
    return b"\x90" + _length(2 + len(granted)) + packet_id.to_bytes(2, "big") + bytes(granted)


def unsuback(packet_id: int) -> bytes:
    """The answer to an Unsubscribe."""
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def pingresp() -> bytes:
    """The answer to a PingReq."""
    return b"\xd0\x00"


def publish(message: Publish) -> bytes:
    """A message on the wire."""
    topic = message.topic.encode()
    head = len(topic).to_bytes(2, "big") + topic
    if message.qos:
        head += message.packet_id.to_bytes(2, "big")
    first = 0x30 | (8 if message.dup else 0) | (message.qos << 1)
    return bytes((first,)) + _length(len(head) + len(message.payload)) + head + message.payload


class _Reader:
    """Takes values off a packet's body; raises ProtocolError where it is too short."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._body)

    def take(self, count: int) -> bytes:
        taken = self._body[self._at : self._at + count]
        if len(taken) < count:
            raise ProtocolError("short packet")
        self._at += count
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def data(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            return self.data().decode()
        except UnicodeDecodeError as error:
            raise ProtocolError("a string is not UTF-8") from error

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)


def _decode(first: int, body: bytes) -> Packet:
    decode = _DECODERS.get(first >> 4)
    if decode is None:
        raise ProtocolError(f"packet type {first >> 4} is not for a server")
    return decode(first & 15, _Reader(body))


def _connect(_: int, body: _Reader) -> Connect:
    if body.text() not in ("MQTT", "MQIsdp"):
        raise ProtocolError("not MQTT")
    level, flags, keep_alive, client_id = body.byte(), body.byte(), body.number(), body.text()
    if flags & 4:  # a last will; edge hub has no use for it
        body.text()
        body.data()
    username = body.text() if flags & 128 else ""
    password = body.text() if flags & 64 else ""
    return Connect(level, client_id, bool(flags & 2), keep_alive, username, password)


def _publish(flags: int, body: _Reader) -> Publish:
    qos = (flags >> 1) & 3
    if qos > AT_LEAST_ONCE:
        raise ProtocolError("exactly-once delivery is not served")
    topic = body.text()
    if "#" in topic or "+" in topic:
        raise ProtocolError("a wildcard in a topic's name")
    packet_id = body.number() if qos else 0
    return Publish(topic, body.rest(), qos, packet_id, bool(flags & 8))


def _puback(_: int, body: _Reader) -> PubAck:
    return PubAck(body.number())


def _subscribe(_: int, body: _Reader) -> Subscribe:
    packet_id = body.number()
    filters = []
    while body:
        filters.append((body.text(), min(body.byte() & 3, AT_LEAST_ONCE)))
    return Subscribe(packet_id, tuple(filters))


def _unsubscribe(_: int, body: _Reader) -> Unsubscribe:
    packet_id = body.number()
    filters = []
    while body:
        filters.append(body.text())
    return Unsubscribe(packet_id, tuple(filters))


def _ping(_: int, __: _Reader) -> PingReq:
    return PingReq()


def _disconnect(_: int, __: _Reader) -> Disconnect:
    return Disconnect()


_DECODERS: Final[dict[int, Callable[[int, _Reader], Packet]]] = {
    1: _connect,
    3: _publish,
    4: _puback,
    8: _subscribe,
    10: _unsubscribe,
    12: _ping,
    14: _disconnect,
}


def _length(count: int) -> bytes:
    digits = bytearray()
    while True:
        count, digit = count >> 7, count & 127
        digits.append(digit | 128 if count else digit)
        if not count:
            return bytes(digits)
