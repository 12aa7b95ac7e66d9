"""Fuzzes the messages between our own processes: one frame, and the frames of a Jobs message.

The first byte of an input chooses; the frames of Jobs are divided by bytes that no msgpack holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm import wire
from farm.errors import WireError
from farm.wire.checks import CHECKS
from farm.wire.layout import KINDS, LAYOUTS

from . import must

if TYPE_CHECKING:
    from collections.abc import Iterable

INSTRUMENTED = ("farm.wire",)
MAX_BYTES = 4096
DIVIDER = b"\xc1\xc1\xc1\xc1"  # msgpack never uses this byte; a part may, and is then cut
JOBS = b"J"
MAX_ERROR_CHARS = 500
# Depth from which packing refuses what unpacking took: msgpack's own limits for the two differ.
_REFUSED_DEPTH = "recursion limit exceeded"
WORDS = (
    DIVIDER,
    bytes((wire.JOBS_KIND, 0x93, wire.PROTOCOL)),
    *(bytes((kind, 0x90 | size, wire.PROTOCOL)) for kind in (2, 3, 4, 16, 19) for size in (4, 13)),
    b"\x81\xa1k\xc0",
    b"\x81\xc4\x01k\xc0",
    b"\xdc\xff\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",  # NaN
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xa2\xed\xa0",
)


def check(data: bytes) -> None:
    """See `Harness`."""
    if data[:1] == JOBS:
        _check_jobs(data[1:].split(DIVIDER))
    else:
        _check_message(data[1:])


def _check_message(frame: bytes) -> None:
    try:
        message = wire.decode([frame])
    except WireError as error:
        _check_error(error)
        return
    for name in _names(message):
        _check_plain(getattr(message, name))
    try:
        packed = wire.encode(message)
    except WireError as error:
        must(_REFUSED_DEPTH in str(error), f"what was decoded can't be encoded: {error}")
        return
    again = wire.decode([packed])
    must(type(again) is type(message), "another message comes back")
    must(wire.encode(again) == packed, "what is decoded again is not the same")
    must(wire.decode([memoryview(frame)]) is not None, "a view of the same bytes is refused")


def _check_jobs(frames: list[bytes]) -> None:
    try:
        message = wire.decode_jobs(frames)
    except WireError as error:
        _check_error(error)
        return
    again = wire.decode_jobs(wire.encode_jobs(message))
    must(again == message, "other jobs come back")
    # in order, whatever the dicts say
    told = [part for job in message.jobs for part in job.parts.values()]
    must(told == frames[1:], "parts are lost or moved")


def _names(message: Any) -> tuple[str, ...]:
    return tuple(name for name, *_ in LAYOUTS[type(message)])


def _check_plain(value: Any) -> None:
    """Nothing but what the docstring of `farm.wire` lets through, at any depth."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        must(
            type(found) in (int, float, str, bool, bytes, list, tuple, dict, type(None)),
            f"a {type(found).__name__} came through",
        )
        if isinstance(found, list | tuple):
            waiting.extend(found)
        elif isinstance(found, dict):
            must(all(type(key) is str for key in found), "a key that is no text came through")
            waiting.extend(found.values())


def _check_error(error: WireError) -> None:
    must(len(str(error)) <= MAX_ERROR_CHARS, f"an error of {len(str(error))} characters")


def seeds() -> Iterable[bytes]:
    """One message of each kind, and jobs with and without parts."""
    for cls in KINDS:
        message = cls(*(_EXAMPLES[check](cls) for _, check, _ in LAYOUTS[cls]))
        yield b"M" + wire.encode(message)
    job = wire.Job(7, "box/tool", "440", 1, {"result": b"{}", "trace": b"[1]"}, 99)
    bare = wire.Job(-1, "", "", 0, {}, 0)
    for jobs in ((), (job,), (job, bare), (bare,)):
        yield JOBS + DIVIDER.join(wire.encode_jobs(wire.Jobs(jobs, alone=len(jobs) == 1)))


def _by_check() -> dict[Any, Any]:
    examples: dict[Any, Any] = {
        int: 5,
        float: 0.25,
        str: "ok",
        bool: True,
        bytes: b"bytes",
        dict[str, Any]: {"a": [1, None, {"b": 2.5}]},
        list[int]: [1, 2],
        list[str]: ["a name"],
        list[tuple[int, str]]: [(1, "ended")],
        Any: {"keypoints_mm": [1.5, 2.5]},
    }
    return {CHECKS[kind]: lambda _cls, value=value: value for kind, value in examples.items()}


_EXAMPLES = _by_check()
