"""Fresh ids for a replay: each hole gets one, all its messages the same, and no more changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages import GATEWAYS, PLAIN, envelope, result_fields
from recordings import SOURCE, hole, part, traffic

from farm.recording.id_places import rewrite_ids
from farm.recording.renewal import Renewal, id_fields, replace_ids


def ids(renewed, reader):
    found = []
    for message, _ in renewed:
        route = reader.route(message.topic)
        found.append(reader.part_id(route.kind, message.payload))
    return found


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda g: g.name)
@pytest.mark.parametrize("style", [{}, {"indent": 2}, {"stamp_first": True}, {"as_list": True}])
def test_the_messages_of_a_hole_still_pair_and_only_ids_change(gateway, style):
    """Prevents a replayed hole whose parts don't find each other, in any gateway's spelling."""
    reader = traffic()
    renewal = Renewal(reader, first_id=5_000_001)
    recorded = hole(440, gateway=gateway, **style)
    renewed = [renewal.renew(each) for each in recorded]
    assert ids(renewed, reader) == ["5000001"] * 3
    for before, (after, of) in zip(recorded, renewed, strict=True):
        assert of.key == (SOURCE, "440")
        assert after._replace(payload=before.payload) == before
        assert json.loads(after.payload.replace(b"5000001", b"440")) == json.loads(before.payload)
    assert renewal.kept == 0


def test_a_repeat_stays_a_repeat_byte_for_byte():
    """Prevents a duplicate that becomes a hole of its own, since its copy has another id."""
    renewal = Renewal(traffic(), first_id=1)
    recorded = hole(440)
    first = [renewal.renew(each).message.payload for each in recorded]
    again = [renewal.renew(each).message.payload for each in recorded]
    assert first == again


def test_an_id_that_begins_anew_is_another_hole():
    """Prevents holes that a replay at full speed throws together: a changed head counts from 1."""
    reader = traffic(time_window=30)
    renewal = Renewal(reader, first_id=100)
    holes = [*hole(1, at_s=0), *hole(2, at_s=10), *hole(1, at_s=100)]
    renewed = [renewal.renew(each) for each in holes]
    assert ids(renewed, reader) == ["100"] * 3 + ["101"] * 3 + ["102"] * 3
    assert [each.hole.nth for each in renewed] == [1] * 6 + [2] * 3
    assert renewal.repeated == 1


def test_another_result_of_the_same_id_is_another_hole_as_for_a_farm():
    """Prevents a second hole of one id within the window that a replay would lose."""
    reader = traffic(time_window=30, duplicate_time_window=1)
    renewal = Renewal(reader, first_id=100)
    first = hole(1, at_s=0)
    second = [part("result", each.payload + b" ", at_s=10) for each in hole(1, at_s=10)[:1]]
    assert ids([renewal.renew(each) for each in [*first, *second]], reader) == [*["100"] * 3, "101"]


def test_tools_do_not_share_ids():
    """Prevents two tools that drill number 1 at once and get one hole."""
    reader = traffic()
    renewal = Renewal(reader, first_id=100)
    renewed = [renewal.renew(each) for tool in ("B/U1", "B/U2") for each in hole(1, source=tool)]
    assert ids(renewed, reader) == ["100"] * 3 + ["101"] * 3


def test_kept_ids_keep_the_bytes():
    """Prevents a replay that is asked to be exact and is not."""
    renewal = Renewal(traffic(), first_id=None)
    recorded = hole(440)
    assert [renewal.renew(each).message for each in recorded] == recorded
    assert renewal.kept == 0


def test_a_message_that_was_cut_keeps_its_partners():
    """Prevents a hole with a cut Trace that becomes two unpaired ones."""
    reader = traffic()
    renewal = Renewal(reader, first_id=700)
    result, trace, _ = hole(440)
    at = trace.payload.find(b'"Value":[')
    cut = trace._replace(payload=trace.payload[: at + 20])
    assert ids([renewal.renew(result), renewal.renew(cut)], reader) == ["700", "700"]


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff\xfe", b'{"a":'])
def test_what_names_no_hole_leaves_as_recorded_and_is_counted(payload):
    """Prevents an unreadable message, which a farm must answer, from being lost or changed."""
    renewal = Renewal(traffic(), first_id=700)
    message = part("result", payload)
    assert renewal.renew(message) == (message, None)
    assert renewal.kept == 1


def test_ids_of_other_holes_in_a_message_stay():
    """Prevents a Heads or Trace whose other numbers change with the id."""
    fields = id_fields(traffic().config.mqtt.data_ids)
    payload = envelope(result_fields(PLAIN, result_id=44))
    assert replace_ids(payload, "4", "9", fields) == payload
    changed = replace_ids(payload, "44", "9", fields)
    assert changed.count(b'"Value":9,') == 1
    assert len(payload) - len(changed) == 1


def test_an_id_is_found_by_what_it_says_however_it_is_written():
    """Prevents 440, "440" and 440.0 from being three holes."""
    fields = id_fields(traffic().config.mqtt.data_ids)
    key = b'{"x.ResultManagement.Results.0.ResultMetaData.ResultId": {"Value": %s}}'
    for written, new in (
        (b"440", b"9"),
        (b'"440"', b'"9"'),
        (b"440.0", b"9"),
        (b'" 440 "', b'"9"'),
    ):
        assert replace_ids(key % written, "440", "9", fields) == key % new


PATH = "x;s=Objects.DeviceSet.UNIT-1.ResultManagement.Results.0.ResultMetaData.ResultId"


@pytest.mark.parametrize(
    "entry",
    [
        '"%s": 440', '"%s": "440"', '"%s.MeasuredValue": 440.0',
        '"%s": {"StatusCode": {"Code": 0}, "Value": 440}',
        '"%s": {"Value": 440, "StatusCode": {"Code": 0, "Symbol": ["Good"]}}',
        '"%s": {"Note": "' + "n" * 500 + '", "Value": "440"}',
        '"%s": {"Note": "} \\" {", "V\\u0061lue" : 440 }',
        '"%s": {"Value": [[1], 440]}',
    ],
)  # fmt: skip
def test_a_hole_is_not_torn_apart_by_the_spelling_of_its_id(entry):
    """Prevents a Result that keeps its id while its Trace gets another: both would be unpaired."""
    reader = traffic()
    renewal = Renewal(reader, first_id=5001)
    for key in (PATH, PATH.replace(".ResultId", ".\\u0052esultId")):
        text = '{"Messages": {"Payload": {"other": 4.40e2, %s, "ü": 1.0E1}}}' % (entry % key)
        message = part("result", text.encode())
        recorded_id = reader.part_id("result", message.payload)
        after, of = renewal.renew(message)
        if recorded_id is None:
            assert (after, of) == (message, None)
            continue
        assert reader.part_id("result", after.payload) == of.new_id != "440"
        said = after.payload.decode()
        assert said.startswith('{"Messages": {"Payload": {"other": 4.40e2, ')
        assert said.endswith(', "ü": 1.0E1}}}')


@given(cut=st.integers(0, 400), edits=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255))))
def test_no_message_ends_a_rewriting(cut, edits):
    """Prevents a replay that a broken message ends."""
    entry = '{"a": {"StatusCode": {"Code": 0}, "ResultId": {"Note": [1, "}"], "Value": 440}}}'
    data = bytearray((entry * 3).encode()[:cut])
    for at, value in edits:
        if data:
            data[at % len(data)] = value
    rewrite_ids(bytes(data), "440", "9", lambda key: key == "ResultId")
