"""The columns of a Trace: its lists by sample, checked and as arrays.

Owns what makes such a list unreadable, with one sentence for each cause. There are two ways: a
quick one for what gateways write, and an exact one for everything else. The quick one only ever
finds the columns that the exact one would find, and never tells what is wrong.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from farm.drilling.fields import ABSENT, Field, Fields, json_type, parse
from farm.drilling.lists import CutMessage, ListReader, cut, digits, is_nulls, list_reader
from farm.errors import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.config import DataIdsConfig, LimitsConfig
    from farm.drilling.hole import FloatArray

_NUMBERS = frozenset((int, float))
_INT16 = np.iinfo(np.int16)
_STEP: Final = "step"


@dataclass(frozen=True, slots=True)
class Columns:
    """What a Trace tells of each sample, and how often it was sampled.

    Attributes:
        position_mm: (n,) |position| of the tip, n >= 1; finite, as the next two are.
        torque_a: (n,) torque motor current relative to no-load, in ampere.
        thrust_a: (n,) thrust motor current relative to no-load, in ampere.
        step_number: (n,) the program step of each sample.
        rate: the Trace's SamplingInterval as it came, or `fields.ABSENT`.
    """

    position_mm: FloatArray
    torque_a: FloatArray
    thrust_a: FloatArray
    step_number: NDArray[np.int16]
    rate: Any


class ColumnReader:
    """Reads the columns of a Trace, as the configuration names their fields."""

    def __init__(
        self, data_ids: DataIdsConfig, limits: LimitsConfig, lists: ListReader | None = None
    ) -> None:
        self._max_samples = limits.samples
        self._lists = list_reader() if lists is None else lists
        self._fields = {  # in the order of `Columns`
            "position": Field(data_ids.position),
            "torque": Field(data_ids.torque),
            "thrust": Field(data_ids.thrust),
            _STEP: Field(data_ids.step),
        }
        self._rate = Field(_beside(self._fields["position"].path, "SamplingInterval"))
        self._all = Fields([*self._fields.values(), self._rate])

    def read(self, trace: bytes) -> Columns:
        """The columns of a raw Trace.

        Raises:
            ReadError: the sentence names the cause.
        """
        with suppress(ReadError):
            return self._quick(trace)
        return self._exact(trace)

    def _quick(self, trace: bytes) -> Columns:
        """Takes the lists out of the raw bytes, and parses only what is left of the message."""
        message = cut(trace)
        *values, rate = self._all.of(parse(message.rest))
        marks = [message.mark_of(value) for value in values]
        self._check_others(message, marks)
        *measured, steps = (message.lists[mark] for mark in marks)
        step_number = self._quick_steps(steps)
        samples = len(step_number)
        if not 0 < samples <= self._max_samples:
            raise ReadError("there are too few or too many samples")
        block = np.empty((len(measured), samples), dtype=np.float32)
        with np.errstate(over="ignore"):
            for row, raw in zip(block, measured, strict=True):
                numbers = self._lists.numbers(raw)
                if len(numbers) != samples:  # NumPy would repeat a single one
                    raise ReadError("the lists differ in length")
                row[:] = numbers
        if not np.isfinite(block).all():
            raise ReadError("a number is too big for float32")
        position, torque_a, thrust_a = block
        position_mm = np.abs(position, out=position)
        return Columns(position_mm, torque_a, thrust_a, step_number, rate)

    def _quick_steps(self, raw: bytes) -> NDArray[np.int16]:
        numbers = digits(raw)
        if numbers is not None:
            return numbers.astype(np.int16)
        with np.errstate(over="ignore"):
            column = self._lists.numbers(raw).astype(np.float32)
        if not np.isfinite(column).all():
            raise ReadError("a number is too big for float32")
        return _step_numbers(column)

    def _check_others(self, message: CutMessage, marks: list[str]) -> None:
        """Refuses a message that isn't JSON in a list that nobody needs."""
        for mark, raw in message.lists.items():
            if mark not in marks and not is_nulls(raw):
                self._lists.check(raw)

    def _exact(self, trace: bytes) -> Columns:
        try:
            fields = parse(trace)
        except ReadError as error:
            raise ReadError(f"Trace: {error}") from error
        columns = {
            name: self._column(name, field.of(fields)) for name, field in self._fields.items()
        }
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise ReadError(f"Trace: the lists differ in length ({told})")
        return Columns(
            position_mm=np.abs(columns["position"]),
            torque_a=columns["torque"],
            thrust_a=columns["thrust"],
            step_number=_step_numbers(columns[_STEP]),
            rate=self._rate.of(fields),
        )

    def _column(self, name: str, values: Any) -> FloatArray:
        if values is ABSENT:
            raise ReadError(f"Trace: {name} is missing")
        if not isinstance(values, list):
            raise ReadError(f"Trace: {name} is {json_type(values)}, not a list")
        if not values:
            raise ReadError(f"Trace: {name} is empty")
        if len(values) > self._max_samples:
            raise ReadError(
                f"Trace: {name} has {len(values)} samples,"
                f" more than limits.samples ({self._max_samples})"
            )
        return _float32(name, values)


def _beside(path: str, name: str) -> str:
    """The path of a trace's own property, next to its values."""
    trace, separator, _ = path.partition(".StepTraceContent")
    return f"{trace if separator else path.rpartition('.')[0]}.{name}"


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
