"""The `Block`: many records compressed as one, with a head that says how long it is.

Owns how blocks stand in the file, and how one whose end is missing (its writer was killed) is told
from one that is damaged: a kill leaves the begin of a block and nothing behind it.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

from farm.errors import RecordingError
from farm.recording.record import HEAD_BYTES, MAX_BODY_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

SYNC: Final = b"FBLK"
PLAIN, ZLIB = 0, 1
LEVEL: Final = 6  # 7.0 times smaller on simulated holes, where 1 gives 5.3 and 9 nothing more
MAX_RECORDS: Final = 65_535
TARGET_BYTES: Final = 256_000  # of records in a block; twice as much makes it no smaller
MAX_RAW_BYTES: Final = TARGET_BYTES + MAX_BODY_BYTES + HEAD_BYTES
MAX_STORED_BYTES: Final = MAX_RAW_BYTES + 65_536  # what can't be compressed grows a little

# sync, codec, reserved, records, stored bytes, raw bytes, crc32 of what is stored; its own crc32
_HEAD: Final = struct.Struct("<4sBBHIII")
_CRC: Final = struct.Struct("<I")
BLOCK_HEAD_BYTES: Final = _HEAD.size + _CRC.size
_ZEROS_AT_ONCE: Final = 1_000_000


class Block(NamedTuple):
    """A block as it stands in the file."""

    offset: int
    codec: int
    records: int
    raw_bytes: int
    stored: bytes

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.offset + BLOCK_HEAD_BYTES + len(self.stored)


class Torn(NamedTuple):
    """The end of a file that was being written when its writer was killed."""

    offset: int
    torn_bytes: int

    def __str__(self) -> str:
        return (
            f"its last {self.torn_bytes} bytes (from byte {self.offset} on) are the begin of a "
            "block whose writer was stopped: they are left out"
        )


def pack_block(records: list[bytes], *, level: int = LEVEL) -> bytes:
    """Packed records as a block; level 0 compresses nothing."""
    raw = b"".join(records)
    codec = ZLIB if level else PLAIN
    stored = zlib.compress(raw, level) if level else raw
    head = _HEAD.pack(SYNC, codec, 0, len(records), len(stored), len(raw), zlib.crc32(stored))
    return head + _CRC.pack(zlib.crc32(head)) + stored


def walk(file: BinaryIO, size: int) -> Iterator[Block | Torn]:
    """The blocks of a file from where it stands, then what is torn at its end, if anything is.

    Args:
        file: opened for reading.
        size: of the file; what is written beyond it meanwhile is not looked at.

    Raises:
        RecordingError: it is damaged; the sentence goes on after the file's name.
    """
    offset = file.tell()
    while offset < size:
        head = file.read(min(BLOCK_HEAD_BYTES, size - offset))
        if len(head) < BLOCK_HEAD_BYTES or not any(head):
            # a power cut may leave zeros where something was to be written
            if len(head) == BLOCK_HEAD_BYTES and not _is_zero(file, size):
                raise RecordingError(f"damaged at byte {offset}: no block begins there")
            yield Torn(offset, size - offset)
            return
        codec, records, stored_bytes, raw_bytes, crc = _unpack_head(head, offset)
        left = size - offset - BLOCK_HEAD_BYTES
        if stored_bytes > left:
            yield Torn(offset, size - offset)
            return
        stored = file.read(stored_bytes)
        if len(stored) < stored_bytes:
            raise RecordingError(f"cut at byte {offset} while it was read: read it again")
        if zlib.crc32(stored) != crc:
            if stored_bytes == left:  # the last one: a power cut may have kept its head alone
                yield Torn(offset, size - offset)
                return
            raise RecordingError(f"damaged at byte {offset}: the checksum of a block is wrong")
        block = Block(offset, codec, records, raw_bytes, stored)
        yield block
        offset = block.end


def content(block: Block) -> bytes:
    """The records of a block, as `unpack_records` takes them.

    Raises:
        RecordingError: what is in it is not what its head says.
    """
    if block.codec == PLAIN:
        raw = block.stored
    else:
        unpacker = zlib.decompressobj()
        try:
            raw = unpacker.decompress(block.stored, block.raw_bytes + 1)  # never more than said
        except zlib.error as error:
            raise RecordingError(
                f"damaged at byte {block.offset}: a block can't be unpacked"
            ) from error
        if not unpacker.eof or unpacker.unused_data:
            raw = b""
    if len(raw) != block.raw_bytes:
        raise RecordingError(f"damaged at byte {block.offset}: a block is not as long as it says")
    return raw


def _unpack_head(head: bytes, offset: int) -> tuple[int, int, int, int, int]:
    (crc,) = _CRC.unpack_from(head, _HEAD.size)
    sync, codec, reserved, records, stored_bytes, raw_bytes, body_crc = _HEAD.unpack_from(head)
    if sync != SYNC or zlib.crc32(head[: _HEAD.size]) != crc:
        raise RecordingError(f"damaged at byte {offset}: no block begins there")
    if codec not in (PLAIN, ZLIB) or reserved:
        raise RecordingError(
            f"at byte {offset} is a block of a kind that this farm does not know: read it with the "
            "farm that wrote it"
        )
    if stored_bytes > MAX_STORED_BYTES or raw_bytes > MAX_RAW_BYTES:
        raise RecordingError(f"damaged at byte {offset}: a block is larger than one may be")
    return codec, records, stored_bytes, raw_bytes, body_crc


def _is_zero(file: BinaryIO, size: int) -> bool:
    """Whether the rest of the file is zeros."""
    while (left := size - file.tell()) > 0:
        piece = file.read(min(left, _ZEROS_AT_ONCE))
        if not piece or any(piece):
            return False
    return True
