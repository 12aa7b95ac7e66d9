"""What an anonymous recording still says: what was measured, and nothing of whose it is."""

from __future__ import annotations

import json
import os

import orjson
import pytest
from messages import GATEWAYS
from recordings import SOURCE, S, answer, hole, part, traffic

from farm.adapter import Route
from farm.config import Config
from farm.drilling.formatter import ResultMessageFormatter
from farm.drilling.opcua import OpcUaReader
from farm.errors import RecordingError
from farm.recording.anonymous import Anonymiser, HiddenError
from farm.recording.pseudonyms import Pseudonyms, read_key
from farm.recording.record import Message

ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"
KEY = b"k" * 32


def anonymiser(*, key: bytes = KEY, shifts_times: bool = False) -> Anonymiser:
    return Anonymiser(traffic(), Pseudonyms(key), shifts_times=shifts_times)


def parts_of(messages, reader):
    return {reader.route(each.topic).kind: each.payload for each in messages}


@pytest.mark.parametrize("gateway", GATEWAYS, ids=lambda g: g.name)
def test_a_hole_still_pairs_and_reads_the_same(gateway):
    """Prevents an anonymous recording that can't be replayed, or is answered otherwise."""
    reader, made = traffic(), anonymiser()
    before = hole(440, gateway=gateway)
    after = [made.apply(each) for each in before]
    ids, sources = set(), set()
    for each in after:
        route = reader.route(each.topic)
        sources.add(route.source)
        ids.add(reader.part_id(route.kind, each.payload))
    assert ids == {made.result_id(SOURCE, "440")}
    assert sources == {made.source(SOURCE)}
    opcua = OpcUaReader(reader.config.mqtt.data_ids, reader.config.limits)
    old, new = (opcua.read_hole(parts_of(each, reader)) for each in (before, after))
    assert old.steps == new.steps
    for name in ("position_mm", "torque_a", "thrust_a", "step_number"):
        assert getattr(old, name).tolist() == getattr(new, name).tolist()


def test_no_name_id_or_serial_number_is_left():
    """Prevents a recording that is given away and says who drilled what, on which machine."""
    made = anonymiser(shifts_times=True)
    secrets = ["ACME-BOX", "UNIT-SECRET", "98765", "M-17", "E0-TEST", "J. Doe", "example.org"]
    found = hole(98765, source="ACME-BOX/UNIT-SECRET", gateway=GATEWAYS[2])
    for each in found:
        body = json.loads(each.payload)
        prefix = "nsu=http://example.org/IJT/ADrilling;s=Objects.DeviceSet.UNIT-SECRET"
        body["Messages"]["Payload"] |= {
            f"{prefix}.ResultManagement.Results.0.ResultMetaData.OperatorName": {"Value": "J. Doe"},
            f"{prefix}.ResultManagement.Results.0.Tags": {"Value": ["J. Doe", {"J. Doe": 1}]},
            f"{prefix}.ResultManagement.Results.0.JobNumber": {"Value": 98765},
            "J. Doe": {"Value": 1},
        }
        body["Comment"] = "J. Doe"
        body["Messages"]["Timestamp"] = "2031-05-06T07:08:09Z"
        said = made.apply(each._replace(payload=json.dumps(body).encode()))
        told = said.topic + said.payload.decode()
        assert not [secret for secret in secrets if secret in told]
        assert "2031-05-06" not in told
        assert told.count("BOX-") == 2  # in the topic, and as the publisher
        assert "UNIT-" in told


def test_text_that_only_looks_like_a_date_is_not_kept():
    """Prevents an eight-digit serial number that passes for a day."""
    made = anonymiser()
    path = "x;s=Objects.DeviceSet.U.ResultManagement.Results.0.ResultMetaData.PartMark"
    payload = orjson.dumps({"Messages": {"Payload": {path: {"Value": "20250303"}}}})
    assert b"20250303" not in made.apply(part("result", payload)).payload


def test_the_same_key_gives_the_same_names_and_another_one_others():
    """Prevents recordings that can't be compared, or names that anybody can look up."""
    one, same, other = anonymiser(), anonymiser(), anonymiser(key=b"o" * 32)
    assert one.source(SOURCE) == same.source(SOURCE) != other.source(SOURCE)
    assert one.result_id(SOURCE, "440") == same.result_id(SOURCE, "440")
    assert one.result_id(SOURCE, "440") != one.result_id("BOX-1/UNIT-2", "440")
    toolbox = one.source("BOX-1/UNIT-1").partition("/")[0]
    assert one.source("BOX-1/UNIT-2").startswith(f"{toolbox}/")


def test_ids_keep_their_type_and_repeats_stay_repeats():
    """Prevents a duplicate that differs, and a number that becomes a text."""
    made = anonymiser()
    for gateway in GATEWAYS:
        first, again = ([made.apply(each).payload for each in hole(440, gateway=gateway)]
                        for _ in range(2))  # fmt: skip
        assert first == again
        written = json.loads(first[0])["Messages"]["Payload"]
        values = [v["Value"] for k, v in written.items() if k.endswith(".ResultId")]
        assert [type(value) for value in values] == [str if gateway.id_is_text else int]


def test_all_times_move_by_the_same_years():
    """Prevents a time that gives the day away, or parts that move apart."""
    made = anonymiser(shifts_times=True)
    first, second = (made.apply(each) for each in hole(440, at_s=1e9)[:2])
    assert second.at_ns - first.at_ns == 100_000_000
    assert -3650 * 86_400 <= made.shift_s <= -365 * 86_400
    one, two = (json.loads(each.payload)["Messages"]["Timestamp"] for each in (first, second))
    assert one == two < "2031"
    assert one.endswith("Z")


def test_answers_name_the_made_up_hole():
    """Prevents an anonymous recording whose answers belong to nothing in it."""
    made = anonymiser()
    body = {
        "SourceTimestamp": "2031-05-06T07:08:09Z", "MachineId": "M-17", "ResultId": "440",
        "HeadId": "E0-TEST", "Value": "UNIT-1: aborted: step 440 was stopped",
        "AlgoVersion": "rule-2", "Error": True, "Site": "ACME",
    }  # fmt: skip
    said = made.apply(answer(f"{ESTIMATE}.KeyPoints", orjson.dumps(body)))
    told = orjson.loads(said.payload)
    new_id = made.result_id(SOURCE, "440")
    tool = made.source(SOURCE).partition("/")[2]
    assert told["ResultId"] == new_id
    assert told["Value"] == f"{tool}: aborted: step 440 was stopped"
    assert told["MachineId"] == Pseudonyms(KEY).like("SN", "M-17")
    assert told["AlgoVersion"] == "rule-2"
    assert told["Error"] is True
    assert "Site" not in told
    assert said.topic.startswith(f"OPCPUBSUB/{made.source(SOURCE)}/")


@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", b'"BOX-1"', b"{}", b'{"Messages": 3}'])
def test_what_cannot_be_read_is_hidden(payload):
    """Prevents a cut message that goes into an anonymous file with all its names."""
    with pytest.raises(HiddenError):
        anonymiser().apply(part("trace", payload))


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path):
    """Prevents a key that anybody can read, that changes, or that guesses nothing."""
    path = tmp_path / "key"
    key = read_key(path)
    assert len(key) == 32
    assert read_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(None) != read_key(None)
    path.write_bytes(b"short")
    with pytest.raises(RecordingError, match="5 bytes"):
        read_key(path)


@pytest.mark.parametrize("result_id", ["7", "440", "98765", "A 17/b"])
@pytest.mark.parametrize(
    "sentence",
    ["The trace for result id {} came after its hole had been given up",
     "Duplicate result for result id {}"],
)  # fmt: skip
def test_a_refusal_names_the_made_up_hole(sentence, result_id):
    """Prevents a real id in the one place where it stands in a sentence alone."""
    made = anonymiser()
    formatter = ResultMessageFormatter(Config().mqtt)
    [refused] = formatter.rejection(Route("trace", SOURCE), sentence.format(result_id))
    said = made.apply(Message(S, refused.topic, refused.payload, is_answer=True))
    told = orjson.loads(said.payload)["Value"]
    assert told == sentence.format(made.result_id(SOURCE, result_id))


def test_a_long_id_is_hidden_in_any_sentence():
    """Prevents an id that a model of the user's repeats, and a step number taken for one."""
    made = anonymiser()
    for result_id, sentence, is_changed in (
        ("98765", "no drill for 98765 in step 3", True),
        ("3", "Aborted: step 3 was stopped", False),
        ("98765", "the depth is 98765.5 mm", False),
    ):
        body = orjson.dumps({"ResultId": result_id, "Value": sentence, "Error": True})
        told = orjson.loads(made.apply(answer(f"{ESTIMATE}.KeyPoints", body)).payload)["Value"]
        new_id = made.result_id(SOURCE, result_id)
        assert told == (sentence.replace(result_id, new_id) if is_changed else sentence)


PREFIX = "nsu=http://example.org/IJT/ADrilling;s=Objects.DeviceSet.UNIT-1."
RESULT = f"{PREFIX}ResultManagement.Results.0"


def told_of(fields):
    """What an anonymous Result with these fields still says."""
    payload = orjson.dumps({"Messages": {"Payload": fields}})
    return anonymiser().apply(part("result", payload)).payload.decode()


@pytest.mark.parametrize(
    "key",
    ["nsu=http://example.org/ACME;s=Objects.DeviceSet.U.ResultManagement.Results.0.X",
     f"{RESULT}.ACME.Distance", f"{RESULT}.ResultMetaData.ACME", f"{RESULT}.ACME[0].Values",
     f"{RESULT}.ResultContent[ACME].Values", "ResultManagement.Results.0.ACME",
     f"{PREFIX}AssetManagement.Assets.Heads.0.ACME.Model"],
)  # fmt: skip
def test_a_name_in_a_key_is_hidden(key):
    """Prevents a namespace or a field that has the name of its maker, site or operator."""
    told = told_of({key: {"Value": 1.5}})
    assert "ACME" not in told
    assert "1.5" in told


def test_the_known_parts_of_a_key_stay():
    """Prevents an anonymous recording in which nobody finds anything."""
    for space in ("ADrilling", "AFastening"):
        path = "ResultManagement.Results.0.ResultContent.StepResults.0.StepResultValues.GapMax"
        told = told_of({f"nsu=http://a.org/b/{space};s=Objects.DeviceSet.U.{path}.MeasuredValue":
                        {"Value": 1.5}})  # fmt: skip
        assert f"IJT/{space};s=" in told
        assert f"{path}.MeasuredValue" in told


@pytest.mark.parametrize(
    "path", ["SerialNumbers.0", "JobCode.Value", "OperatorName.0.Value", "BatchId.Value"]
)
def test_a_number_under_an_own_name_is_hidden(path):
    """Prevents serial numbers that stay since they stand in a list."""
    assert "47110815" not in told_of({f"{RESULT}.ResultMetaData.{path}": {"Value": 47110815}})
    assert "47110815" not in told_of({f"{RESULT}.ResultMetaData.{path}": {"Value": [47110815]}})


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("2025-01-01T00:00-4711-0815", False),
        ("2025-01-01T00:00:00.47110815471108", False),
        ("2025-13-01T00:00:00Z", False),
        ("2025-01-01T00:00:00Z", True),
        ("2025-01-01T00:00:00.1234567Z", True),
        ("2025-01-01T00:00:00+01:00", True),
    ],
)
def test_a_time_stays_and_nothing_that_begins_as_one(text, stays):
    """Prevents a serial number behind a date."""
    assert (text in told_of({f"{RESULT}.ResultMetaData.CreationTime": {"Value": text}})) is stays


def test_a_root_that_looks_like_a_tool_is_not_taken_for_it():
    """Prevents a topic whose tool stays, since its name stands in the root before."""
    reader = traffic(root="BOX-1/UNIT-1/BOX-1")
    made = Anonymiser(reader, Pseudonyms(KEY))
    message = hole(440)[0]
    topic = message.topic.replace("OPCPUBSUB", "BOX-1/UNIT-1/BOX-1")
    said = made.apply(message._replace(topic=topic)).topic
    assert said.startswith(f"BOX-1/UNIT-1/BOX-1/{made.source(SOURCE)}/")
    assert said.count("UNIT-1") == 1


def test_a_key_that_could_not_be_written_is_not_left_behind(tmp_path, monkeypatch):
    """Prevents a full disk whose cure does not help: the empty key is too short for ever."""
    path, real = tmp_path / "key", os.fdopen

    def full(descriptor: int, *words: object, **options: object) -> object:
        file = real(descriptor, *words, **options)
        monkeypatch.setattr(os, "fdopen", real)
        os.close(descriptor)  # what is written fails, as on a full disk
        return file

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(RecordingError, match="can't be made"):
        read_key(path)
    assert not path.exists()
    assert len(read_key(path)) == 32
