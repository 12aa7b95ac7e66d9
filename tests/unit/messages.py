"""Builds the units' messages in the styles of the gateways, from made-up numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

RESULT = "ResultManagement.Results.0"
STEPS = f"{RESULT}.ResultContent.StepResults.0.StepResultValues"
TRACES = f"{RESULT}.ResultContent.Trace.StepTraces"
HEAD = "AssetManagement.Assets.Heads.0"
STAMP = "2031-05-06T07:08:09Z"

RESULT_ID = f"{RESULT}.ResultMetaData.ResultId"
TRACE_ID = f"{TRACES}.PositionTrace.StepResultId"
HEAD_CYCLE = f"{HEAD}.LifetimeCounters.0.LifeTimeCycleCounter"
POSITION = f"{TRACES}.PositionTrace.StepTraceContent[0].Values"
TORQUE = f"{TRACES}.IntensityTorqueTrace.StepTraceContent[0].Values"
THRUST = f"{TRACES}.IntensityThrustTrace.StepTraceContent[0].Values"
STEP = f"{TRACES}.StepNumberTrace.StepTraceContent[0].Values"
RATE = f"{TRACES}.PositionTrace.SamplingInterval"


@dataclass(frozen=True)
class Gateway:
    """What one generation of gateways does in its own way."""

    name: str
    trace_namespace: str
    suffix: str
    id_is_text: bool
    evaluation: Any
    has_power: bool


GATEWAYS = (
    Gateway("2024-12", "AFastening", "", id_is_text=False, evaluation=True, has_power=False),
    Gateway("2025-03", "ADrilling", "", id_is_text=False, evaluation="Ok", has_power=True),
    Gateway(
        "2025-06", "ADrilling", ".MeasuredValue", id_is_text=True, evaluation="OK", has_power=True
    ),
)
PLAIN = GATEWAYS[1]


def envelope(
    fields: dict[str, Any],
    *,
    namespace: str = "ADrilling",
    tool: str = "UNIT-1",
    as_list: bool = False,
    stamp_first: bool = False,
    **dump: Any,
) -> bytes:
    """A whole message of these fields, by path with suffix; `dump` goes to json.dumps."""
    payload = {}
    for path, value in fields.items():
        entry = {"Value": value, "SourceTimestamp": STAMP}
        key = f"nsu=http://example.org/IJT/{namespace};s=Objects.DeviceSet.{tool}.{path}"
        payload[key] = dict(reversed(entry.items())) if stamp_first else entry
    data_set = {"DataSetWriterId": 1, "SequenceNumber": 7, "Timestamp": STAMP, "Payload": payload}
    message = {
        "MessageId": "00000000-0000-0000-0000-000000000000",
        "MessageType": "ua-data",
        "PublisherId": "box",
        "Messages": [data_set] if as_list else data_set,
    }
    dump.setdefault("separators", None if dump.get("indent") else (",", ":"))
    return json.dumps(message, **dump).encode("utf-8", "surrogatepass")


def result_fields(gateway: Gateway = PLAIN, *, result_id: int = 440, steps: int = 3) -> dict:
    """The fields of a Result; one step gives bare values instead of lists."""

    def by_step(values: list) -> Any:
        return values[0] if steps == 1 else values[:steps]

    suffix = gateway.suffix
    return {
        f"{RESULT}.ResultMetaData.CreationTime": STAMP,
        f"{RESULT}.ResultMetaData.SerialNumber": "M-17" if gateway.id_is_text else 17,
        f"{STEPS}.IntensityTorqueEmpty{suffix}": by_step([4.8, 2, 5.0]),
        f"{STEPS}.IntensityThrustEmpty{suffix}": by_step([0.2, 0.1, 0.2]),
        f"{STEPS}.StepNumber{suffix}": by_step([1, 2, 3]),
        f"{STEPS}.StopCode{suffix}": by_step([1, 2048, 8]),
        f"{STEPS}.Duration{suffix}": by_step([0.03, 0.02, 0.01]),
        f"{RESULT}.ResultContent.OverallResultValues.CycleTime{suffix}": 1.5,
        RESULT_ID: str(result_id) if gateway.id_is_text else result_id,
        f"{RESULT}.ResultMetaData.ResultEvaluation": gateway.evaluation,
    }


def trace_fields(gateway: Gateway = PLAIN, *, result_id: int = 440) -> dict:
    """The fields of a Trace of six samples: ints and floats mix, steps are floats, no gap known."""
    columns = {
        "PositionTrace": [-0.5, -1, -1.5, -2, -2.25, -3],
        "IntensityTorqueTrace": [0, 0.049, 1, 2.5, 1, -0.1],
        "IntensityThrustTrace": [0, 0, 0.1, 0.3, 0.2, 0],
        "StepNumberTrace": [1.0, 1, 1.0, 2.0, 2.0, 3.0],
        "PowerTrace": [100, 101, 102, 103, 104, 105],
        "GapLengthTrace": [None] * 6,
    }
    if not gateway.has_power:
        columns["PowerTrace"] = []
    fields: dict[str, Any] = {}
    for name, values in columns.items():
        fields[f"{TRACES}.{name}.StepResultId"] = (
            str(result_id) if gateway.id_is_text else result_id
        )
        fields[f"{TRACES}.{name}.SamplingInterval"] = 100
        if values:
            fields[f"{TRACES}.{name}.StepTraceContent[0].Values"] = values
    return fields


def heads_fields(*, cycle: Any = 440) -> dict:
    """The fields of a Heads message; cycle None leaves the counter out."""
    fields = {
        f"{HEAD}.Identification.DefaultInstanceBrowseName": 12,
        f"{HEAD}.Identification.SerialNumber": "E0-TEST",
        f"{HEAD}.LifetimeCounters.0.LifeTimeCycleCounter2": 9,
    }
    return fields if cycle is None else fields | {HEAD_CYCLE: cycle}


def parts(gateway: Gateway = PLAIN, *, steps: int = 3, **style: Any) -> dict[str, bytes]:
    """The three messages of one hole; `style` goes to `envelope`."""
    return {
        "result": envelope(result_fields(gateway, steps=steps), **style),
        "trace": envelope(trace_fields(gateway), namespace=gateway.trace_namespace, **style),
        "heads": envelope(heads_fields(), **style),
    }
