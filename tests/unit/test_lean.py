"""The packets of the lean MQTT client, as tables; the bytes are those of the MQTT standard."""

from __future__ import annotations

import pytest

from farm.broker.packets import variable_int
from farm.errors import MqttError
from farm.simulation.lean import (
    Incoming,
    Parser,
    connect_packet,
    publish_packet,
    receive_maximum,
    subscribe_packet,
)


def test_connect_and_subscribe_of_both_versions():
    assert (
        connect_packet("me", version="3.1.1") == b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02me"
    )
    assert (
        connect_packet("me", version="5") == b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02me"
    )
    named = connect_packet("me", version="5", username="u", password="pw")
    assert named[9] == 0xC2
    assert named.endswith(b"\x00\x01u\x00\x02pw")
    assert subscribe_packet(["a/+"], version="3.1.1") == b"\x82\x08\x00\x01\x00\x03a/+\x01"
    assert subscribe_packet(["a", "b"], version="5") == (
        b"\x82\x0b\x00\x01\x00\x00\x01a\x01\x00\x01b\x01"
    )


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_publication_is_read_as_it_was_written_and_its_id_can_be_set(version):
    packet, at = publish_packet("a/b", b"hello", version=version)
    packet[at : at + 2] = b"\x12\x34"
    batch = Parser(version=version).feed(bytes(packet))
    assert batch.messages == [Incoming(b"a/b", b"hello", b"\x12\x34")]


@pytest.mark.parametrize("size", [0, 100, 20_000, 300_000, 2_200_000])
def test_messages_of_any_length_arrive_whole_wherever_they_are_cut(size):
    # prevents: a length of several bytes that is cut between them is read as a shorter one
    packet, _ = publish_packet("t", bytes(size), version="5")
    data = bytes(packet) + b"\x40\x02\x00\x07" + bytes(packet)
    for cut in (1, 2, 3, 4, 5, 6, len(packet) - 1, len(packet) + 1, len(packet) + 3):
        parser = Parser(version="5")
        first, second = parser.feed(data[:cut]), parser.feed(data[cut:])
        assert first.acknowledged + second.acknowledged == 1
        assert [len(m.payload) for m in first.messages + second.messages] == [size, size]


def test_bytes_that_come_one_by_one_make_the_same_packets():
    packet, _ = publish_packet("a", b"xyz", version="5")
    parser = Parser(version="5")
    data = bytes(packet) + b"\x40\x02\x00\x01" + b"\xd0\x00"
    batches = [parser.feed(data[at : at + 1]) for at in range(len(data))]
    assert sum(batch.acknowledged for batch in batches) == 1
    assert [m.payload for batch in batches for m in batch.messages] == [b"xyz"]
    assert [other for batch in batches for other in batch.others] == [(0xD0, b"")]


@pytest.mark.parametrize(
    ("packet", "acknowledged", "refused"),
    [
        (b"\x40\x02\x00\x01", 1, []),  # success, said shortly
        (b"\x40\x03\x00\x01\x00", 1, []),
        (b"\x40\x03\x00\x01\x10", 1, []),  # nobody has subscribed: still taken
        (b"\x40\x04\x00\x01\x00\x00", 1, []),  # with properties, none
        (b"\x40\x03\x00\x01\x87", 0, [0x87]),  # not authorised
        (b"\x40\x09\x00\x01\x97\x05\x1f\x00\x02no", 0, [0x97]),  # over quota, with a reason string
    ],
)
def test_an_acknowledgement_with_a_reason_counts_as_what_it_says(packet, acknowledged, refused):
    # prevents: a refused message counted as one that the broker has taken
    batch = Parser(version="5").feed(packet)
    assert (batch.acknowledged, batch.refused) == (acknowledged, refused)


@pytest.mark.parametrize(
    ("properties", "payload"),
    [
        (b"\x00", b"x"),
        (b"\x05\x02\x00\x00\x00\x3c", b"x"),  # an expiry
        (b"\x80\x00", b"x"),  # a length written longer than need be
    ],
)
def test_properties_of_a_message_are_skipped(properties, payload):
    body = b"\x00\x01t\x00\x09" + properties + payload
    batch = Parser(version="5").feed(b"\x32" + variable_int(len(body)) + body)
    assert batch.messages == [Incoming(b"t", b"x", b"\x00\x09")]


def test_a_message_at_qos_0_has_no_id_to_acknowledge():
    batch = Parser(version="3.1.1").feed(b"\x30\x04\x00\x01tx")
    assert batch.messages == [Incoming(b"t", b"x", b"")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x30\xff\xff\xff\xff\x01", "more than 4 bytes"),
        (b"\x32\x06\x00\x01t\x00\x01\x30", "within its header"),
        (b"\x32\x00", "within its header"),  # found by fuzzing: an IndexError
        (b"\x32\x05\x00\x01t\x00\x01", "within its header"),
    ],
)
def test_what_is_no_mqtt_is_refused(data, words):
    with pytest.raises(MqttError, match=words):
        Parser(version="5").feed(data)


@pytest.mark.parametrize(
    ("properties", "maximum"),
    [
        (b"", 65_535),
        (b"\x00", 65_535),
        (b"\x03\x21\x00\x14", 20),
        (b"\x06\x22\x00\x0a\x21\x00\x14", 20),  # behind a topic alias maximum
        (b"\x09\x12\x00\x03abc\x21\x00\x14", 20),  # behind an assigned client id
        (b"\x0a\x26\x00\x01k\x00\x01v\x21\x00\x14", 20),  # behind a user property
    ],
)
def test_the_broker_s_receive_maximum_is_found_among_its_properties(properties, maximum):
    # prevents: more in flight than the broker allows, which closes the connection
    assert receive_maximum(properties) == maximum
