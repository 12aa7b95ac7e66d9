import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import (
    GATEWAYS,
    POSITION,
    RATE,
    STEP,
    THRUST,
    TORQUE,
    TRACES,
    envelope,
    parts,
    trace_fields,
)

from farm.config import DataIdsConfig, LimitsConfig
from farm.drilling import lists
from farm.drilling.columns import ColumnReader
from farm.drilling.hole import Hole, Step
from farm.drilling.lists import OrjsonLists, SimdjsonLists
from farm.drilling.opcua import OpcUaReader
from farm.errors import ReadError
from farm.simulation import gateway as simulated

LIMITS = LimitsConfig(message_bytes=100_000, samples=50)
POWER = f"{TRACES}.PowerTrace.StepTraceContent[0].Values"


class NoLists:
    """Refuses every list, so that all is read the exact way."""

    def numbers(self, raw: bytes):
        raise ReadError(f"refused, all {len(raw)} bytes of it")

    check = numbers


def reader_with(lists_: object) -> OpcUaReader:
    return OpcUaReader(DataIdsConfig(), LIMITS, lists_)


EXACT = reader_with(NoLists())
QUICK = {"orjson": reader_with(OrjsonLists())}
if lists.Parser is not None:
    QUICK["simdjson"] = reader_with(SimdjsonLists())
each_quick = pytest.mark.parametrize("quick", QUICK.values(), ids=QUICK)


def outcome(reader: OpcUaReader, messages: dict[str, bytes]) -> object:
    """All that a reader tells of a hole, to the last bit; or its sentence."""
    try:
        hole = reader.read_hole(messages)
    except ReadError as error:
        return str(error)
    columns = (hole.position_mm, hole.torque_a, hole.thrust_a, hole.step_number)
    arrays = [(c.dtype, c.shape, c.flags.writeable, c.tobytes()) for c in columns]
    return arrays, repr(hole.steps), hole.sample_rate_hz


def assert_alike(messages: dict[str, bytes]) -> None:
    expected = outcome(EXACT, messages)
    for name, reader in QUICK.items():
        assert outcome(reader, messages) == expected, name


# What gateways write is read the quick way: otherwise all that follows compares a way with itself.


@each_quick
@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda g: g.name)
@pytest.mark.parametrize(
    "style",
    [{}, {"indent": 2}, {"stamp_first": True}, {"as_list": True}, {"separators": (" , ", " : ")}],
    ids=str,
)
def test_what_gateways_write_is_read_the_quick_way(monkeypatch, quick, gateway, style):
    """Prevents a trace that takes four times as long because the quick way always gives up."""
    messages = parts(gateway, **style)
    expected = outcome(EXACT, messages)
    monkeypatch.setattr(ColumnReader, "_exact", lambda *_: pytest.fail("the exact way was taken"))
    assert outcome(quick, messages) == expected


@each_quick
@pytest.mark.parametrize("name", simulated.STYLES)
def test_what_the_simulator_writes_is_read_the_quick_way(monkeypatch, quick, name):
    """Prevents a drill whose demo takes another way than its units."""
    messages = simulated_parts(name)
    expected = outcome(EXACT, messages)
    assert not isinstance(expected, str)
    monkeypatch.setattr(ColumnReader, "_exact", lambda *_: pytest.fail("the exact way was taken"))
    assert outcome(quick, messages) == expected


def simulated_parts(name: str) -> dict[str, bytes]:
    rng = np.random.default_rng(7)
    samples = 40
    hole = Hole(
        position_mm=np.cumsum(rng.uniform(0, 0.1, samples)).astype(np.float32),
        torque_a=rng.normal(0, 5, samples).astype(np.float32),
        thrust_a=rng.normal(0, 0.2, samples).astype(np.float32),
        step_number=np.repeat([1, 2], samples // 2).astype(np.int16),
        steps=(Step(1, 1, 0.2, 4.8, 0.2), Step(2, None, 0.2, math.nan, 0.1)),
    )
    made = simulated.messages(
        hole,
        power_w=rng.uniform(90, 400, samples),
        style=simulated.STYLES[name],
        toolbox="box",
        tool="UNIT-1",
        result_id=440,
        head_id="HEAD-07",
        machine_id="17",
        timestamp=datetime(2031, 5, 6, tzinfo=UTC),
    )
    return {"result": made.result, "trace": made.trace}


# Both ways accept and refuse the same, with the same sentence.

NUMBER = st.one_of(
    st.integers(-9, 9).map(str),
    st.decimals(-60, 60, places=3).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(["-0", "-0.0", "1E2", "1e-400", "3.4028235e38", "1.0004"]),
)
ODD = st.sampled_from(
    ["null", "true", "false", '"1"', '"]"', '"["', "NaN", "Infinity", "-Infinity", "1e999", "01",
     "1.", "+1", "[1]", "[]", "{}", '{"Value":[1,2]}', '"\\u0031"', '"ü"', "", " ", "9" * 400,
     "3.4028236e38", "-1e300"]
)  # fmt: skip
STEP_NUMBER = st.sampled_from(["0", "1", "2", "3", "1.0", "2.0005", "12", "-1"])
SEPARATORS = st.sampled_from([",", ",", ", ", " ,\n"])
COLUMNS = {POSITION: NUMBER, TORQUE: NUMBER, THRUST: NUMBER, STEP: STEP_NUMBER, POWER: NUMBER}

KEY = "nsu=http://example.org/IJT/AFastening;s=Objects.DeviceSet.UNIT-1.%s"
FINE_KEYS = ["%s", "s=%s", "a.%s.MeasuredValue"]
ODD_KEYS = ["b%s", "%s.x", "\\u0061.%s", "é.%s", '"Value":[%s']
ENTRY = '{"Value":%s,"SourceTimestamp":"2031-05-06T07:08:09Z"}'
FINE_ENTRIES = [
    '{"SourceTimestamp":"2031-05-06T07:08:09Z","Value":%s}', '{ "Value" :\t%s }', "%s",
    '{"Value":[7],"Value":%s}', '{"\\u0056alue":%s}', '{"x":"\\"Value\\":[1,2]","Value":%s}',
    '{"x":"Value","y":":[","Value":%s}', '{"Value":["\\u00000"],"Value":%s}',
]  # fmt: skip
ODD_ENTRIES = [
    '{"Value":%s,"Value":[1,2,3,4,5,6]}', '{"Value":%s,"Value":0}', '{"Value":{"Value":%s}}',
    '{"Value":[{"Value":%s}]}', '{"Value":[%s]}', '{"value":%s}', '{"Value":["\\u00000"],"x":%s}',
    '{"Value":["\x000"],"x":%s}', '{"x":"Value":[1],"Value":%s}', '{"x":true"Value":%s}',
    '{"Value":%s', '{"Value":%s}}', "0",
]  # fmt: skip
LENGTHS = st.sampled_from([0, 1, 5, 51])


@st.composite
def traces(draw):
    """A Trace, written by hand to hold what no JSON writer would write, with up to two faults."""
    paths = draw(st.permutations([*COLUMNS, RATE]))
    if draw(st.integers(0, 3)) == 0:
        paths.append(draw(st.sampled_from(paths)))  # a key that comes twice
    faults = draw(st.lists(st.tuples(st.sampled_from(range(len(paths))),
                                     st.sampled_from(["key", "entry", "value", "value", "length"])),
                           max_size=2))  # fmt: skip
    variety = draw(st.integers(0, 2)) > 0
    fields = []
    for at, path in enumerate(paths):
        odd = {fault for place, fault in faults if place == at}
        length = draw(LENGTHS) if "length" in odd else 6
        values = draw(st.lists(COLUMNS.get(path, NUMBER), min_size=length, max_size=length))
        if "value" in odd and values:
            values[draw(st.integers(0, len(values) - 1))] = draw(ODD)
        listed = f"[{draw(SEPARATORS).join(values)}]"
        keys = ODD_KEYS if "key" in odd else [KEY, *FINE_KEYS] if variety else [KEY]
        entries = ODD_ENTRIES if "entry" in odd else [ENTRY, *FINE_ENTRIES] if variety else [ENTRY]
        key, entry = draw(st.sampled_from(keys)), draw(st.sampled_from(entries))
        # The configured paths hold brackets and the lists hold none of %s: hence replace.
        fields.append(f'"{key.replace("%s", path)}":{entry.replace("%s", listed)}')
    data_set = '{"Payload":{' + draw(SEPARATORS).join(fields) + "}}"
    shape = draw(st.sampled_from(["%s", "%s", "[%s]", '[{"Payload":{"x":1}},%s]', "[%s,%s]"]))
    text = '{"MessageType":"ua-data","Messages":' + shape.replace("%s", data_set) + "}"
    return text.encode(draw(st.sampled_from(["utf-8"] * 5 + ["latin-1"])))


@given(traces())
@settings(max_examples=600, deadline=None)
def test_both_ways_tell_the_same_of_any_trace(trace):
    """Prevents a hole that is answered in one environment and refused in another."""
    assert_alike(parts() | {"trace": trace})


@given(
    name=st.sampled_from(list(simulated.STYLES)),
    wounds=st.lists(
        st.tuples(
            st.floats(0, 1),
            st.sampled_from([0, 0, 1, 1, 2, 7, 60, 5000]),
            st.one_of(
                st.binary(max_size=3),
                st.sampled_from(
                    [b'"', b"{", b"}", b"[", b"]", b",", b":", b"null", b"NaN", b"1e400",
                     b"\\", b"-",
                     b"\xef\xbb\xbf", b"\x00", b"\xff", b" ", b"true", b'"Value":[1,2]', b'"1"',
                     b"[[",
                     b'{"Value":[', b"]}", b"9" * 30]
                ),
            ),
        ),
        min_size=1,
        max_size=3,
    ),
)  # fmt: skip
@settings(max_examples=600, deadline=None)
def test_both_ways_tell_the_same_of_a_damaged_trace(name, wounds):
    """Prevents a broken message that only one environment notices, or calls something else."""
    messages = simulated_parts(name)
    trace = messages["trace"]
    for start, removed, inserted in wounds:
        at = int(start * len(trace))
        trace = trace[:at] + inserted + trace[at + removed :]
    assert_alike(messages | {"trace": trace})


def deep(levels: int) -> bytes:
    """A trace with that many lists inside each other, the innermost under a key named Value."""
    inner = "[" * levels + '{"Value":[1]}' + "]" * levels
    return envelope(trace_fields())[:-1] + f',"x":{inner}}}'.encode()


@each_quick
def test_both_ways_have_one_limit_of_depth(quick):
    """Prevents a message so deep that only the way without the lists can read it."""
    seen = set()
    for levels in range(1010, 1030):
        messages = parts() | {"trace": deep(levels)}
        expected = outcome(EXACT, messages)
        assert outcome(quick, messages) == expected
        seen.add(isinstance(expected, str))
    assert seen == {True, False}


@each_quick
@pytest.mark.parametrize(
    ("steps", "numbers"),
    [
        ("[1,1,2,2,3,3]", [1, 1, 2, 2, 3, 3]),
        ("[1.0,1,2e0,2.0004,3,3]", [1, 1, 2, 2, 3, 3]),
        ("[ 9,10,10,11,-1,32767]", [9, 10, 10, 11, -1, 32767]),
    ],
)
def test_step_numbers_are_read_however_they_are_written(monkeypatch, quick, steps, numbers):
    monkeypatch.setattr(ColumnReader, "_exact", lambda *_: pytest.fail("the exact way was taken"))
    written = json.dumps(trace_fields()[STEP], separators=(",", ":"))
    trace = parts()["trace"].replace(written.encode(), steps.encode())
    assert quick.read_hole(parts() | {"trace": trace}).step_number.tolist() == numbers


@each_quick
def test_a_column_may_be_configured_twice(quick):
    """Prevents a list that counts as needless, or as missing, because two fields name it."""
    reader = OpcUaReader(DataIdsConfig(thrust=TORQUE), LIMITS, quick._columns._lists)
    hole = reader.read_hole(parts())
    np.testing.assert_array_equal(hole.thrust_a, hole.torque_a)


@each_quick
def test_columns_are_the_holes_own(quick):
    """Prevents a hole that changes when the next one is read, or can't be changed in place."""
    first = quick.read_hole(parts())
    before = first.torque_a.copy()
    second = quick.read_hole(parts() | {"trace": envelope(trace_fields() | {TORQUE: [9] * 6})})
    np.testing.assert_array_equal(first.torque_a, before)
    np.add(second.position_mm, 1, out=second.position_mm)
    np.testing.assert_array_equal(second.torque_a, [9] * 6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("path", [POSITION, TORQUE, THRUST, STEP])
def test_numbers_too_big_are_refused_without_a_warning(path):
    """Prevents NumPy's warnings in the log of a worker for every such message."""
    assert_alike(parts() | {"trace": envelope(trace_fields() | {path: [0, 1, 1e39, -1e300, 2, 3]})})
