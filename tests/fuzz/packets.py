"""Fuzzes the cutter of MQTT packets, by three ways that must agree: what an MQTT broker sends.

An input is a byte of settings (MQTT version, how the stream is cut) and the stream. It goes through
the farm's `Lane` in one piece and in many, and through the bench's own `Parser`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from farm.broker import lane as lanes
from farm.broker import packets
from farm.broker.packets import PacketError
from farm.errors import MqttError
from farm.simulation import lean

from . import must

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

INSTRUMENTED = ("farm.broker.packets", "farm.broker.lane", "farm.simulation.lean")
MAX_BYTES = 512
_V5 = 0x01
_FEW_BYTES = 8  # that the lane has room for at the begin, so that it must grow
WORDS = (
    b"\x30",
    b"\x32",
    b"\x3b",
    b"\x40\x02\x00\x01",
    b"\x40\x03\x00\x01\x87",
    b"\xd0\x00",
    b"\x20\x02\x00\x00",
    b"\x80\x80\x80\x80\x01",
    b"\xff\xff\xff\x7f",
    b"\x00\x03a/b",
)


class Stream:
    """A socket that has received the stream in these pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]
        self.size = sum(map(len, self._pieces))

    def recv_into(self, space: memoryview) -> int:
        if not self._pieces:
            raise BlockingIOError
        piece = self._pieces.pop(0)
        count = min(len(piece), len(space))
        space[:count] = piece[:count]
        if piece[count:]:
            self._pieces.insert(0, piece[count:])
        return count

    def __len__(self) -> int:
        return len(self._pieces)


class Heard:
    """A receiver that keeps what it is told, and leaves some PUBACKs to the client.

    Args:
        is_ours: whether a PUBACK of this mid is for the receiver.
    """

    def __init__(self, is_ours: Callable[[int], bool] = lambda mid: mid > 10) -> None:
        self._is_ours = is_ours
        self.publishes: list[packets.Publish] = []
        self.pubacks: list[tuple[int, int]] = []

    def published(self, packet: packets.Publish) -> None:
        self.publishes.append(packet)

    def confirmed(self, mid: int, reason: int) -> bool:
        self.pubacks.append((mid, reason))
        return self._is_ours(mid)


def check(data: bytes) -> None:
    """See `Harness`."""
    setting, stream = (data[0], data[1:]) if data else (0, b"")
    v5 = bool(setting & _V5)
    whole = _through_lane([stream], v5=v5)
    pieces = _through_lane(_cut(stream, 1 + (setting >> 1)), v5=v5)
    must(whole == pieces, f"how the stream is cut matters: {whole!r:.300}, {pieces!r:.300}")
    publishes, pubacks, _, error = whole
    for packet in publishes:
        _check_publish(packet, v5=v5)
    for mid, reason in pubacks:
        must(0 <= mid <= 0xFFFF and 0 <= reason <= 0xFF, f"PUBACK {mid} {reason}")
    _check_lean(stream, publishes, pubacks, v5=v5, is_broken=error)


def _through_lane(
    pieces: Iterable[bytes], *, v5: bool
) -> tuple[list[packets.Publish], list[tuple[int, int]], bytes, bool]:
    """Publications, confirmations, what is left to the client, and whether it was found broken."""
    stream, heard = Stream(pieces), Heard()
    read_bytes, lanes.READ_BYTES = lanes.READ_BYTES, _FEW_BYTES
    rest, is_broken = b"", False
    try:
        lane = lanes.Lane(cast("socket.socket", stream), heard, v5=v5)
        lane.is_welcome = True
        while len(stream):
            lane.fill()
        must(len(lane._buffer) <= _FEW_BYTES + lanes.GROWTH * stream.size, "more room than bytes")
    except PacketError:
        is_broken = True
    finally:
        lanes.READ_BYTES = read_bytes
    while lane.has_packets_for_client:
        rest += lane.recv(1 << 20)
    return heard.publishes, heard.pubacks, rest, is_broken


def _cut(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def _check_publish(packet: packets.Publish, *, v5: bool) -> None:
    """What was read can be written, and is the same again."""
    must(0 <= packet.qos <= 2 and 0 <= packet.mid <= 0xFFFF, f"odd {packet!r:.200}")
    must(packet.qos or not packet.mid, "an id at QoS 0")
    try:
        topic = packet.topic.decode()
    except UnicodeDecodeError:
        return
    written = packets.publish(
        topic,
        packet.payload,
        packet.mid,
        is_retained=packet.is_retained,
        is_dup=packet.is_dup,
        v5=v5,
    )
    span = packets.frame(memoryview(written), 0, len(written))
    assert span is not None
    must(span[1] == len(written), "a length that is not that of the packet")
    again = packets.read_publish(written[0], memoryview(written), *span, v5=v5)
    must(again == packet._replace(qos=1), "another publication comes back")


def _check_lean(
    stream: bytes,
    publishes: list[packets.Publish],
    pubacks: list[tuple[int, int]],
    *,
    v5: bool,
    is_broken: bool,
) -> None:
    try:
        batch = lean.Parser(version=lean.V5 if v5 else "3.1.1").feed(stream)
    except MqttError:
        must(is_broken, "the bench's parser refuses what the farm's takes")
        return
    if is_broken:
        return  # the bench's is told by a broker of its own, and looks at less
    # it takes only plain PUBACKs, as all brokers send them: others are its client's
    heard = [(message.topic, message.payload) for message in batch.messages]
    must(heard == [(packet.topic, packet.payload) for packet in publishes], "the parsers differ")
    failed = [reason for _, reason in pubacks if reason >= lean.FAILED_FROM]
    must(batch.acknowledged + len(batch.refused) <= len(pubacks), "a PUBACK was made up")
    must(set(batch.refused) <= set(failed), "a refusal was made up")


def seeds() -> Iterable[bytes]:
    """Streams of each kind of packet, under both versions."""
    for v5 in (True, False):
        setting = bytes((0x1E + v5,))  # in pieces of 16 bytes
        written = [
            packets.publish("a/b", payload, mid, is_retained=mid == 2, is_dup=mid == 3, v5=v5)
            for mid, payload in ((1, b""), (2, b"{}"), (3, b"x" * 150))
        ]
        yield setting + written[0]
        yield setting + b"".join(written)
        yield setting + packets.puback(7) + written[1] + packets.puback(700) + b"\xd0\x00"
        yield setting + written[2][:40]
        yield setting + b"\x20\x03\x00\x00\x00" + b"\x40\x04\x00\x0c\x87\x00" + written[1]
    yield b"\x07" + b"\x32\x12\x00\x03a/b\x00\x07\x07\x26\x00\x01k\x00\x01v" + b"hi"
    yield b"\x06" + b"\x30\x07\x00\x03a/bhi" + b"\xff\xff\xff\xff\xff"
