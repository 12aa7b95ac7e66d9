"""The bytes of PUBLISH and PUBACK: a wrong one loses the connection, or a message."""

from __future__ import annotations

import pytest
from paho.mqtt.client import MQTTv5, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from farm.broker import packets


def framed(packet: bytes) -> tuple[int, int]:
    span = packets.frame(memoryview(packet), 0, len(packet))
    assert span is not None
    return span


def read(packet: bytes, *, v5: bool) -> packets.Publish:
    body, after = framed(packet)
    assert after == len(packet)
    return packets.read_publish(packet[0], memoryview(packet), body, after, v5=v5)


@pytest.mark.parametrize("v5", [True, False])
@pytest.mark.parametrize("size", [0, 1, 120, 16_370, 300_000, 2_100_000])
def test_what_is_packed_is_read_again(size: int, *, v5: bool) -> None:
    """A payload that is cut or shifted by a byte, at each number of length bytes."""
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    packet = packets.publish("a/b", payload, 777, is_retained=False, v5=v5)
    assert read(packet, v5=v5) == packets.Publish(b"a/b", payload, 777, 1, False, False)


@pytest.mark.parametrize("is_retained", [True, False])
@pytest.mark.parametrize("is_dup", [True, False])
def test_flags_travel(*, is_retained: bool, is_dup: bool) -> None:
    """A status that is not retained, or a repetition that looks like a first one."""
    packet = packets.publish("t", b"x", 1, is_retained=is_retained, is_dup=is_dup, v5=True)
    found = read(packet, v5=True)
    assert (found.is_retained, found.is_dup, found.qos) == (is_retained, is_dup, 1)


def test_packets_are_as_the_standard_has_them() -> None:
    """Reader and writer agreeing on what is not MQTT; by hand from the standard."""
    assert packets.publish("a/b", b"hi", 10, is_retained=False, v5=False) == (
        b"\x32\x09\x00\x03a/b\x00\x0ahi"
    )
    assert packets.publish("a/b", b"hi", 10, is_retained=True, v5=True) == (
        b"\x33\x0a\x00\x03a/b\x00\x0a\x00hi"
    )
    assert packets.puback(0x1234) == b"\x40\x02\x12\x34"


@pytest.mark.parametrize("protocol", [MQTTv5, MQTTv311])
def test_a_packet_without_qos_has_no_id(protocol: int) -> None:
    """The first two bytes of a QoS 0 payload taken for a message id."""
    v5 = protocol == MQTTv5
    packet = b"\x30" + (b"\x08" if v5 else b"\x07") + b"\x00\x03a/b" + (b"\x00" if v5 else b"")
    assert read(packet + b"hi", v5=v5) == packets.Publish(b"a/b", b"hi", 0, 0, False, False)


def test_properties_are_passed_over() -> None:
    """A sender's user properties in front of the payload: they'd be read as JSON."""
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = [("key", "v" * 200)]  # so that their length has two bytes
    properties.ContentType = "application/json"
    packed = properties.pack()
    body = b"\x00\x01t" + b"\x00\x07" + packed + b"{}"
    packet = b"\x32" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body
    assert read(packet, v5=True).payload == b"{}"


@pytest.mark.parametrize(
    ("body", "v5"),
    [
        (b"", True),
        (b"\x00", True),
        (b"\x00\x09t", True),  # a topic longer than the packet
        (b"\x00\x01t\x00", False),  # half an id
        (b"\x00\x01t\x00\x07", True),  # no properties at all
        (b"\x00\x01t\x00\x07\x09ab", True),  # properties longer than the packet
        (b"\x00\x01t\x00\x07\xff\xff\xff\xff\x01", True),  # properties' length is none
    ],
)
def test_a_broken_publish_ends_the_connection(body: bytes, *, v5: bool) -> None:
    """Reading on into the next packet's bytes, or an exception that nobody expects."""
    buffer = memoryview(body + b"\x40\x02\x00\x01")  # what follows must not be looked at
    with pytest.raises(packets.PacketError):
        packets.read_publish(0x32, buffer[: len(body)], 0, len(body), v5=v5)


def test_a_length_that_has_not_come_yet_is_waited_for() -> None:
    """A packet cut in its length: by TCP this may happen at any byte."""
    packet = packets.publish("t", b"x" * 300, 1, is_retained=False, v5=True)
    for cut in (0, 1, 2):
        assert packets.frame(memoryview(packet), 0, cut) is None
    assert packets.frame(memoryview(packet), 0, 3) == (3, len(packet))


def test_a_length_of_five_bytes_is_none() -> None:
    """A stream that lost its step read as a packet of gigabytes, which is waited for for ever."""
    with pytest.raises(packets.PacketError):
        packets.frame(memoryview(b"\x30\xff\xff\xff\xff\x01"), 0, 6)


def test_puback_tells_the_reason() -> None:
    """`Not authorized` taken for success."""
    for packet, told in [
        (b"\x40\x02\x00\x0a", (10, 0)),
        (b"\x40\x03\x01\x00\x87", (256, 0x87)),
        (b"\x40\x04\x00\x0a\x10\x00", (10, 0x10)),  # no subscriber: a success
    ]:
        body, after = framed(packet)
        assert packets.read_puback(memoryview(packet), body, after) == told
    with pytest.raises(packets.PacketError):
        packets.read_puback(memoryview(b"\x40\x01\x00"), 2, 3)


def test_too_long_for_mqtt_is_refused() -> None:
    """A length that wraps round."""
    with pytest.raises(packets.PacketError):
        packets.publish("t", bytes(packets.MAX_REMAINING_LENGTH), 1, is_retained=False, v5=True)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, b"\x00"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (16_383, b"\xff\x7f"),
        (16_384, b"\x80\x80\x01"),
        (2_097_151, b"\xff\xff\x7f"),
        (2_097_152, b"\x80\x80\x80\x01"),
        (268_435_455, b"\xff\xff\xff\x7f"),
    ],
)
def test_a_length_takes_one_to_four_bytes(value: int, written: bytes) -> None:
    # the limits of the standard's table 1-1: one off, and a packet runs into the next
    assert packets.variable_int(value) == written


@pytest.mark.parametrize("value", [-1, 268_435_456])
def test_a_length_beyond_the_standard_is_refused(value: int) -> None:
    with pytest.raises(packets.PacketError, match="too long"):
        packets.variable_int(value)


@pytest.mark.parametrize("v5", [True, False])
def test_what_is_said_at_qos_0_is_read_again(*, v5: bool) -> None:
    # prevents: a mark of a partition that the MQTT broker takes for a broken packet
    packet = packets.say("a/b", b"text" * 100, is_retained=True, v5=v5)
    found = read(packet, v5=v5)
    assert found == packets.Publish(b"a/b", b"text" * 100, 0, 0, True, False)
