"""The tolerant reader of the units' OPC UA PubSub JSON: ids, provenance, and the hole itself.

Owns what differs between gateways and what makes a message unreadable; every such cause is a
`ReadError` with one sentence, fit to be published. Topics are `farm.drilling.adapter`'s.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from farm.drilling.fields import ABSENT, Field, canonical_id, json_type, parse
from farm.drilling.hole import FloatArray, Hole, Step
from farm.errors import ReadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from farm.config import DataIdsConfig, LimitsConfig

__all__ = ["HEADS", "RESULT", "TRACE", "OpcUaReader", "canonical_id"]

RESULT: Final = "result"
TRACE: Final = "trace"
HEADS: Final = "heads"

DEFAULT_RATE_HZ: Final = 100.0  # every unit seen so far
MAX_RATE_HZ: Final = 100_000.0  # no motor current is sampled faster: what is above is a mistake
MAX_STEPS: Final = 256  # a program has up to 8; bounds what a broken Result makes us build
SMALL_BYTES: Final = 64_000  # up to here a whole parse for provenance costs less than 0.1 ms

_LABELS = {RESULT: "Result", TRACE: "Trace", HEADS: "Heads"}
_NUMBERS = frozenset((int, float))
_INT16 = np.iinfo(np.int16)
_TIMESTAMP = re.compile(
    rb'"SourceTimestamp"[ \t\r\n]{0,200}:[ \t\r\n]{0,200}"([0-9A-Za-z:.+-]{1,40})"'
)


class OpcUaReader:
    """Reads ids, provenance and holes from raw messages, as the configuration names the fields."""

    def __init__(self, data_ids: DataIdsConfig, limits: LimitsConfig) -> None:
        self._limits = limits
        self._ids = {
            RESULT: (Field(data_ids.result_id),),
            TRACE: (Field(data_ids.trace_result_id), Field(data_ids.result_id)),
            HEADS: (Field(data_ids.head_cycle),),
        }
        self._machine_id = Field(data_ids.machine_id)
        self._head_id = Field(data_ids.head_id)
        self._position = Field(data_ids.position)
        self._torque = Field(data_ids.torque)
        self._thrust = Field(data_ids.thrust)
        self._step = Field(data_ids.step)
        self._rate = Field(_beside(self._position.path, "SamplingInterval"))
        self._step_numbers = Field(data_ids.step_vals)
        self._stop_codes = Field(data_ids.stop_codes)
        self._durations = Field(data_ids.durations)
        self._torque_empty = Field(data_ids.torque_empty_vals)
        self._thrust_empty = Field(data_ids.thrust_empty_vals)

    def part_id(self, kind: str, payload: bytes) -> str | None:
        """The hole's id in a message; None for Heads that don't tell it.

        Usually found without parsing, also in a message that was cut behind it. Should a gateway
        send a key twice in one message, the first counts here.

        Raises:
            ReadError: there is no usable id; the sentence names kind and cause.
        """
        label = _LABELS.get(kind, kind)
        if kind not in _LABELS:
            raise ReadError(f"{label}: there is no such kind of message")
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
        result = self._parse(RESULT, parts)
        trace = self._parse(TRACE, parts)
        columns = {
            "position": self._column(trace, "position", self._position),
            "torque": self._column(trace, "torque", self._torque),
            "thrust": self._column(trace, "thrust", self._thrust),
            "step": self._column(trace, "step", self._step),
        }
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ReadError(f"Trace: the lists differ in length ({told})")
        return Hole(
            position_mm=np.abs(columns["position"]),
            torque_a=columns["torque"],
            thrust_a=columns["thrust"],
            step_number=_step_numbers(columns["step"]),
            steps=self._steps(result),
            sample_rate_hz=_rate_hz(self._rate.of(trace)),
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

    def _parse(self, kind: str, parts: Mapping[str, bytes]) -> dict[str, Any]:
        label = _LABELS[kind]
        if kind not in parts:
            raise ReadError(f"{label}: the message is missing")
        self._check_size(label, parts[kind])
        try:
            return parse(parts[kind])
        except ReadError as error:
            raise ReadError(f"{label}: {error}") from error

    def _column(self, trace: dict[str, Any], name: str, field: Field) -> FloatArray:
        values = field.of(trace)
        if values is ABSENT:
            raise ReadError(f"Trace: {name} is missing")
        if not isinstance(values, list):
            raise ReadError(f"Trace: {name} is {json_type(values)}, not a list")
        if not values:
            raise ReadError(f"Trace: {name} is empty")
        if len(values) > self._limits.samples:
            raise ReadError(
                f"Trace: {name} has {len(values)} samples,"
                f" more than limits.samples ({self._limits.samples})"
            )
        return _float32(name, values)

    def _steps(self, result: dict[str, Any]) -> tuple[Step, ...]:
        numbers = _listed(self._step_numbers.of(result))
        columns = [
            _listed(field.of(result))
            for field in (
                self._stop_codes, self._durations, self._torque_empty, self._thrust_empty
            )
        ]  # fmt: skip
        steps = (
            _step(
                number, [_number(column[i]) if i < len(column) else math.nan for column in columns]
            )
            for i, number in enumerate(numbers)
        )
        return tuple(step for step in steps if step is not None)


def _beside(path: str, name: str) -> str:
    """The path of a trace's own property, next to its values."""
    trace, separator, _ = path.partition(".StepTraceContent")
    return f"{trace if separator else path.rpartition('.')[0]}.{name}"


def _value(payload: bytes, fields: tuple[Field, ...]) -> Any:
    """The value of the first of these fields: peeked at, else parsed, else salvaged; or ABSENT.

    Raises:
        ReadError: the message isn't JSON, and none of them survived.
    """
    value = _first(field.peek(payload) for field in fields)
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


def _float32(name: str, values: list[Any]) -> FloatArray:
    # Types first: NumPy would take "1.5", null and true for numbers without a word.
    if not _NUMBERS.issuperset(map(type, values)):
        at, value = next((i, v) for i, v in enumerate(values) if type(v) not in _NUMBERS)
        raise ReadError(f"Trace: {name} holds {json_type(value)} at sample {at}")
    with np.errstate(over="ignore"):
        column = np.array(values, dtype=np.float32)
    finite = np.isfinite(column)
    if not finite.all():
        at = int(np.argmin(finite))
        raise ReadError(f"Trace: {name} holds a number too big for float32 at sample {at}")
    return column


def _step_numbers(column: FloatArray) -> NDArray[np.int16]:
    whole = np.rint(column)
    odd = (np.abs(whole - column) > 1e-3) | (whole < _INT16.min) | (whole > _INT16.max)
    if odd.any():
        at = int(np.argmax(odd))
        raise ReadError(f"Trace: step holds {float(column[at]):g} at sample {at}, no step number")
    return whole.astype(np.int16)


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
    if not (_INT16.min <= step_number <= _INT16.max and step_number == round(step_number)):
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
