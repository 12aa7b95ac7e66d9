"""The lane: packets cut out of a stream that comes in any pieces, and sent in few calls."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import TYPE_CHECKING

import pytest
from fuzz.packets import Heard

from farm.broker import packets
from farm.broker.lane import HEAD_BYTES, READ_BYTES, Lane
from farm.broker.mqtt_client import MqttClient
from farm.config.mqtt import BrokerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

PINGRESP = b"\xd0\x00"
FOREIGN_MID = 3


def welcome_lane(near: socket.socket, heard: Heard) -> Lane:
    lane = Lane(near, heard, v5=True)
    lane.is_welcome = True
    return lane


def make_heard() -> Heard:
    return Heard(lambda mid: mid != FOREIGN_MID)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    try:
        yield near, far
    finally:
        near.close()
        far.close()


def feed(lane: Lane, far: socket.socket, stream: bytes, sizes: Iterator[int]) -> None:
    at = 0
    while at < len(stream):
        size = next(sizes)
        far.sendall(stream[at : at + size])
        lane.fill()
        at += size
    lane.fill()  # a read takes no more than its buffer holds


def publish(number: int, size: int) -> bytes:
    payload = number.to_bytes(4, "big") + b"p" * size
    return packets.publish("t/x", payload, 1 + number, is_retained=False, v5=True)


@pytest.mark.parametrize("seed", range(4))
def test_packets_are_whole_however_the_stream_is_cut(seed, pair) -> None:
    """A message lost, doubled or mixed with its neighbour because TCP cut it in two."""
    near, far = pair
    heard, rng = make_heard(), random.Random(seed)
    lane = welcome_lane(near, heard)
    stream, sizes, acks, rest = b"", [], 0, b""
    for number in range(60):
        size = rng.choice((0, 1, 100, 130, 5_000, 20_000, 60_000))
        sizes.append(size)
        stream += publish(number, size)
        if rng.random() < 0.5:
            stream += packets.puback(2000 + number)
            acks += 1
        if rng.random() < 0.3:
            stream += PINGRESP
            rest += PINGRESP
    feed(lane, far, stream, iter(lambda: rng.choice((1, 2, 3, 50, 7_000, 90_000)), None))
    assert [p.mid for p in heard.publishes] == [1 + n for n in range(60)]
    assert [len(p.payload) - 4 for p in heard.publishes] == sizes
    assert all(p.payload[:4] == n.to_bytes(4, "big") for n, p in enumerate(heard.publishes))
    assert len(heard.pubacks) == acks
    assert lane.recv(10_000) == rest


def test_a_packet_larger_than_the_buffer_arrives(pair) -> None:
    """The largest message stuck for ever, and all behind it; and its room kept for good."""
    near, far = pair
    heard = make_heard()
    lane = welcome_lane(near, heard)
    stream = publish(0, 10) + publish(1, 3 * READ_BYTES) + publish(2, 10)
    feed(lane, far, stream, iter(lambda: 60_000, None))
    assert [len(p.payload) - 4 for p in heard.publishes] == [10, 3 * READ_BYTES, 10]
    assert len(lane._buffer) == READ_BYTES


def test_room_is_made_for_what_has_come_and_not_for_what_is_announced(pair) -> None:
    """Five bytes that take a quarter of a gigabyte, on each of many connections."""
    near, far = pair
    heard = make_heard()
    lane = welcome_lane(near, heard)
    feed(lane, far, b"\x32\xff\xff\xff\x7f" + b"\0" * READ_BYTES, iter(lambda: 60_000, None))
    assert len(lane._buffer) <= 4 * READ_BYTES
    assert not heard.publishes


def test_the_client_finds_only_what_is_its_own(pair) -> None:
    """A message that the intake holds acknowledged by paho; a PUBACK of its own lost."""
    near, far = pair
    heard = make_heard()
    lane = welcome_lane(near, heard)
    own = packets.puback(FOREIGN_MID)
    far.sendall(publish(0, 10) + own + packets.puback(5000) + PINGRESP)
    lane.fill()
    assert lane.has_packets_for_client
    assert lane.recv(1) == own[:1]
    assert lane.recv(100) == own[1:] + PINGRESP
    with pytest.raises(BlockingIOError):
        lane.recv(1)


def test_the_end_of_the_connection_reaches_the_client(pair) -> None:
    """A link that never notices that its broker is gone."""
    near, far = pair
    lane = welcome_lane(near, make_heard())
    far.sendall(PINGRESP)
    far.close()
    lane.fill()
    lane.fill()
    assert lane.has_packets_for_client
    assert lane.recv(2) == PINGRESP
    assert lane.recv(1) == b""


def test_what_the_socket_does_not_take_is_sent_later_and_in_order(pair) -> None:
    """Half a packet sent, then another one: the MQTT broker closes such a connection."""
    near, far = pair
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    lane = welcome_lane(near, make_heard())
    sent = b""
    for number in range(40):
        packet = publish(number, 20_000)
        lane.send(packet)
        sent += packet
        lane.flush()
    assert lane.has_unsent
    got = b""
    far.setblocking(False)
    while len(got) < len(sent):
        try:
            got += far.recv(1 << 20)
        except BlockingIOError:
            assert lane.has_unsent
        lane.flush()
    assert got == sent
    assert not lane.has_unsent


def test_closing_sends_what_is_left(pair) -> None:
    """A DISCONNECT that never leaves: the MQTT broker would publish our last will."""
    near, far = pair
    lane = welcome_lane(near, make_heard())
    lane.send(b"\xe0\x00")
    lane.close()
    assert far.recv(10) == b"\xe0\x00"
    assert not lane.is_open
    with pytest.raises(ConnectionError):
        lane.send(b"\xe0\x00")
    lane.close()


def test_paho_takes_a_lane_for_its_socket() -> None:
    """A new paho without the place where a lane is put in: all would go the slow way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = BrokerConfig(host="127.0.0.1", port=server.getsockname()[1])
        client = MqttClient(settings, make_heard(), v5=True, client_id="x")
        client.open()
        lane = client.lane
        assert lane is not None
        assert client.socket() is lane
        accepted, _ = server.accept()
        with accepted:
            client.loop_write()
            lane.flush()
            assert accepted.recv(1) == b"\x10"  # CONNECT
        lane.close()


def test_what_comes_in_one_read_with_connack_waits_for_it(pair) -> None:
    """Messages taken before the session is known: dropped with old ones, or never acknowledged."""
    near, far = pair
    heard = make_heard()
    lane = Lane(near, heard, v5=True)
    connack = b"\x20\x03\x01\x00\x00"
    far.sendall(connack + publish(0, 10) + publish(1, 10))
    lane.fill()
    assert heard.publishes == []
    assert lane.recv(100) == connack
    lane.cut()
    assert heard.publishes == []  # the client has not said what it makes of it
    lane.is_welcome = True
    lane.cut()
    assert [p.mid for p in heard.publishes] == [1, 2]


def test_a_full_buffer_before_connack_is_not_the_end(pair) -> None:
    """A read of nothing, since there is no room, taken for the end of the connection."""
    near, far = pair
    heard = make_heard()
    lane = Lane(near, heard, v5=True)
    connack = b"\x20\x03\x01\x00\x00"
    stream = connack + b"".join(publish(n, 60_000) for n in range(12))
    feed(lane, far, stream[: READ_BYTES + 100_000], iter(lambda: 50_000, None))
    assert lane.recv(100) == connack
    with pytest.raises(BlockingIOError):
        lane.recv(1)
    lane.is_welcome = True
    lane.cut()
    feed(lane, far, stream[READ_BYTES + 100_000 :], iter(lambda: 50_000, None))
    lane.fill()
    assert len(heard.publishes) == 12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("v5", [True, False])
def test_of_a_message_that_is_too_large_only_the_begin_is_kept(seed, pair, *, v5: bool) -> None:
    """A quarter of a gigabyte in memory, twice, for a message that will be refused anyway."""
    near, far = pair
    far.setblocking(False)
    heard, rng = make_heard(), random.Random(seed)
    lane = Lane(near, heard, v5=v5, max_payload_bytes=1000)
    lane.is_welcome = True
    huge = packets.publish("t/x", b"h" * 3_000_000, 2, is_retained=False, v5=v5)
    small = packets.publish("t/x", b"s" * 1000, 3, is_retained=False, v5=v5)
    stream, at, largest = small + huge + small + PINGRESP, 0, 0
    while at < len(stream):
        size = rng.choice((1, 7, 10_000, 200_000))
        with contextlib.suppress(BlockingIOError):
            at += far.send(stream[at : at + size])
        lane.fill()
        largest = max(largest, len(lane._buffer))
    lane.fill()
    first, cut, last = heard.publishes
    assert (first.payload, first.is_cut) == (b"s" * 1000, False)
    assert last == first
    assert (cut.topic, cut.mid, cut.qos, cut.is_cut) == (b"t/x", 2, 1, True)
    assert 1000 < len(cut.payload) <= 1000 + HEAD_BYTES  # so that it is seen to be too large
    assert largest == READ_BYTES
    assert lane.recv(10) == PINGRESP


def test_a_message_of_the_largest_size_is_whole(pair) -> None:
    """The other side: what is allowed is not cut, whatever its topic's length."""
    near, far = pair
    heard = make_heard()
    lane = Lane(near, heard, v5=True, max_payload_bytes=300_000)
    lane.is_welcome = True
    packet = packets.publish("t" * 65_535, b"p" * 300_000, 2, is_retained=False, v5=True)
    feed(lane, far, packet, iter([50_000] * 100))
    assert [(len(p.payload), p.is_cut) for p in heard.publishes] == [(300_000, False)]


def test_properties_without_end_lose_no_connection(pair) -> None:
    """A connection that is cut, made anew and cut again by the same message, for ever."""
    near, far = pair
    heard = make_heard()
    lane = Lane(near, heard, v5=True, max_payload_bytes=1000)
    lane.is_welcome = True
    body = b"\0\3t/x\0\2" + packets.variable_int(400_000) + b"\x26" * 400_000 + b"payload"
    feed(lane, far, b"\x32" + packets.variable_int(len(body)) + body, iter([50_000] * 100))
    feed(lane, far, publish(7, 10), iter([50_000] * 100))
    assert [(p.mid, len(p.payload), p.is_cut) for p in heard.publishes] == [
        (2, 0, True),
        (8, 14, False),
    ]


def test_what_is_no_message_may_not_be_so_long(pair) -> None:
    near, far = pair
    lane = Lane(near, make_heard(), v5=True, max_payload_bytes=1000)
    with pytest.raises(packets.PacketError, match="no end"):
        feed(
            lane, far, b"\x20" + packets.variable_int(400_000) + b"\0" * 200_000, iter([50_000] * 9)
        )
