"""The tolerant reader of the units' OPC UA PubSub JSON: ids, provenance, and the hole itself.

Owns what differs between gateways and what makes a message unreadable; every such cause is a
`ReadError` with one sentence, fit to be published. The Trace's lists are `farm.drilling.columns`',
topics are `farm.drilling.adapter`'s.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from farm.drilling.columns import ColumnReader
from farm.drilling.fields import ABSENT, Field, Fields, canonical_id, parse
from farm.drilling.hole import Hole, Step
from farm.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from farm.config import DataIdsConfig, LimitsConfig
    from farm.drilling.lists import ListReader

__all__ = ["HEADS", "RESULT", "TRACE", "OpcUaReader", "canonical_id"]

RESULT: Final = "result"
TRACE: Final = "trace"
HEADS: Final = "heads"

DEFAULT_RATE_HZ: Final = 100.0  # every unit seen so far
MAX_RATE_HZ: Final = 100_000.0  # no motor current is sampled faster: what is above is a mistake
MAX_STEPS: Final = 256  # a program has up to 8; bounds what a broken Result makes us build
SMALL_BYTES: Final = 64_000  # up to here a whole parse for provenance costs less than 0.1 ms

_LABELS = {RESULT: "Result", TRACE: "Trace", HEADS: "Heads"}
_INT16_MIN: Final = -(2**15)  # as `Hole.step_number` can hold them
_INT16_MAX: Final = 2**15 - 1
_TIMESTAMP = re.compile(
    rb'"SourceTimestamp"[ \t\r\n]{0,200}:[ \t\r\n]{0,200}"([0-9A-Za-z:.+-]{1,40})"'
)


class OpcUaReader:
    """Reads ids, provenance and holes from raw messages, as the configuration names the fields.

    Args:
        data_ids: the paths of the fields.
        limits: what is too big to be read.
        lists: how lists of numbers are read; without it, the fastest way there is.
    """

    def __init__(
        self, data_ids: DataIdsConfig, limits: LimitsConfig, lists: ListReader | None = None
    ) -> None:
        self._limits = limits
        self._ids = {
            RESULT: (Field(data_ids.result_id),),
            TRACE: (Field(data_ids.trace_result_id), Field(data_ids.result_id)),
            HEADS: (Field(data_ids.head_cycle),),
        }
        self._machine_id = Field(data_ids.machine_id)
        self._head_id = Field(data_ids.head_id)
        self._columns = ColumnReader(data_ids, limits, lists)
        self._steps_told = Fields(
            [
                Field(data_ids.step_vals),
                Field(data_ids.stop_codes),
                Field(data_ids.durations),
                Field(data_ids.torque_empty_vals),
                Field(data_ids.thrust_empty_vals),
            ]
        )

    def part_id(self, kind: str, payload: bytes) -> str | None:
        """The hole's id in a message; None for Heads that don't tell it.

        Usually found without parsing, also in a message that was cut behind it. Should a gateway
        send a key twice in one message, the first counts here.

        Raises:
            ReadError: there is no usable id; the sentence names kind and cause.
        """
        label = _LABELS.get(kind)
        if label is None:
            raise ReadError(f"{kind}: there is no such kind of message")
        self._check_size(label, payload)
        try:
            return self._id(kind, payload)
        except ReadError as error:
            raise ReadError(f"{label}: {error}") from error

    def read_hole(self, parts: Mapping[str, bytes]) -> Hole:
        """The hole of a Result and a Trace.

        Raises:
            ReadError: the sentence names kind and cause. Nothing else is ever raised.
        """
        result = self._parse(self._message(RESULT, parts))
        columns = self._columns.read(self._message(TRACE, parts))
        return Hole(
            position_mm=columns.position_mm,
            torque_a=columns.torque_a,
            thrust_a=columns.thrust_a,
            step_number=columns.step_number,
            steps=self._steps(result),
            sample_rate_hz=_rate_hz(columns.rate),
        )

    def describe(self, parts: Mapping[str, bytes]) -> dict[str, str | None]:
        """SourceTimestamp, MachineId and HeadId as far as readable, else None. Never raises."""
        stamps = (_timestamp(parts[kind]) for kind in (RESULT, TRACE, HEADS) if kind in parts)
        return {
            "SourceTimestamp": next((stamp for stamp in stamps if stamp), None),
            "MachineId": self._told(parts.get(RESULT), self._machine_id),
            "HeadId": self._told(parts.get(HEADS), self._head_id),
        }

    def _id(self, kind: str, payload: bytes) -> str | None:
        value = _value(payload, self._ids[kind])
        if kind == HEADS:
            return self._text(value)  # without a counter, Heads binds by order of arrival
        if value is ABSENT:
            raise ReadError(f"the field {self._ids[kind][0].path} is missing")
        return canonical_id(value, max_chars=self._limits.id_chars)

    def _told(self, payload: bytes | None, field: Field) -> str | None:
        if payload is None or len(payload) > self._limits.message_bytes:
            return None
        try:
            is_small = len(payload) <= SMALL_BYTES
            return self._text(_value(payload, (field,)) if is_small else field.peek(payload))
        except ReadError:
            return None

    def _text(self, value: Any) -> str | None:
        """An id that is only a help: None where it is missing or odd."""
        try:
            return canonical_id(value, max_chars=self._limits.id_chars)
        except ReadError:
            return None

    def _check_size(self, label: str, payload: bytes) -> None:
        if len(payload) > self._limits.message_bytes:
            raise ReadError(
                f"{label}: the message is {len(payload)} bytes,"
                f" more than limits.message_bytes ({self._limits.message_bytes})"
            )

    def _message(self, kind: str, parts: Mapping[str, bytes]) -> bytes:
        if kind not in parts:
            raise ReadError(f"{_LABELS[kind]}: the message is missing")
        self._check_size(_LABELS[kind], parts[kind])
        return parts[kind]

    @staticmethod
    def _parse(result: bytes) -> dict[str, Any]:
        try:
            return parse(result)
        except ReadError as error:
            raise ReadError(f"{_LABELS[RESULT]}: {error}") from error

    def _steps(self, result: dict[str, Any]) -> tuple[Step, ...]:
        numbers, *columns = map(_listed, self._steps_told.of(result))
        steps = (
            _step(
                number, [_number(column[i]) if i < len(column) else math.nan for column in columns]
            )
            for i, number in enumerate(numbers)
        )
        return tuple(step for step in steps if step is not None)


def _value(payload: bytes, fields: tuple[Field, ...]) -> Any:
    """The value of the first of these fields: peeked at, else parsed, else salvaged; or ABSENT.

    Raises:
        ReadError: the message isn't JSON, and none of them survived.
    """
    for field in fields:
        value = field.peek(payload)
        if value is not ABSENT:
            return value
    try:
        parsed = parse(payload)
    except ReadError:
        value = _first(field.salvage(payload) for field in fields)
        if value is ABSENT:
            raise
        return value
    return _first(field.of(parsed) for field in fields)


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not ABSENT), ABSENT)


def _rate_hz(value: object) -> float:
    # The field is called an interval, but 100 in it means 100 Hz.
    rate_hz = _number(value)
    return rate_hz if 0.0 < rate_hz <= MAX_RATE_HZ else DEFAULT_RATE_HZ


def _listed(value: Any) -> list[Any]:
    """A Result's value by step: a list, or the bare value of a hole with a single step."""
    if value is ABSENT or value is None:
        return []
    return value[:MAX_STEPS] if isinstance(value, list) else [value]


def _number(value: object) -> float:
    """A finite number, also one written as text; else NaN."""
    if type(value) is float:  # nearly always
        return value if math.isfinite(value) else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        number = float(value)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def _step(number: object, values: list[float]) -> Step | None:
    """One step from its number and stop code, duration, torque and thrust; None without number."""
    step_number = _number(number)
    if not (_INT16_MIN <= step_number <= _INT16_MAX and step_number == round(step_number)):
        return None
    stop_code, duration_s, torque_empty_a, thrust_empty_a = values
    return Step(
        number=int(step_number),
        stop_code=int(stop_code) if stop_code.is_integer() else None,
        duration_s=duration_s,
        torque_empty_a=torque_empty_a,
        thrust_empty_a=thrust_empty_a,
    )


def _timestamp(payload: bytes) -> str | None:
    match = _TIMESTAMP.search(payload)
    return match[1].decode("ascii") if match else None
