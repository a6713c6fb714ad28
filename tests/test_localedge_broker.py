"""Edge hub's MQTT door, byte by byte: who is let in, who is thrown out and who must not notice."""

import asyncio
import base64
import hmac
import ssl
import time
from contextlib import asynccontextmanager
from urllib.parse import quote

import aiohttp

from edge import MQTT_PORT

ACCEPTED, NOT_AUTHORIZED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"
WITH_SESSION = b"\x20\x02\x01\x00"


class Raw:
    """A client that sends what it is told."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def ask(self, packet, answer_length=4):
        self.writer.write(packet)
        async with asyncio.timeout(5):
            return await self.reader.readexactly(answer_length)

    async def is_closed(self, seconds=5.0):
        """Whether the server ends the connection in time, whatever it sends before."""
        try:
            async with asyncio.timeout(seconds):
                while await self.reader.read(1000):
                    pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True


@asynccontextmanager
async def raw(edge):
    tls = ssl.create_default_context(cafile=str(edge.ca_file))
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # as azure-iot-device
    reader, writer = await asyncio.open_connection(edge.gateway, MQTT_PORT, ssl=tls)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


def text(value):
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def packet(first, body):
    digits, length = bytearray(), len(body)
    while True:
        length, digit = length >> 7, length & 127
        digits.append(digit | 128 if length else digit)
        if not length:
            return bytes([first]) + bytes(digits) + body


def publish(topic, payload, packet_id=1):
    return packet(0x32, text(topic) + packet_id.to_bytes(2, "big") + payload)


async def connect(edge, module, *, seconds=60, clean=False, keep_alive=0, client_id=None, password=None):
    """A CONNECT of the module, signed by the workload API."""
    environ = edge.environ(module)
    name = f"{environ['IOTEDGE_IOTHUBHOSTNAME']}/{environ['IOTEDGE_DEVICEID']}/{module}"
    if password is None:
        password = await sign(edge, module, int(time.time() + seconds))
    body = (
        text("MQTT")
        + bytes([4, 0xC0 | (2 if clean else 0)])
        + keep_alive.to_bytes(2, "big")
        + text(client_id or f"{environ['IOTEDGE_DEVICEID']}/{module}")
        + text(f"{name}/?api-version=2019-10-01")
        + text(password)
    )
    return packet(0x10, body)


async def sign(edge, module, expires):
    environ = edge.environ(module)
    device = environ["IOTEDGE_DEVICEID"]
    resource = quote(f"{environ['IOTEDGE_IOTHUBHOSTNAME']}/devices/{device}/modules/{module}", safe="")
    data = base64.b64encode(f"{resource}\n{expires}".encode()).decode()
    path = f"/modules/{module}/genid/{environ['IOTEDGE_MODULEGENERATIONID']}/sign?api-version=2018-06-28"
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(edge.state / "workload.sock"))) as session,
        session.post(
            f"http://workload{path}", json={"keyId": "primary", "algo": "HMACSHA256", "data": data}
        ) as response,
    ):
        digest = (await response.json())["digest"]
    return f"SharedAccessSignature sr={resource}&sig={quote(digest, safe='')}&se={expires}"


async def test_a_bad_signature_is_refused_and_the_connected_module_does_not_notice(edge):
    async with raw(edge) as good, raw(edge) as bad:
        assert await good.ask(await connect(edge, "classifier")) == ACCEPTED
        resource = quote("local-hub.azure-devices.net/devices/laptop/modules/classifier", safe="")
        forged = base64.b64encode(hmac.digest(b"guess", b"x", "sha256")).decode()
        password = f"SharedAccessSignature sr={resource}&sig={quote(forged, safe='')}&se={int(time.time()) + 60}"
        assert await bad.ask(await connect(edge, "classifier", password=password)) == NOT_AUTHORIZED
        assert await bad.is_closed()
        assert await good.ask(b"\xc0\x00", 2) == b"\xd0\x00"


async def test_a_client_id_of_another_is_refused(edge):
    for client_id in ("laptop/sampler", "laptop", "other/classifier"):
        async with raw(edge) as client:
            assert await client.ask(await connect(edge, "classifier", client_id=client_id)) == NOT_AUTHORIZED


async def test_a_token_of_another_module_is_refused(edge):
    password = await sign(edge, "sampler", int(time.time()) + 60)
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier", password=password)) == NOT_AUTHORIZED


async def test_the_connection_ends_with_its_token(edge):
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier", seconds=2)) == ACCEPTED
        assert not await client.is_closed(0.3)
        assert await client.is_closed(3)


async def test_a_packet_over_256_kib_ends_the_connection(edge):
    topic = "devices/laptop/modules/classifier/messages/events/%24.on=summary"
    room = 262_144 - len(text(topic)) - 2
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == ACCEPTED
        assert await client.ask(publish(topic, bytes(room))) == b"\x40\x02\x00\x01"
        client.writer.write(publish(topic, bytes(room + 1)))
        assert await client.is_closed()
    assert len(await edge.arrived(1)) == 1


async def test_a_new_connection_takes_over(edge):
    async with raw(edge) as old, raw(edge) as new:
        assert await old.ask(await connect(edge, "classifier")) == ACCEPTED
        assert await new.ask(await connect(edge, "classifier")) == ACCEPTED
        assert await old.is_closed()
        assert await new.ask(b"\xc0\x00", 2) == b"\xd0\x00"
        assert (await edge.control("GET", "/state"))["connected"] == ["classifier"]


async def test_one_and_a_half_keep_alives_of_quiet_end_the_connection(edge):
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier", keep_alive=1)) == ACCEPTED
        for _ in range(3):
            await asyncio.sleep(0.6)
            assert await client.ask(b"\xc0\x00", 2) == b"\xd0\x00"
        assert not await client.is_closed(1.0)
        assert await client.is_closed(2.0)


async def test_a_message_on_an_unknown_topic_is_acknowledged(edge):
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == ACCEPTED
        assert await client.ask(publish("no/such/topic", b"x", 9)) == b"\x40\x02\x00\x09"
    assert (await edge.control("GET", "/state"))["stats"]["unrouted"] == 1


async def test_an_unknown_twin_request_ends_the_connection(edge):
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == ACCEPTED
        client.writer.write(publish("$iothub/twin/DELETE/?$rid=1", b""))
        assert await client.is_closed()


async def test_a_clean_session_forgets_what_was_subscribed(edge):
    subscribe = packet(0x82, b"\x00\x01" + text("$iothub/methods/POST/#") + b"\x01")
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == ACCEPTED
        assert await client.ask(subscribe, 5) == b"\x90\x03\x00\x01\x01"
        assert (await edge.control("GET", "/state"))["subscriptions"] == {"classifier": ["methods"]}
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == WITH_SESSION
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier", clean=True)) == ACCEPTED
        assert (await edge.control("GET", "/state"))["subscriptions"] == {"classifier": []}


async def test_a_message_not_acknowledged_by_the_module_comes_again_as_a_duplicate(edge):
    subscribe = packet(0x82, b"\x00\x01" + text("devices/laptop/modules/sampler/inputs/#") + b"\x01")
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "sampler")) == ACCEPTED
        assert await client.ask(subscribe, 5) == b"\x90\x03\x00\x01\x01"
        await edge.control("POST", "/input", {"module": "sampler", "input": "i", "body": "b"})
        async with asyncio.timeout(5):
            assert (await client.reader.readexactly(1)) == b"\x32"
    await edge.until(lambda state: state["connected"] == [])
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "sampler")) == WITH_SESSION
        async with asyncio.timeout(5):
            assert (await client.reader.readexactly(1)) == b"\x3a"


async def test_what_is_no_connect_is_thrown_out_and_others_are_served(edge):
    for sent in (b"GET / HTTP/1.1\r\n" * 9, b"\xc0\x00", b"\x10\x00", b"\xff" * 10):
        async with raw(edge) as client:
            client.writer.write(sent)
            assert await client.is_closed(), sent
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == ACCEPTED


async def test_a_second_connect_ends_the_connection(edge):
    async with raw(edge) as client:
        assert await client.ask(await connect(edge, "classifier")) == ACCEPTED
        client.writer.write(await connect(edge, "classifier"))
        assert await client.is_closed()
