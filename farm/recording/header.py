"""The `Header`: how a recording begins, so that no other file is taken for one.

Owns the first bytes of the file; what follows them is `farm.recording.block`'s.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgpack  # type: ignore[import-untyped] # ships none

from farm.errors import RecordingError

if TYPE_CHECKING:
    from typing import BinaryIO

# The first byte is no ASCII, so that no text is taken for a recording; the line ends at the end are
# changed by whoever copies it as text, and so betray him.
MAGIC: Final = b"\x8fFARMREC\r\n"
VERSION: Final = 1
MAX_BODY_BYTES: Final = 65_536

_FIXED: Final = struct.Struct("<HI")  # version, bytes of the body
_CRC: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Header:
    """What is said once about a recording.

    Attributes:
        created_ns: UTC in nanoseconds since 1970; 0 where it is not told.
        writer: the program that began it, with its version.
        is_anonymous: names, ids and serial numbers in it are made up.
    """

    created_ns: int
    writer: str
    is_anonymous: bool = False


def pack_header(header: Header) -> bytes:
    """The bytes that a recording begins with."""
    body = msgpack.packb(
        {
            "created_ns": header.created_ns,
            "writer": header.writer,
            "anonymous": header.is_anonymous,
        }
    )
    head: bytes = MAGIC + _FIXED.pack(VERSION, len(body)) + body
    return head + _CRC.pack(zlib.crc32(head))


def read_header(file: BinaryIO, name: str) -> Header:
    """The header of a file that stands at its begin; it is left where the first block begins.

    Args:
        file: opened for reading.
        name: of the file, for the message.

    Raises:
        RecordingError: it is no recording, one of another version, or a damaged one.
    """
    head = file.read(len(MAGIC) + _FIXED.size)
    if head[: len(MAGIC)] != MAGIC:
        raise RecordingError(f"{name} is no recording: `farm record FILE` makes one")
    if len(head) < len(MAGIC) + _FIXED.size:
        raise RecordingError(_torn(name))
    version, body_bytes = _FIXED.unpack_from(head, len(MAGIC))
    if version != VERSION:
        raise RecordingError(
            f"{name} is a recording of version {version}, and this farm knows {VERSION}: read it "
            "with the farm that wrote it"
        )
    if body_bytes > MAX_BODY_BYTES:
        raise RecordingError(f"{name}: its header is damaged: take it from a copy")
    rest = file.read(body_bytes + _CRC.size)
    if len(rest) < body_bytes + _CRC.size:
        raise RecordingError(_torn(name))
    body = rest[:body_bytes]
    (crc,) = _CRC.unpack(rest[body_bytes:])
    if zlib.crc32(body, zlib.crc32(head)) != crc:
        raise RecordingError(f"{name}: its header is damaged: take it from a copy")
    return _unpack(body, name)


def _unpack(body: bytes, name: str) -> Header:
    try:
        told = msgpack.unpackb(body)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise RecordingError(f"{name}: its header is damaged: take it from a copy") from error
    fields = told if isinstance(told, dict) else {}
    created_ns, writer = fields.get("created_ns"), fields.get("writer")
    if not isinstance(created_ns, int) or not isinstance(writer, str):
        raise RecordingError(f"{name}: its header says nothing of use: take it from a copy")
    return Header(created_ns, writer, is_anonymous=fields.get("anonymous") is True)


def _torn(name: str) -> str:
    return (
        f"{name} ends within its header: its recorder was stopped before it kept anything. Remove "
        "it, and record again"
    )
