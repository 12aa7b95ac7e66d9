"""One frame of ours: a byte of kind, then a msgpack array whose first item is the version."""

from __future__ import annotations

import typing
from typing import Any

import msgpack  # type: ignore[import-untyped]

from farm.errors import WireError
from farm.wire.limits import MAX_HEAD_BYTES, MAX_ITEMS

PROTOCOL = 8  # raised with every change of a message; a worker of another version is refused


def pack(kind: int, body: list[Any]) -> bytes:
    """The frame of a message of this kind.

    Raises:
        WireError: it is too large, or holds what msgpack can't carry.
    """
    try:
        packed = bytes([kind]) + typing.cast("bytes", msgpack.packb(body))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WireError(f"can't be packed: {error}") from error
    if len(packed) > MAX_HEAD_BYTES:
        raise WireError(f"{len(packed)} bytes in one message, at most {MAX_HEAD_BYTES}")
    return packed


def _refuse_ext(code: int, _data: bytes) -> Any:
    raise WireError(f"msgpack extension type {code}")


def _refuse_bytes(found: dict[Any, Any]) -> dict[Any, Any]:
    """Of keys, msgpack lets text and bytes through; what is answered or shown is JSON."""
    if bytes in map(type, found):
        raise WireError("a key of bytes in a map")
    return found


def unpack(frame: bytes | memoryview) -> tuple[int, list[Any]]:
    """The kind and the array of a frame, with nothing in it but plain data; keys are text.

    Raises:
        WireError: it is too large, no msgpack of ours, or of another version.
    """
    if not 0 < len(frame) <= MAX_HEAD_BYTES:
        raise WireError(f"a head of {len(frame)} bytes")
    try:
        body = msgpack.unpackb(
            frame[1:],
            ext_hook=_refuse_ext,
            object_hook=_refuse_bytes,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_str_len=MAX_HEAD_BYTES,
            max_bin_len=MAX_HEAD_BYTES,
            max_ext_len=0,
        )
    # msgpack's own exceptions (FormatError, StackError, ExtraData) derive from ValueError. Some say
    # nothing; ExtraData's repr holds all that was unpacked, and fails itself where that is nested.
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # its name alone: an ExtraData has all that came in it, and may become four times as long
        raise WireError(f"not msgpack: {type(error).__name__}") from error
    version = body[0] if isinstance(body, list) and body else None
    if type(version) is not int:  # not shown: it may be nested so deep that this would end us
        raise WireError(f"no protocol version where {PROTOCOL} is spoken")
    if version != PROTOCOL:
        raise WireError(f"protocol version {version} where {PROTOCOL} is spoken")
    return frame[0], body
