import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from messages import (
    GATEWAYS,
    HEAD_CYCLE,
    POSITION,
    RATE,
    RESULT,
    RESULT_ID,
    STAMP,
    STEP,
    STEPS,
    THRUST,
    TORQUE,
    TRACE_ID,
    envelope,
    heads_fields,
    parts,
    result_fields,
    trace_fields,
)

from farm.config import DataIdsConfig, LimitsConfig
from farm.drilling.fields import Field, Fields, bare_path, parse
from farm.drilling.hole import Step
from farm.drilling.opcua import OpcUaReader, canonical_id
from farm.errors import ReadError

LIMITS = LimitsConfig(message_bytes=100_000, samples=50, id_chars=20)
READER = OpcUaReader(DataIdsConfig(), LIMITS)
STYLES = {
    "bare": {},
    "indented": {"indent": 2},
    "timestamp first": {"stamp_first": True},
    "list of data sets": {"as_list": True},
    "tool with dots": {"tool": "A.B.ResultId.C"},
    "spaced": {"separators": (" , ", " : ")},
}


def trace_with(changes: dict) -> dict[str, bytes]:
    """A hole whose trace has other fields; None takes one out."""
    fields = {k: v for k, v in (trace_fields() | changes).items() if v is not None}
    return parts() | {"trace": envelope(fields)}


def result_with(changes: dict) -> dict[str, bytes]:
    fields = {k: v for k, v in (result_fields() | changes).items() if v is not None}
    return parts() | {"result": envelope(fields)}


# Ids: the two messages of a hole meet only if both spell their id alike.


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (440, "440"),
        (440.0, "440"),
        (-0.0, "0"),
        ("440", "440"),
        (" 440 ", "440"),
        (440.5, "440.5"),
        ("0440", "0440"),
        ("A/1 ü", "A/1 ü"),
        (10**19, "10000000000000000000"),
    ],
)
def test_ids_have_one_spelling(value, text):
    assert canonical_id(value, max_chars=20) == text


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (None, "null"),
        (True, "a boolean"),
        ([440], "a list"),
        ({"a": 1}, "an object"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        ("", "empty"),
        ("   ", "empty"),
        ("4\x0040", "printed"),
        ("440\n", "printed"),
        ("\ud800", "printed"),
        ("x" * 21, "longer than 20"),
        (1e300, "longer than 20"),
        pytest.param(-(10**5000), "longer than 20", id="5001 digits"),
    ],
)
def test_what_is_no_id_is_refused_with_its_cause(value, cause):
    with pytest.raises(ReadError, match=cause):
        canonical_id(value, max_chars=20)


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda g: g.name)
def test_every_gateway_is_read(gateway, style):
    messages = parts(gateway, **style)
    assert {READER.part_id(kind, payload) for kind, payload in messages.items()} == {"440"}
    hole = READER.read_hole(messages)
    np.testing.assert_array_equal(hole.position_mm, np.float32([0.5, 1, 1.5, 2, 2.25, 3]))
    np.testing.assert_array_equal(hole.torque_a, np.float32([0, 0.049, 1, 2.5, 1, -0.1]))
    np.testing.assert_array_equal(hole.thrust_a, np.float32([0, 0, 0.1, 0.3, 0.2, 0]))
    np.testing.assert_array_equal(hole.step_number, [1, 1, 1, 2, 2, 3])
    assert hole.step_number.dtype == np.int16
    assert hole.sample_rate_hz == 100.0
    assert hole.steps == (
        Step(1, 1, 0.03, 4.8, 0.2),
        Step(2, 2048, 0.02, 2.0, 0.1),
        Step(3, 8, 0.01, 5.0, 0.2),
    )
    assert READER.describe(messages) == {
        "SourceTimestamp": STAMP,
        "MachineId": "M-17" if gateway.id_is_text else "17",
        "HeadId": "E0-TEST",
    }


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda g: g.name)
def test_a_single_step_comes_without_lists(gateway):
    assert READER.read_hole(parts(gateway, steps=1)).steps == (Step(1, 1, 0.03, 4.8, 0.2),)


@pytest.mark.parametrize(
    "configured",
    [
        RESULT_ID,
        f"  {RESULT_ID}.MeasuredValue",
        f"nsu=http://example.org/IJT/ADrilling;s=Objects.DeviceSet.UNIT-9.{RESULT_ID}",
        f"nsu=urn:x;s=Objects.DeviceSet.A.B.{RESULT_ID}.MeasuredValue",
        f"s=Objects.DeviceSet.UNIT.{RESULT_ID}",
    ],
)
def test_a_path_may_be_configured_as_a_gateway_writes_it(configured):
    assert bare_path(configured) == RESULT_ID


def test_a_path_outside_the_usual_roots_keeps_all_but_the_tool():
    assert bare_path("nsu=u;s=Objects.DeviceSet.UNIT.Other.Id") == "Other.Id"
    assert bare_path("Other.Id") == "Other.Id"


# The cheap way to an id must not take a neighbour's value for it: holes would be joined crosswise.


@pytest.mark.parametrize("spare", ["{}", '{"Value":7}'])
def test_a_path_inside_a_longer_key_is_not_the_path(spare):
    reader = OpcUaReader(DataIdsConfig(result_id="ResultId"), LIMITS)
    payload = (
        f'{{"Messages":{{"Payload":{{"a.StepResultId":{spare},"b.ResultId2":{spare},'
        f'"c.ResultId.More":{spare},"note":{{"Value":"x.ResultId"}},'
        f'"quoted":{{"Value":"x.ResultId\\":{{\\"Value\\":7}}"}},"d.ResultId":{{"Value":440}}}}}}}}'
    ).encode()
    assert reader.part_id("result", payload) == "440"


def test_the_head_counter_is_not_its_longer_neighbour():
    assert READER.part_id("heads", envelope(heads_fields(cycle=None))) is None


@pytest.mark.parametrize("cycle", [[1], {"a": 1}, True, "", "x" * 99])
def test_heads_with_an_odd_counter_bind_by_order_of_arrival(cycle):
    assert READER.part_id("heads", envelope(heads_fields(cycle=cycle))) is None


def test_a_trace_without_its_own_id_may_tell_the_results():
    fields = {k: v for k, v in trace_fields().items() if k != TRACE_ID}
    assert READER.part_id("trace", envelope(fields | {RESULT_ID: 441})) == "441"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("result", result_fields()),
        ("result", {f"{RESULT_ID}.MeasuredValue": 440, "Other": 1}),
        ("trace", trace_fields()),
        ("heads", heads_fields()),
    ],
)
def test_a_message_that_lost_its_end_keeps_its_id_or_has_none(kind, fields):
    """Prevents an answer to hole 44 where a cut message said 440, and silence about the rest."""
    payload = envelope(fields, indent=1)
    id_path = {"result": RESULT_ID, "trace": TRACE_ID, "heads": HEAD_CYCLE}[kind]
    end_of_value = payload.index(b"440", payload.index(id_path.encode())) + 3
    for length in range(len(payload)):
        if length > end_of_value:
            assert READER.part_id(kind, payload[:length]) == "440"
        else:
            with pytest.raises(ReadError):
                READER.part_id(kind, payload[:length])


@given(
    value=st.one_of(
        st.integers(-(2**60), 2**60),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=30),
        st.text(alphabet='{}[]",\\.: 7Value', max_size=20),
        st.none(),
        st.booleans(),
        st.lists(st.integers(), max_size=2),
    ),
    style=st.sampled_from(list(STYLES.values())),
    ascii_only=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_the_cheap_id_is_the_parsed_id(value, style, ascii_only):
    payload = envelope(result_fields() | {RESULT_ID: value}, ensure_ascii=ascii_only, **style)

    def outcome(read):
        try:
            return read()
        except ReadError as error:
            return str(error).removeprefix("Result: ")

    def parsed():
        return canonical_id(Field(RESULT_ID).of(parse(payload)), max_chars=LIMITS.id_chars)

    assert outcome(lambda: READER.part_id("result", payload)) == outcome(parsed)


# Broken messages: each has its own cause, or nobody could tell what to mend.

BROKEN = {
    "empty": (parts() | {"trace": b""}, "Trace: the message is empty"),
    "missing": ({"result": parts()["result"]}, "Trace: the message is missing"),
    "cut": (parts() | {"trace": parts()["trace"][:-9]}, "Trace: the message is cut short"),
    "cut result": (parts() | {"result": parts()["result"][:99]}, "Result: the message is cut"),
    "garbage": (parts() | {"trace": b'{"a": oops}'}, "Trace: the message is no JSON from char"),
    "no UTF-8": (parts() | {"trace": b'{"a": "\xff"}'}, "Trace: .* not valid UTF-8"),
    "deep": (parts() | {"trace": b"[" * 3000}, "Trace: .* nested too deeply"),
    "NaN": (trace_with({TORQUE: [1, math.nan, 2]}), "Trace: .* holds NaN or Infinity"),
    "Infinity": (trace_with({TORQUE: [1, -math.inf, 2]}), "Trace: .* holds NaN or Infinity"),
    "1e999": (
        parts() | {"trace": parts()["trace"].replace(b"0.049", b"1e999")},
        "Trace: .* too big for a double",
    ),
    "list": (parts() | {"trace": b"[]"}, "Trace: the message is a list, not an object"),
    "null": (parts() | {"trace": b"null"}, "Trace: the message is null, not an object"),
    "no fields": (parts() | {"trace": b"{}"}, "Trace: the message is without fields"),
    "too many bytes": (parts() | {"trace": b" " * 100_001}, "more than limits.message_bytes"),
    "no position": (trace_with({POSITION: None}), "Trace: position is missing"),
    "no torque": (trace_with({TORQUE: None}), "Trace: torque is missing"),
    "no thrust": (trace_with({THRUST: None}), "Trace: thrust is missing"),
    "no step": (trace_with({STEP: None}), "Trace: step is missing"),
    "text": (trace_with({TORQUE: "1,2"}), "Trace: torque is a text, not a list"),
    "scalar": (trace_with({TORQUE: 1.5}), "Trace: torque is a number, not a list"),
    "no samples": (trace_with({TORQUE: []}), "Trace: torque is empty"),
    "too many samples": (trace_with({TORQUE: [0] * 51}), "more than limits.samples"),
    "lengths": (trace_with({TORQUE: [1, 2]}), r"differ in length \(position 6, torque 2, .* 6"),
    "null inside": (trace_with({TORQUE: [1, None]}), "Trace: torque holds null at sample 1"),
    "text inside": (trace_with({TORQUE: [1, 2, "3"]}), "Trace: torque holds a text at sample 2"),
    "boolean inside": (trace_with({TORQUE: [True, 1]}), "torque holds a boolean at sample 0"),
    "list inside": (trace_with({TORQUE: [1, [2], 3]}), "torque holds a list at sample 1"),
    "only lists": (trace_with({TORQUE: [[1, 2], [3, 4]]}), "torque holds a list at sample 0"),
    "too big": (trace_with({THRUST: [0, 1e39]}), "thrust .* too big for float32 at sample 1"),
    "null step": (trace_with({STEP: [1, 1, 1, 1, 1, None]}), "Trace: step holds null at sample 5"),
    "half step": (trace_with({STEP: [1, 1, 1, 1, 1.5, 2]}), "step holds 1.5 at sample 4"),
    "huge step": (trace_with({STEP: [1, 1, 1, 1, 40000, 2]}), "step holds 40000 at sample 4"),
}  # fmt: skip


@pytest.mark.parametrize(("messages", "cause"), BROKEN.values(), ids=BROKEN)
def test_each_kind_of_broken_hole_has_its_cause(messages, cause):
    with pytest.raises(ReadError, match=cause) as caught:
        READER.read_hole(messages)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({RESULT_ID: None}, "Result: the id is null"),
        ({RESULT_ID: "a\nb"}, "Result: the id holds characters"),
        ({RESULT_ID: "x" * 21}, "Result: the id is longer than 20"),
        ({"Other": 1}, "Result: the field .*ResultMetaData.ResultId is missing"),
    ],
)
def test_a_message_without_usable_id_names_the_cause(fields, cause):
    with pytest.raises(ReadError, match=cause):
        READER.part_id("result", envelope(fields))


def test_an_oversize_message_is_refused_before_it_is_searched():
    with pytest.raises(ReadError, match=r"100001 bytes.*limits\.message_bytes"):
        READER.part_id("trace", b" " * 100_001)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ReadError, match="Tools: there is no such kind"):
        READER.part_id("Tools", b"{}")


@pytest.mark.parametrize("prefix", ["", "s=", "s=Unit."])
def test_bare_keys_and_values_are_read(prefix):
    machine = f"{RESULT}.ResultMetaData.SerialNumber"
    fields = {prefix + RESULT_ID: 440, prefix + machine: "M-17"}
    payload = json.dumps({"Messages": {"Payload": fields}}).encode()
    assert READER.part_id("result", payload) == "440"
    assert READER.describe({"result": payload})["MachineId"] == "M-17"


def test_of_several_data_sets_the_first_counts_either_way():
    """Prevents a hole whose id depends on whether it was found cheaply or parsed."""
    key = f"s=Unit.{RESULT_ID}"
    for wrap in (lambda value: {"Value": value}, lambda value: value):
        data_sets = [{"Payload": {key: wrap(value)}} for value in (440, 441)]
        payload = json.dumps({"Messages": data_sets}).encode()
        assert READER.part_id("result", payload) == "440"


# Steps and rate only help the model: their faults must not cost the hole its answer.


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"StopCode": [1]}, [(1, 1, 0.03), (2, None, 0.02), (3, None, 0.01)]),
        ({"Duration": "x"}, [(1, 1, None), (2, 2048, None), (3, 8, None)]),
        ({"Duration": [None, "0.5", True]}, [(1, 1, None), (2, 2048, 0.5), (3, 8, None)]),
        ({"StopCode": [1.5, [2], "8"]}, [(1, None, 0.03), (2, None, 0.02), (3, 8, 0.01)]),
        ({"StepNumber": [1, None, 3]}, [(1, 1, 0.03), (3, 8, 0.01)]),
        ({"StepNumber": [1, 2, 3, 4], "Duration": [0.5]},
         [(1, 1, 0.5), (2, 2048, None), (3, 8, None), (4, None, None)]),
        ({"StepNumber": "many"}, []),
    ],
)  # fmt: skip
def test_steps_are_taken_as_far_as_they_go(changes, expected):
    hole = READER.read_hole(result_with({f"{STEPS}.{k}": v for k, v in changes.items()}))
    seen = [
        (s.number, s.stop_code, None if math.isnan(s.duration_s) else s.duration_s)
        for s in hole.steps
    ]
    assert seen == expected


def test_an_endless_list_of_steps_is_bounded():
    hole = READER.read_hole(result_with({f"{STEPS}.StepNumber": [1] * 5000}))
    assert len(hole.steps) == 256


@pytest.mark.parametrize(
    ("value", "rate_hz"),
    [(100, 100.0), (50, 50.0), ("200", 200.0), (None, 100.0), (0, 100.0), (-5, 100.0),
     ("fast", 100.0), (True, 100.0), ([100], 100.0), (1e9, 100.0)],
)  # fmt: skip
def test_an_absurd_sampling_rate_falls_back_to_the_usual_one(value, rate_hz):
    assert READER.read_hole(trace_with({RATE: value})).sample_rate_hz == rate_hz


# Provenance: also an error's answer must say which machine it is about.


def test_provenance_survives_what_the_rest_does_not():
    messages = parts()
    cut_trace = {"trace": messages["trace"][:-50]}
    assert READER.describe(cut_trace) == {
        "SourceTimestamp": STAMP,
        "MachineId": None,
        "HeadId": None,
    }
    cut_result = {"result": messages["result"][:-10], "heads": b"\xff"}
    assert READER.describe(cut_result)["MachineId"] == "17"
    assert set(READER.describe({}).values()) == {None}


def test_an_oversize_message_is_not_searched_for_provenance():
    payload = envelope(result_fields()) + b" " * 100_000
    assert READER.describe({"result": payload})["MachineId"] is None


@pytest.mark.parametrize("machine", [None, [1], "a\x00b", "x" * 21])
def test_an_unfit_machine_id_is_left_out(machine):
    fields = result_fields() | {f"{RESULT}.ResultMetaData.SerialNumber": machine}
    assert READER.describe({"result": envelope(fields)})["MachineId"] is None


def test_a_timestamp_unfit_to_repeat_is_left_out():
    payload = envelope(result_fields()).replace(STAMP.encode(), b"<b>now</b>")
    assert READER.describe({"result": payload})["SourceTimestamp"] is None


# Whatever comes from outside, only ReadError comes out: anything else would end a worker.

JSON_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from([1e39, -1e308, 2**63, 2**64, -(2**63) - 1, "440", 1.5]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


def survives(messages: dict[str, bytes]) -> None:
    for kind, payload in messages.items():
        try:
            found = READER.part_id(kind, payload)
        except ReadError:
            continue
        assert found is None or 0 < len(found) <= LIMITS.id_chars
    assert set(READER.describe(messages)) == {"SourceTimestamp", "MachineId", "HeadId"}
    try:
        hole = READER.read_hole(messages)
    except ReadError:
        return
    columns = (hole.position_mm, hole.torque_a, hole.thrust_a, hole.step_number)
    assert {len(column) for column in columns} == {len(hole)}
    assert len(hole) > 0
    assert all(np.isfinite(column).all() for column in columns)


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_only_ever_raise_read_error(result, trace, heads):
    survives({"result": result, "trace": trace, "heads": heads})


@given(
    kind=st.sampled_from(["result", "trace", "heads"]),
    gateway=st.sampled_from(GATEWAYS),
    start=st.floats(0, 1),
    removed=st.integers(0, 60),
    inserted=st.one_of(
        st.binary(max_size=4),
        st.sampled_from([b'"', b"{", b"}", b"[", b"]", b"null", b"NaN", b"1e400", b"\\", b"-"]),
    ),
)
@settings(max_examples=400, deadline=None)
def test_a_damaged_message_only_ever_raises_read_error(kind, gateway, start, removed, inserted):
    messages = parts(gateway)
    payload = messages[kind]
    at = int(start * len(payload))
    survives(messages | {kind: payload[:at] + inserted + payload[at + removed :]})


@given(
    changes=st.dictionaries(
        st.sampled_from([POSITION, TORQUE, THRUST, STEP, RATE, TRACE_ID, RESULT_ID]
                        + [f"{STEPS}.{n}" for n in ("StepNumber", "StopCode", "Duration")]),
        st.one_of(JSON_VALUES, st.lists(st.integers(-3, 3), min_size=6, max_size=6)),
    )
)  # fmt: skip
@example({f"{STEPS}.StepNumber": [1e308, -0.0, 2**64]})
@settings(max_examples=300, deadline=None)
def test_wild_values_only_ever_raise_read_error(changes):
    survives(trace_with(changes) | {"result": result_with(changes)["result"]})


@given(JSON_VALUES)
@settings(max_examples=100, deadline=None)
def test_wild_json_only_ever_raises_read_error(value):
    wrapped = ({"Messages": value}, {"Messages": {"Payload": value}}, value)
    for message in wrapped:
        payload = json.dumps(message).encode("utf-8", "surrogatepass")
        survives({"result": payload, "trace": payload, "heads": payload})


PIECES = st.sampled_from(["A", "B", "Value", "A.B", "=", ".", "s=", ".MeasuredValue", "Objects"])
NAMES = st.lists(PIECES, min_size=1, max_size=5).map("".join)


@given(
    paths=st.lists(NAMES, min_size=1, max_size=5),
    message=st.dictionaries(NAMES, st.sampled_from([1, None, [1], {"Value": 2}, {"Other": 3}])),
)
@example(paths=["B", "A.B"], message={"x.A.B": {"Value": 1}, "s=B": {"Value": 2}})
@example(paths=["A=B"], message={"x.A=B": 1, "x=A=B.MeasuredValue": 2})
def test_fields_looked_for_together_are_those_found_one_by_one(paths, message):
    """Prevents a gateway whose keys only one of the two ways of looking finds."""
    fields = [Field(path) for path in paths]
    assert Fields(fields).of(message) == [field.of(message) for field in fields]
