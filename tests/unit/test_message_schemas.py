"""docs/schemas fits what units send and what is published, and refuses what the reader refuses."""

import functools
import itertools
import json

import jsonschema
import orjson
import pytest
from command_lines import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.adapter import Finished, Route, Status, Terminal
from farm.broker.mqtt import _status
from farm.broker.notices import DeadLetterNotices
from farm.clock import WallClock
from farm.config import Config, MqttConfig
from farm.drilling.adapter import OpcUaAdapter
from farm.drilling.confidence import Confidence
from farm.drilling.formatter import ResultMessageFormatter
from farm.errors import ReadError
from farm.simulation.drilled import Recipe, drill
from farm.simulation.gateway import STYLES

FOLDER = ROOT / "docs" / "schemas"
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
PROGRAMS = ("MDB", "AL", "V8")
ADAPTER = OpcUaAdapter(Config())


def validate(name, payload):
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(orjson.loads(payload))


@functools.cache
def parts_of(style, program="V8", *, single_step=False):
    messages = drill(Recipe(program, style, single_step), seed=11).messages
    parts = {"result": messages.result, "trace": messages.trace}
    return parts | ({"heads": messages.heads} if messages.heads is not None else {})


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one(name):
    # prevents: a slip in a schema, by which it lets everything through
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    assert f"schemas/{name}.json" in (FOLDER.parent / "messages.md").read_text()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("style", STYLES)
def test_what_units_of_every_style_send_fits(style, program):
    # prevents: a schema that calls honest units wrong
    for kind, payload in parts_of(style, program).items():
        validate(kind, payload)
    for kind, payload in parts_of(style, single_step=True).items():
        validate(kind, payload)


def _without(payload, ending):
    message = orjson.loads(payload)
    fields = message["Messages"]["Payload"]
    kept = {
        key: value
        for key, value in fields.items()
        if not key.removesuffix(".MeasuredValue").endswith(ending)
    }
    assert kept != fields
    message["Messages"]["Payload"] = kept
    return orjson.dumps(message)


def _with(payload, ending, value):
    message = orjson.loads(payload)
    fields = message["Messages"]["Payload"]
    keys = [key for key in fields if key.removesuffix(".MeasuredValue").endswith(ending)]
    assert keys
    for key in keys:
        fields[key] = {"Value": value}
    return orjson.dumps(message)


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("result", lambda p: _without(p, "ResultId")),
        ("result", lambda p: _with(p, "ResultId", None)),
        ("result", lambda p: _with(p, "ResultId", "  ")),
        ("result", lambda p: _with(p, "ResultId", True)),
        ("result", lambda _: b'{"Messages": {"Payload": {}}}'),
        ("result", lambda _: b"[1]"),
        ("trace", lambda p: _without(p, "StepResultId")),
        ("trace", lambda p: _without(p, "PositionTrace.StepTraceContent[0].Values")),
        ("trace", lambda p: _with(p, "TorqueTrace.StepTraceContent[0].Values", [])),
        ("trace", lambda p: _with(p, "TorqueTrace.StepTraceContent[0].Values", 7)),
        ("trace", lambda p: _with(p, "ThrustTrace.StepTraceContent[0].Values", [1.0, None])),
        ("trace", lambda p: _with(p, "StepNumberTrace.StepTraceContent[0].Values", [0, 40_000])),
        ("trace", lambda p: _with(p, "StepNumberTrace.StepTraceContent[0].Values", [0, 1.5])),
        ("trace", lambda p: _with(p, "TorqueTrace.StepTraceContent[0].Values", [1.0, 1e308])),
        ("trace", lambda p: _with(p, "PositionTrace.StepTraceContent[0].Values", [1.0, -1e39])),
        ("result", lambda p: _with(p, "ResultId", "4" * 129)),
        ("result", lambda p: _with(p, "ResultId", 1e200)),
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_what_the_reader_refuses_does_not_fit(style, kind, spoil):
    # prevents: a gateway that is built against the schema, and refused here
    parts = parts_of(style)
    spoilt = spoil(parts[kind])
    with pytest.raises(jsonschema.ValidationError):
        validate(kind, spoilt)
    with pytest.raises(ReadError):
        _read(parts | {kind: spoilt})


BY_STEP = ("StepNumber", "StopCode", "Duration", "IntensityTorqueEmpty", "IntensityThrustEmpty")


def _at(payload, stamp):
    message = orjson.loads(payload)
    message["Messages"]["Timestamp"] = stamp
    return orjson.dumps(message)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *(
            (kind, functools.partial(_at, stamp=s))
            for kind in ("result", "trace")
            for s in (None, 7)
        ),
        *(
            ("result", functools.partial(_with, ending=name, value=value))
            for name in BY_STEP
            for value in ({"a": 1}, [{"a": 1}], None)
        ),
        ("result", functools.partial(_with, ending="ResultId", value=" " + "4" * 128 + " ")),
        ("trace", functools.partial(_with, ending="StepResultId", value=440.0)),
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_what_the_reader_takes_fits(style, kind, change):
    # prevents: a unit that is called wrong by the schema, and has always been understood
    parts = parts_of(style)
    changed = change(parts[kind])
    validate(kind, changed)
    assert len(_read(parts | {kind: changed})) > 0


def _read(parts):
    for kind, payload in parts.items():
        ADAPTER.part_id(kind, payload)
    return ADAPTER.read(parts)


@pytest.mark.parametrize("style", STYLES)
def test_a_hole_that_reads_has_parts_that_fit(style):
    # prevents: both sides of the test above refusing everything
    parts = parts_of(style)
    assert len(_read(parts)) > 0
    listed = orjson.loads(parts["result"])
    listed["Messages"] = [listed["Messages"]]
    validate("result", orjson.dumps(listed))
    assert ADAPTER.part_id("result", orjson.dumps(listed))


TEXTS = st.one_of(st.none(), st.text(max_size=400))


@settings(max_examples=60, deadline=None)
@given(reason=st.text(max_size=400), stamp=TEXTS, machine=TEXTS, version=st.text(max_size=40))
def test_every_answer_in_words_fits(reason, stamp, machine, version):
    # prevents: a consumer that is built against the schema, and stumbles at the first bad hole
    provenance = {"SourceTimestamp": stamp, "MachineId": machine, "HeadId": None}
    hole = Finished("box/unit", "440", Status.FAILED, None, reason, provenance, version, "")
    formatter = ResultMessageFormatter(MqttConfig())
    keypoints, depths = formatter.error(hole, reason)
    validate("key-points", keypoints.payload)
    validate("depth-estimation", depths.payload)
    for kind in ("result", "trace", "heads"):
        [error] = formatter.rejection(Route(kind, "box/unit"), reason)
        validate("errors", error.payload)


@pytest.mark.parametrize("is_confident", [True, False])
@pytest.mark.parametrize("keypoints_mm", [(1.0, 4.0, 9.5), (1.0, 9.5)])
def test_every_answer_in_numbers_fits(keypoints_mm, is_confident):
    # prevents: the same for holes that are well
    formatter = ResultMessageFormatter(
        MqttConfig.model_validate({"estimation": {"confidence": is_confident}})
    )
    hole = Finished("box/unit", "440", Status.OK, None, "", {}, "net-1", "3f9a")
    steps = itertools.pairwise(keypoints_mm)
    depths_mm = tuple(after - before for before, after in steps)
    confidence = Confidence(
        sigma_mm=tuple(0.1 for _ in keypoints_mm), quality=0.9, tip_mm=keypoints_mm
    )
    for warning in ("", "Negative depth"):
        keypoints, depths = formatter.depths(
            hole,
            keypoints_mm=keypoints_mm,
            depths_mm=depths_mm,
            confidence=confidence,
            warning=warning,
        )
        validate("key-points", keypoints.payload)
        validate("depth-estimation", depths.payload)


def test_the_farms_own_news_fit():
    # prevents: a watcher of the site that can't read a dead letter
    notices = DeadLetterNotices("plant", WallClock(), is_publishing=True)
    hole = Finished("box/unit", "440", Status.FAILED, None, "It is broken", {}, "", "")
    [told] = notices.of(12345, hole, Terminal.DEAD, 0.0)
    validate("dead", told.payload)
    for state in ("online", "offline"):
        validate("status", _status(state))


def test_an_error_with_numbers_or_numbers_with_an_error_do_not_fit():
    # prevents: a schema that lets an answer through which is none
    [keypoints, _] = ResultMessageFormatter(MqttConfig()).error(
        Finished("box/unit", "440", Status.FAILED, None, "x", {}, "", ""), "x"
    )
    body = orjson.loads(keypoints.payload)
    for wrong in (body | {"Value": [1.0, 2.0]}, {k: v for k, v in body.items() if k != "Error"}):
        with pytest.raises(jsonschema.ValidationError):
            validate("key-points", orjson.dumps(wrong))
