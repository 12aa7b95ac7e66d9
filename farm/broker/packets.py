"""MQTT's two packets that come by the thousand, PUBLISH and PUBACK, as bytes. Knows no sockets.

Everything else of the protocol (CONNECT, subscriptions, keepalive) is the MQTT client's, and
passes through here uncut. Sources: MQTT 5.0 sections 2.1, 3.3 and 3.4; MQTT 3.1.1 likewise.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

PUBLISH: Final = 0x30
PUBACK: Final = 0x40
TYPE_MASK: Final = 0xF0
DUP_FLAG: Final = 0x08
MAX_REMAINING_LENGTH: Final = 268_435_455  # what four bytes of seven bits can say

_QOS_MASK: Final = 0x06
_QOS1: Final = 0x02
_RETAIN_FLAG: Final = 0x01
_U16: Final = struct.Struct("!H")
_PUBACK: Final = struct.Struct("!BBH")
_MAX_LENGTH_BYTES: Final = 4


class PacketError(ValueError):
    """Bytes that no MQTT broker sends: the connection can't be followed any more."""


class Publish(NamedTuple):
    """One PUBLISH as it came."""

    topic: bytes
    payload: bytes
    mid: int  # 0 at QoS 0
    qos: int
    is_retained: bool
    is_dup: bool
    is_cut: bool = False  # of its payload only the begin is here: it is larger than what is taken


def frame(buffer: memoryview, start: int, end: int) -> tuple[int, int] | None:
    """Where the body of the packet that begins at `start` lies, as (start, end).

    The end may be beyond that of the buffer: then the rest is still to come.

    Returns:
        None where not even the packet's length has come.

    Raises:
        PacketError: its length is none.
    """
    length, shift, at = 0, 0, start + 1
    while at < end:
        byte = buffer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return at, at + length
        shift += 7
        if shift == 7 * _MAX_LENGTH_BYTES:
            raise PacketError("a packet's length has more than four bytes")
    return None


def read_publish(
    first_byte: int, buffer: memoryview, start: int, end: int, *, v5: bool, is_cut: bool = False
) -> Publish:
    """The PUBLISH whose body lies between `start` and `end`; the payload is copied out, once.

    With `is_cut` the body goes on beyond `end`, behind its topic and id at the earliest.

    Raises:
        PacketError: it is none.
    """
    qos = (first_byte & _QOS_MASK) >> 1
    try:
        (topic_length,) = _U16.unpack_from(buffer, start)
        at = start + 2 + topic_length
        topic = buffer[start + 2 : at].tobytes()
        mid = 0
        if qos:
            (mid,) = _U16.unpack_from(buffer, at)
            at += 2
        if v5:
            at = _skip_properties(buffer, at, end)
    except (struct.error, IndexError) as error:
        raise PacketError(f"a PUBLISH that is too short: {error}") from error
    if is_cut:
        at = min(at, end)  # not even its properties have fitted
    if at > end or qos > 2:
        raise PacketError("a PUBLISH whose parts are longer than the whole")
    payload = buffer[at:end].tobytes()
    is_retained, is_dup = bool(first_byte & _RETAIN_FLAG), bool(first_byte & DUP_FLAG)
    return Publish(topic, payload, mid, qos, is_retained, is_dup, is_cut)


def _skip_properties(buffer: memoryview, at: int, end: int) -> int:
    """Behind the properties: of a delivery none concerns us (an alias we never allow)."""
    if buffer[at] == 0:  # as nearly always
        return at + 1
    span = frame(buffer, at - 1, end)
    if span is None:
        raise PacketError("properties that do not end")
    return span[1]


def read_puback(buffer: memoryview, start: int, end: int) -> tuple[int, int]:
    """Message id and reason code of the PUBACK whose body lies there.

    Raises:
        PacketError: it is none.
    """
    if end - start < 2:
        raise PacketError("a PUBACK that is too short")
    mid = buffer[start] << 8 | buffer[start + 1]
    return mid, buffer[start + 2] if end - start > 2 else 0


def puback(mid: int) -> bytes:
    """A PUBACK that says yes."""
    return _PUBACK.pack(PUBACK, 2, mid)


def publish(
    topic: str, payload: bytes, mid: int, *, is_retained: bool, v5: bool, is_dup: bool = False
) -> bytes:
    """A PUBLISH at QoS 1, without properties.

    Raises:
        PacketError: it is too long for MQTT.
    """
    name = topic.encode()
    properties = b"\0" if v5 else b""
    length = 2 + len(name) + 2 + len(properties) + len(payload)
    first_byte = PUBLISH | _QOS1 | (_RETAIN_FLAG * is_retained) | (DUP_FLAG * is_dup)
    return b"".join(
        (
            bytes((first_byte,)) + variable_int(length),
            _U16.pack(len(name)),
            name,
            _U16.pack(mid),
            properties,
            payload,
        )
    )


def say(topic: str, payload: bytes, *, is_retained: bool, v5: bool) -> bytes:
    """A PUBLISH at QoS 0, without properties.

    Raises:
        PacketError: it is too long for MQTT.
    """
    name, properties = topic.encode(), b"\0" if v5 else b""
    length = 2 + len(name) + len(properties) + len(payload)
    first = bytes((PUBLISH | (_RETAIN_FLAG * is_retained),)) + variable_int(length)
    return b"".join((first, _U16.pack(len(name)), name, properties, payload))


def variable_int(value: int) -> bytes:
    """A variable byte integer, of 1 to 4 bytes.

    Raises:
        PacketError: it is too large for MQTT.
    """
    if not 0 <= value <= MAX_REMAINING_LENGTH:
        raise PacketError(f"a packet of {value} bytes is too long for MQTT")
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)
