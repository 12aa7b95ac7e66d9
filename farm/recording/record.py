"""The `Record`: one thing that was recorded, and how it stands in a block.

A record is its length, its checksum, and a msgpack array that begins with its kind. Kinds that a
later farm adds are skipped and counted.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped] # ships none

from farm.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_TOPIC_BYTES: Final = 65_535  # MQTT 5, section 1.5.4
MAX_PAYLOAD_BYTES: Final = 64_000_000  # as the largest limits.message_bytes
MAX_TEXT_CHARS: Final = 4_000
# A record is a payload, a topic and a few numbers.
MAX_BODY_BYTES: Final = MAX_PAYLOAD_BYTES + MAX_TOPIC_BYTES + 1_000
MAX_TIME_NS: Final = 2**63 - 1  # the year 2262

_HEAD: Final = struct.Struct("<II")  # bytes of the body, its crc32
HEAD_BYTES: Final = _HEAD.size

_MESSAGE, _ANSWER, _GAP, _NOTE = 1, 2, 3, 4
_KINDS: Final = frozenset({_MESSAGE, _ANSWER, _GAP, _NOTE})
MAX_FIELDS: Final = 16
_QOS_MASK, _RETAIN = 0b11, 0b100


class Message(NamedTuple):
    """One MQTT message as it came."""

    at_ns: int  # arrival, UTC in nanoseconds since 1970
    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    is_answer: bool = False  # the farm's own; such a one is compared, never replayed


class Gap(NamedTuple):
    """A time in which the recorder heard nothing, and what became of what was sent then."""

    at_ns: int
    to_ns: int
    note: str


class Note(NamedTuple):
    """What the recorder says of itself: when it began and ended, and how."""

    at_ns: int
    text: str


class Unknown(NamedTuple):
    """A record of a kind that this farm does not know."""

    kind: int


Record = Message | Gap | Note | Unknown


class UnfitError(Exception):
    """A record can't be kept; the sentence says why."""


def pack_record(record: Message | Gap | Note) -> bytes:
    """A record as it stands in a block.

    Raises:
        UnfitError: it is larger than what may be read again.
    """
    body = bytes(msgpack.packb(_fields(record)))
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def _fields(record: Message | Gap | Note) -> list[Any]:
    if isinstance(record, Note):
        return [_NOTE, record.at_ns, record.text[:MAX_TEXT_CHARS]]
    if isinstance(record, Gap):
        return [_GAP, record.at_ns, record.to_ns, record.note[:MAX_TEXT_CHARS]]
    if len(record.payload) > MAX_PAYLOAD_BYTES:
        raise UnfitError(f"{len(record.payload)} bytes, more than {MAX_PAYLOAD_BYTES}")
    try:
        topic_bytes = len(record.topic.encode())
    except UnicodeEncodeError:
        raise UnfitError("its topic is no UTF-8") from None
    if topic_bytes > MAX_TOPIC_BYTES:
        raise UnfitError(f"its topic has {topic_bytes} bytes, more than {MAX_TOPIC_BYTES}")
    kind = _ANSWER if record.is_answer else _MESSAGE
    flags = (record.qos & _QOS_MASK) | (_RETAIN if record.retain else 0)
    return [kind, record.at_ns, record.topic, record.payload, flags]


def unpack_records(raw: bytes, count: int) -> Iterator[Record]:
    """The records of a block.

    Args:
        raw: the block's content.
        count: how many it is said to hold.

    Raises:
        RecordingError: it holds something else; the sentence goes on after the place.
    """
    position = 0
    for _ in range(count):
        if len(raw) - position < HEAD_BYTES:
            raise RecordingError("a record is missing")
        length, crc = _HEAD.unpack_from(raw, position)
        position += HEAD_BYTES
        body = raw[position : position + length]
        if length > MAX_BODY_BYTES or len(body) < length:
            raise RecordingError("a record is longer than its block")
        if zlib.crc32(body) != crc:
            raise RecordingError("the checksum of a record is wrong")
        position += length
        yield _unpack(body)
    if position != len(raw):
        raise RecordingError("there is something behind the last record")


def _unpack(body: bytes) -> Record:
    try:
        kind, rest = _fields_of(body)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise RecordingError(f"a record can't be read ({error or type(error).__name__})") from error
    if kind in (_MESSAGE, _ANSWER):
        return _message(rest, is_answer=kind == _ANSWER)
    if kind == _GAP and _is(rest, int, int, str) and _is_time(rest[0]) and _is_time(rest[1]):
        return Gap(*rest)
    if kind == _NOTE and _is(rest, int, str) and _is_time(rest[0]):
        return Note(*rest)
    if kind in (_GAP, _NOTE):
        raise RecordingError("a record is not as its kind must be")
    return Unknown(kind)


def _fields_of(body: bytes) -> tuple[int, list[Any]]:
    """The kind of a record, and what follows it; nothing for a kind that is not known.

    No list, map or extension is made of what is inside: 60 million empty lists take 60 kB in a
    file, and 4 GB in memory.
    """
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(body), max_array_len=0, max_map_len=0, max_ext_len=0
    )
    unpacker.feed(body)
    count = unpacker.read_array_header()
    kind = unpacker.unpack() if count else None
    if type(kind) is not int:
        raise RecordingError("a record is of no kind")
    if kind not in _KINDS:
        return kind, []
    if count > MAX_FIELDS:
        raise RecordingError(f"a record has {count} fields")
    rest = [unpacker.unpack() for _ in range(count - 1)]
    if unpacker.tell() != len(body):
        raise RecordingError("there is something behind the last field of a record")
    return kind, rest


def _message(rest: list[Any], *, is_answer: bool) -> Message:
    if not _is(rest, int, str, bytes, int) or not _is_time(rest[0]):
        raise RecordingError("a message is not as it must be")
    at_ns, topic, payload, flags = rest
    if len(payload) > MAX_PAYLOAD_BYTES or len(topic) > MAX_TOPIC_BYTES:
        raise RecordingError("a message is larger than one may be")
    qos = flags & _QOS_MASK
    return Message(at_ns, topic, payload, qos, bool(flags & _RETAIN), is_answer)


def _is(values: list[Any], *types: type) -> bool:
    return len(values) == len(types) and all(
        type(value) is wanted for value, wanted in zip(values, types, strict=True)
    )


def _is_time(value: int) -> bool:
    return 0 <= value <= MAX_TIME_NS
