"""The MQTT codec: packets in, bytes out, and nothing but ProtocolError for bytes that are no packet."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localedge.protocol import mqtt
from localedge.protocol.mqtt import (
    Connect,
    Decoder,
    Disconnect,
    PingReq,
    ProtocolError,
    PubAck,
    Publish,
    Subscribe,
    Unsubscribe,
)

PACKETS = [
    (b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x3c\x00\x03d/m\x00\x01u\x00\x00", Connect(4, "d/m", True, 60, "u", "")),
    (b"\x10\x0f\x00\x04MQTT\x04\x00\x00\x0a\x00\x03d/m", Connect(4, "d/m", False, 10, "", "")),
    (b"\x10\x14\x00\x04MQTT\x04\x04\x00\x0a\x00\x03d/m\x00\x01w\x00\x00", Connect(4, "d/m", False, 10, "", "")),
    (b"\x30\x05\x00\x01tab", Publish("t", b"ab")),
    (b"\x3a\x07\x00\x01t\x00\x09ab", Publish("t", b"ab", 1, 9, True)),
    (b"\x40\x02\x01\x02", PubAck(258)),
    (b"\x82\x09\x00\x07\x00\x01a\x02\x00\x00\x00", Subscribe(7, (("a", 1), ("", 0)))),
    (b"\xa2\x05\x00\x07\x00\x01a", Unsubscribe(7, ("a",))),
    (b"\xc0\x00", PingReq()),
    (b"\xe0\x00", Disconnect()),
]


@pytest.mark.parametrize(("wire", "packet"), PACKETS)
def test_each_packet_is_read(wire, packet):
    assert list(Decoder().feed(wire)) == [packet]


@pytest.mark.parametrize("size", [1, 2, 7])
def test_packets_may_be_cut_anywhere(size):
    wire = b"".join(wire for wire, _ in PACKETS)
    decoder, packets = Decoder(), []
    for start in range(0, len(wire), size):
        packets += decoder.feed(wire[start : start + size])
    assert packets == [packet for _, packet in PACKETS]


@given(st.text("ab/$é", max_size=40), st.binary(max_size=300), st.integers(0, 1), st.integers(1, 65535), st.booleans())
def test_what_is_published_is_what_is_read(topic, payload, qos, packet_id, dup):
    message = Publish(topic, payload, qos, packet_id if qos else 0, dup)
    assert list(Decoder().feed(mqtt.publish(message))) == [message]


@given(st.binary(max_size=200), st.sampled_from([0x10, 0x20, 0x30, 0x32, 0x34, 0x40, 0x82, 0xA2, 0xC0, 0xE0, 0xF0]))
@example(b"\xff\xff\xff\xff\xff", 0x30)
def test_bytes_that_are_no_packet_are_protocol_errors_only(body, first):
    decoder = Decoder()
    for wire in (body, bytes([first, len(body) & 127]) + body):
        try:
            list(decoder.feed(wire))
        except ProtocolError:
            decoder = Decoder()


@given(st.data())
def test_a_damaged_packet_is_a_protocol_error_or_another_packet(data):
    wire = bytearray(data.draw(st.sampled_from([wire for wire, _ in PACKETS])))
    wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ProtocolError):
        list(Decoder().feed(bytes(wire)))


def test_a_packet_of_256_kib_passes_and_a_larger_one_does_not():
    head = len(mqtt.publish(Publish("t", b"", 1, 1))) - 2
    fits = mqtt.publish(Publish("t", bytes(mqtt.MAX_PACKET - head), 1, 1))
    assert len(list(Decoder().feed(fits))) == 1
    too_large = mqtt.publish(Publish("t", bytes(mqtt.MAX_PACKET - head + 1), 1, 1))
    with pytest.raises(ProtocolError, match="262145"):
        list(Decoder().feed(too_large[:10]))  # said by the length, before the rest has come


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (b"\x34\x05\x00\x01t\x00\x01", "exactly-once"),
        (b"\x30\x04\x00\x02a#", "wildcard"),
        (b"\x30\x03\x00\x01\xff", "UTF-8"),
        (b"\x30\x01\x00", "short"),
        (b"\x20\x02\x00\x00", "not for a server"),
        (b"\x10\x06\x00\x04HTTP", "not MQTT"),
        (b"\x30\xff\xff\xff\xff", "length"),
    ],
)
def test_a_protocol_error_says_what_is_wrong(wire, why):
    with pytest.raises(ProtocolError, match=why):
        list(Decoder().feed(wire))


def test_answers_have_the_standards_bytes():
    assert mqtt.connack(mqtt.ACCEPTED, session_present=True) == b"\x20\x02\x01\x00"
    assert mqtt.connack(mqtt.NOT_AUTHORIZED, session_present=True) == b"\x20\x02\x00\x05"
    assert mqtt.puback(258) == b"\x40\x02\x01\x02"
    assert mqtt.suback(1, [1, 0]) == b"\x90\x04\x00\x01\x01\x00"
    assert mqtt.unsuback(1) == b"\xb0\x02\x00\x01"
    assert mqtt.pingresp() == b"\xd0\x00"


def test_packets_before_a_bad_one_are_read():
    packets = Decoder().feed(b"\xc0\x00\xe0\x00\xf0\x00")
    assert [next(packets), next(packets)] == [PingReq(), Disconnect()]
    with pytest.raises(ProtocolError):
        next(packets)
