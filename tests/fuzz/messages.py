"""Fuzzes the reader of the units' messages: ids, provenance, whole holes, by every JSON reader.

An input is a Result, a Trace, Heads and a topic, divided by bytes that no JSON holds; what is
missing is empty.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from farm.config import Config, LimitsConfig
from farm.drilling import lists
from farm.drilling.adapter import OpcUaAdapter
from farm.drilling.fields import ABSENT, Field, canonical_id, parse
from farm.drilling.hole import Hole, Step
from farm.drilling.opcua import (
    HEADS,
    MAX_RATE_HZ,
    MAX_STEPS,
    RESULT,
    TRACE,
    OpcUaReader,
)
from farm.errors import ReadError
from farm.simulation.gateway import STYLES, GatewayStyle, messages

from . import must

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.drilling.columns import Columns

INSTRUMENTED = ("farm.drilling",)
MAX_BYTES = 8192
DIVIDER = b"\xff\xff\xff"
KINDS = (RESULT, TRACE, HEADS)
_PREFIXES = ("", "s=Objects.DeviceSet.T.", "nsu=u;s=Objects.DeviceSet.T.")  # ways to name a field
_SUFFIXES = ("", "", ".MeasuredValue")
_TOPIC = b"OPCPUBSUB/BOX/TOOL/ResultManagement/Trace"
MAX_SENTENCE_CHARS = 1200  # a sentence is published; the path that it may name has up to 500
WORDS = (
    DIVIDER,
    b'"Value":[',
    b'{"Value":1}',
    b'"Messages":',
    b'"Payload":',
    b".MeasuredValue",
    b"\\u0000",
    b"\\ud800",
    b"1e400",
    b"NaN",
    b"null,",
    b"-0.0",
    b"9007199254740993",
)

_LONG_KEY = re.compile(rb'"((?:[^"\\]|\\.){64,})"\s*:', re.DOTALL)

_CONFIG = Config()
_LIMITS = LimitsConfig(samples=64)  # so that inputs of this size reach it
_IDS = _CONFIG.mqtt.data_ids
_ADAPTER = OpcUaAdapter(_CONFIG)
_READERS = [
    OpcUaReader(_IDS, _LIMITS, made())
    for made in (lists.OrjsonLists, *([lists.SimdjsonLists] if lists.Parser else []))
]
_FIELDS = [Field(path) for path in _IDS.model_dump().values()]


def check(data: bytes) -> None:
    """See `Harness`."""
    if _is_never_freed(data):
        return
    *pieces, topic = (data.split(DIVIDER, len(KINDS)) + [b""] * len(KINDS))[: len(KINDS) + 1]
    parts = dict(zip(KINDS, pieces, strict=True))
    for kind, payload in parts.items():
        _check_id(kind, payload)
        _check_peek(payload)
    _check_provenance(parts)
    _check_hole(parts)
    _check_route(topic)


def _is_never_freed(data: bytes) -> bool:
    """Whether orjson would keep a key of this for good (docs/fuzzing.md): it hid other growth."""
    keys = _LONG_KEY.findall(data)
    return len(set(keys)) < len(keys)


def _check_id(kind: str, payload: bytes) -> None:
    try:
        found = _READERS[0].part_id(kind, payload)
    except ReadError as error:
        _check_sentence(error)
        return
    if found is not None:
        must(canonical_id(found) == found, f"{found!r} is not the one spelling of itself")
        found.encode()
    must(found is not None or kind == HEADS, f"{kind} without an id is no hole's")


def _check_peek(payload: bytes) -> None:
    """The cheap way to a value, and the one through the whole message."""
    try:
        fields = parse(payload)
    except ReadError as error:
        _check_sentence(error)
        return
    for field in _FIELDS:
        peeked, read = field.peek(payload), field.of(fields)
        is_one = payload.count(field.path.encode()) == 1 and b"\\" not in payload
        if is_one and peeked is not ABSENT and read is not ABSENT:
            must(peeked == read or peeked != peeked, f"{field.path}: {peeked!r}, not {read!r}")  # noqa: PLR0124 - NaN


def _check_provenance(parts: dict[str, bytes]) -> None:
    for value in _READERS[0].describe(parts).values():
        must(value is None or (value and value.isprintable()), f"provenance {value!r}")


def _check_hole(parts: dict[str, bytes]) -> None:
    first, *others = [_told(reader, parts) for reader in _READERS]
    for other in others:
        must(other == first, f"the readers of lists differ: {first} and {other}")
    _check_quick_way(parts[TRACE])


def _told(reader: OpcUaReader, parts: dict[str, bytes]) -> str | tuple[object, ...]:
    """All there is to a hole, in a form that can be compared; or the sentence."""
    try:
        hole = reader.read_hole(parts)
    except ReadError as error:
        _check_sentence(error)
        return str(error)
    columns = (hole.position_mm, hole.torque_a, hole.thrust_a)
    samples = len(hole.step_number)
    must(0 < samples <= _LIMITS.samples, f"{samples} samples")
    must(all(np.isfinite(c).all() and c.dtype == np.float32 for c in columns), "odd samples")
    must(all(c.shape == (samples,) for c in columns), "columns that differ in length")
    must((hole.position_mm >= 0).all(), "a position that is not a distance")
    must(hole.step_number.dtype == np.int16, "step numbers of another type")
    must(0 < hole.sample_rate_hz <= MAX_RATE_HZ, f"{hole.sample_rate_hz} Hz")
    must(len(hole.steps) <= MAX_STEPS, "too many steps")
    return (
        *(column.tobytes() for column in columns),
        hole.step_number.tobytes(),
        repr(hole.steps),  # holds NaN, which is not equal to itself
        hole.sample_rate_hz,
    )


def _check_quick_way(trace: bytes) -> None:
    """It only ever finds what the exact one finds."""
    for reader in _READERS:
        try:
            quick = reader._columns._quick(trace)
        except ReadError:
            continue
        exact = reader._columns._exact(trace)
        must(_bytes_of(quick) == _bytes_of(exact), "the quick way reads other columns")


def _bytes_of(columns: Columns) -> tuple[object, ...]:
    found = (columns.position_mm, columns.torque_a, columns.thrust_a, columns.step_number)
    return (*(column.tobytes() for column in found), repr(columns.rate))


def _check_sentence(error: ReadError) -> None:
    sentence = str(error)
    must(sentence.isprintable(), f"not fit to be published: {sentence!r}")
    must(len(sentence) <= MAX_SENTENCE_CHARS, f"a sentence of {len(sentence)} characters")
    sentence.encode()


def _check_route(topic: bytes) -> None:
    route = _ADAPTER.route(topic.decode("utf-8", "backslashreplace"))
    if route is not None:
        must(route.kind in KINDS and route.source.isprintable(), f"odd route {route}")
        must(not set("+#") & set(route.source), f"a wildcard in {route.source}")


def seeds() -> Iterable[bytes]:
    """Small holes in the style of each gateway, as far as it is read: whole, and cut short."""
    for style, prefix, suffix in zip(STYLES.values(), _PREFIXES, _SUFFIXES, strict=True):
        pieces = [_bare(piece, prefix, suffix) for piece in _written(style)]
        yield DIVIDER.join([*pieces, _TOPIC])
        yield DIVIDER.join(piece[: len(piece) * 2 // 3] for piece in pieces)
        yield from pieces


def _written(style: GatewayStyle) -> list[bytes]:
    hole = Hole(
        position_mm=np.array([0.5, 1.25, 2.0, 3.125], np.float32),
        torque_a=np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        thrust_a=np.array([-0.1, 1.0, 2.0, 3.0], np.float32),
        step_number=np.array([1, 1, 2, 2], np.int16),
        steps=(Step(1, 64, 0.5, 0.1, 0.2), Step(2, None, 1.0, math.nan, 0.3)),
    )
    written = messages(
        hole,
        power_w=np.array([1.0, 2.0, 3.0, 4.0], np.float32),
        style=style,
        toolbox="BOX",
        tool="TOOL",
        result_id=7,
        head_id="E00401",
        machine_id="25000001",
        timestamp=datetime(2031, 5, 6, tzinfo=UTC),
    )
    return [written.result, written.trace, written.heads or b""]


def _bare(message: bytes, prefix: str, suffix: str) -> bytes:
    """The same message with the fields that are read, and little around them."""
    if not message:
        return b""
    fields = {
        f"{prefix}{field.path}{suffix}": {"Value": value, "SourceTimestamp": "2031-05-06T00:00:00Z"}
        for field in _FIELDS
        if (value := field.of(parse(message))) is not ABSENT
    }
    return json.dumps({"Messages": {"Payload": fields}}, separators=(",", ":")).encode()
