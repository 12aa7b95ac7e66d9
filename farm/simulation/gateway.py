"""Writes a hole as the three OPC UA PubSub messages that a drilling unit's gateway publishes.

Owns the styles of the gateways seen in the field and the topics they publish on. Knows nothing of
MQTT connections, and nothing of how `farm` reads what it writes.

The envelope is OPC UA Part 14 (PubSub), JSON mapping, with one object for `Messages`, as these
gateways write it.
"""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from farm.drilling.hole import Hole

ROOT = "OPCPUBSUB"
RESULT = "ResultManagement"
TRACE = "ResultManagement/Trace"
HEADS = "AssetManagement/Heads"

# A neutral host: readers must find a field by its path, whatever the namespace is called.
NAMESPACE_HOST = "http://example.com/IJT"
# The machine withdraws after the last step; the reported cycle includes it.
RETRACT_S = 4.4
# The machines report mm, A and s with three decimals.
DECIMALS = 3


@dataclass(frozen=True, slots=True)
class GatewayStyle:
    """What differs between gateways.

    Attributes:
        name: year and month of the first gateway of this style.
        trace_space: the last part of the namespace in Trace; Result and Heads use ADrilling.
        value_suffix: ends the path of every measured value of the Result.
        text_ids: ResultId, StepResultId and InternalRecipeId are strings, not ints.
        number_serial: the motor's SerialNumber is an int where it is made of digits.
        evaluations: ResultEvaluation of a good and of a bad hole.
        has_power: PowerTrace carries values.
        has_heads: a Heads message is published.
        null_gap: the gap is not measured: GapLengthTrace is all null.
        writer_is_tool: DataSetWriterId is the tool's name, not the number 1.
        head_name: DefaultInstanceBrowseName of the head, a string or an int.
    """

    name: str
    trace_space: str = "ADrilling"
    value_suffix: str = ""
    text_ids: bool = False
    number_serial: bool = False
    evaluations: tuple[bool | str, bool | str] = ("Ok", "NotOk")
    has_power: bool = True
    has_heads: bool = True
    null_gap: bool = False
    writer_is_tool: bool = False
    head_name: str | int = "HEAD-07"


STYLES = {
    style.name: style
    for style in (
        GatewayStyle(
            name="2024-12",
            trace_space="AFastening",
            number_serial=True,
            evaluations=(True, False),
            has_power=False,
            has_heads=False,
        ),
        GatewayStyle(name="2025-03"),
        GatewayStyle(
            name="2025-06",
            value_suffix=".MeasuredValue",
            text_ids=True,
            evaluations=("OK", "NotOK"),
            null_gap=True,
            writer_is_tool=True,
            head_name=7,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class HoleMessages:
    """The raw messages of one hole."""

    result: bytes
    trace: bytes
    heads: bytes | None

    def parts(self) -> tuple[tuple[str, bytes], ...]:
        """Each message with the tail of its topic, in the order that gateways publish them."""
        found = ((RESULT, self.result), (TRACE, self.trace), (HEADS, self.heads))
        return tuple((tail, raw) for tail, raw in found if raw is not None)


def topic(tail: str, *, toolbox: str, tool: str, root: str = ROOT) -> str:
    """The MQTT topic of one message of a tool."""
    return f"{root}/{toolbox}/{tool}/{tail}"


@dataclass(frozen=True, slots=True)
class _Origin:
    """What is the same on the messages of one hole."""

    style: GatewayStyle
    toolbox: str
    tool: str
    result_id: int
    timestamp: datetime

    @property
    def written_id(self) -> int | str:
        return str(self.result_id) if self.style.text_ids else self.result_id

    def message(self, kind_number: int, space: str, fields: dict[str, Any]) -> bytes:
        """One message from its values by path."""
        when = self.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ")
        prefix = f"nsu={NAMESPACE_HOST}/{space};s=Objects.DeviceSet.{self.tool}."
        name = f"{self.toolbox}/{self.tool}/{self.result_id}/{when}/{kind_number}"
        envelope = {
            # Named by what it is about: equal holes give equal bytes, and samples can be rewritten.
            "MessageId": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
            "MessageType": "ua-data",
            "PublisherId": self.toolbox,
            "Messages": {
                "DataSetWriterId": self.tool if self.style.writer_is_tool else 1,
                "SequenceNumber": int(self.timestamp.timestamp() * 1000) + kind_number,
                "Timestamp": when,
                "MessageType": "ua-keyframe",
                "Payload": {
                    prefix + path: {"Value": value, "SourceTimestamp": when}
                    for path, value in fields.items()
                },
            },
        }
        return json.dumps(envelope, separators=(",", ":"), allow_nan=False).encode()


def messages(
    hole: Hole,
    *,
    power_w: NDArray[np.floating[Any]] | None,
    style: GatewayStyle,
    toolbox: str,
    tool: str,
    result_id: int,
    head_id: str,
    machine_id: str,
    timestamp: datetime,
    recipe_id: int = 0,
    good: bool = True,
) -> HoleMessages:
    """The messages of a hole as a gateway of this style writes them.

    Args:
        hole: the samples and the machine's report of each step.
        power_w: (n,) motor power, or None when it was not recorded.
        style: one of `STYLES`, or a variation of one.
        toolbox: names the gateway.
        tool: names the drilling unit.
        result_id: the number of the hole, counted by the head.
        head_id: serial number of the head.
        machine_id: serial number of the motor.
        timestamp: the gateway's clock (UTC), which is not to be trusted.
        recipe_id: the number of the drilling program.
        good: the machine's own evaluation.
    """
    origin = _Origin(style, toolbox, tool, result_id, timestamp)
    result = _result_fields(hole, origin, machine_id=machine_id, recipe_id=recipe_id, good=good)
    heads = origin.message(2, "ADrilling", _heads_fields(origin, head_id))
    return HoleMessages(
        result=origin.message(0, "ADrilling", result),
        trace=origin.message(1, style.trace_space, _trace_fields(hole, origin, power_w)),
        heads=heads if style.has_heads else None,
    )


def _result_fields(
    hole: Hole, origin: _Origin, *, machine_id: str, recipe_id: int, good: bool
) -> dict[str, Any]:
    style = origin.style
    numeric_serial = style.number_serial and machine_id.isdigit()
    meta = {
        "CreationTime": origin.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "SerialNumber": int(machine_id) if numeric_serial else machine_id,
        "InternalRecipeType": "Standard",
        "InternalRecipeId": str(recipe_id) if style.text_ids else recipe_id,
        "InternalRecipeVersion": 9,
        "ResultId": origin.written_id,
        "ResultEvaluation": style.evaluations[0 if good else 1],
        "Distance": _number(float(hole.position_mm[0])),
    }
    cycle_s = float(np.nansum([step.duration_s for step in hole.steps])) + RETRACT_S
    content: dict[str, Any] = {"OverallResultValues.CycleTime": _number(cycle_s)}
    for name, values in _step_columns(hole).items():
        # A gateway unwraps a list of one step into a scalar.
        content[f"StepResults.0.StepResultValues.{name}"] = (
            values[0] if len(values) == 1 else values
        )
    fields = {f"ResultMetaData.{name}": value for name, value in meta.items()}
    fields |= {f"ResultContent.{p}{style.value_suffix}": value for p, value in content.items()}
    return {f"ResultManagement.Results.0.{path}": value for path, value in fields.items()}


def _step_columns(hole: Hole) -> dict[str, list[Any]]:
    """What the machine reports of each step, by name: one entry per step."""
    samples = [hole.step_number == step.number for step in hole.steps]
    return {
        "StepNumber": [step.number for step in hole.steps],
        "StopCode": [step.stop_code for step in hole.steps],
        "Duration": [_number(step.duration_s) for step in hole.steps],
        "IntensityTorqueEmpty": [_number(step.torque_empty_a) for step in hole.steps],
        "IntensityThrustEmpty": [_number(step.thrust_empty_a) for step in hole.steps],
        "M1MaxAmperage": [_peak(hole.torque_a[chosen]) for chosen in samples],
        "M2MaxAmperage": [_peak(hole.thrust_a[chosen]) for chosen in samples],
        "M1Distance": [0 for _ in hole.steps],
        "M2Distance": [_stroke(hole.position_mm[chosen]) for chosen in samples],
        "GapMax": [0 for _ in hole.steps],
    }


def _trace_fields(
    hole: Hole, origin: _Origin, power_w: NDArray[np.floating[Any]] | None
) -> dict[str, Any]:
    style = origin.style
    columns: dict[str, Sequence[Any] | None] = {
        "PositionTrace": _numbers(-hole.position_mm),  # negative going forward
        "IntensityTorqueTrace": _numbers(hole.torque_a),
        "IntensityThrustTrace": _numbers(hole.thrust_a),
        "StepNumberTrace": [int(number) for number in hole.step_number],
        "PowerTrace": None,
        "GapLengthTrace": [None if style.null_gap else 0] * len(hole),
    }
    if style.has_power and power_w is not None:
        columns["PowerTrace"] = [round(float(watts)) for watts in power_w]
    fields: dict[str, Any] = {}
    for name, values in columns.items():
        path = f"ResultManagement.Results.0.ResultContent.Trace.StepTraces.{name}"
        fields[f"{path}.StepResultId"] = origin.written_id
        fields[f"{path}.SamplingInterval"] = round(hole.sample_rate_hz)  # means Hz, says interval
        if values is not None:
            fields[f"{path}.StepTraceContent[0].Values"] = values
    return fields


def _heads_fields(origin: _Origin, head_id: str) -> dict[str, Any]:
    path = "AssetManagement.Assets.Heads.0"
    return {
        f"{path}.Identification.Model": "Concentric Collet",
        f"{path}.Identification.DefaultInstanceBrowseName": origin.style.head_name,
        f"{path}.Identification.SerialNumber": head_id,
        f"{path}.LifetimeCounters.0.LifeTimeCycleCounter": origin.result_id,
    }


def _number(value: float) -> int | float | None:
    """A number as the gateways write it: rounded, whole ones without a point, NaN as null."""
    if math.isnan(value):
        return None
    rounded = round(value, DECIMALS)
    return int(rounded) if rounded.is_integer() else rounded


def _numbers(values: NDArray[np.float32]) -> list[int | float | None]:
    return [_number(value) for value in values.astype(np.float64).tolist()]


def _peak(values: NDArray[np.float32]) -> int | float | None:
    return _number(float(values.max())) if len(values) else 0


def _stroke(position_mm: NDArray[np.float32]) -> int | float | None:
    return _number(float(position_mm.max() - position_mm.min())) if len(position_mm) else 0
