import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.adapter import Finished, Route, Status
from farm.config import MqttConfig
from farm.drilling.confidence import Confidence
from farm.drilling.formatter import NO_REASON, ResultMessageFormatter, sentence

DEPTH = "ResultManagement.Results.0.ResultContent.DepthEstimation"
PROVENANCE = {"SourceTimestamp": "2031-05-06T07:08:09Z", "MachineId": "M-17", "HeadId": "E0-TEST"}
FORMATTER = ResultMessageFormatter(MqttConfig())
PLAIN = ResultMessageFormatter(MqttConfig.model_validate({"estimation": {"confidence": False}}))
HEAD = (
    b'{"SourceTimestamp":"2031-05-06T07:08:09Z","MachineId":"M-17","ResultId":"440",'
    b'"HeadId":"E0-TEST","Value":'
)


def finished(**changes) -> Finished:
    fields = {
        "source": "box/unit",
        "part_id": "440",
        "status": Status.OK,
        "value": None,
        "reason": "",
        "provenance": PROVENANCE,
        "model_version": "net-1",
        "model_hash": "3f9a",
    }
    return Finished(**(fields | changes))


def payloads(messages) -> list[bytes]:
    return [message.payload for message in messages]


def test_the_two_messages_of_a_hole_to_the_byte():
    """Prevents a silent change of what consumers parse: topic, order and names of the fields."""
    messages = FORMATTER.depths(
        finished(),
        keypoints_mm=(2.0, 10.25, 16.0),
        depths_mm=(8.25, 5.75),
        confidence=Confidence(
            sigma_mm=(0.061, 0.094, 0.083), quality=0.981, tip_mm=(1.9, 10.1, 15.5)
        ),
    )
    assert [message.topic for message in messages] == [
        f"OPCPUBSUB/box/unit/{DEPTH}.KeyPoints",
        f"OPCPUBSUB/box/unit/{DEPTH}.DepthEstimation",
    ]
    tail = b'"AlgoVersion":"net-1","ModelHash":"3f9a","Sigma":[0.061,0.094,0.083],"Quality":0.981'
    assert payloads(messages) == [
        HEAD + b"[2.0,10.25,16.0]," + tail + b',"TipKeyPoints":[1.9,10.1,15.5]}',
        HEAD + b"[8.25,5.75]," + tail + b"}",
    ]


def test_what_a_model_does_not_say_is_no_field():
    """Prevents nulls and made-up numbers where a user's model gives its keypoints alone."""
    messages = FORMATTER.depths(finished(), keypoints_mm=(2.0, 10.25), depths_mm=(8.25,))
    assert payloads(messages) == [
        HEAD + b'[2.0,10.25],"AlgoVersion":"net-1","ModelHash":"3f9a"}',
        HEAD + b'[8.25],"AlgoVersion":"net-1","ModelHash":"3f9a"}',
    ]


def test_without_confidence_the_messages_are_those_of_the_former_system_to_the_byte():
    """Prevents a field that a strict consumer refuses after its site chose the old form."""
    depths = PLAIN.depths(finished(), keypoints_mm=(2.0, 10.25, 16.0), depths_mm=(8.25, 5.75))
    assert payloads(depths) == [
        HEAD + b'[2.0,10.25,16.0],"AlgoVersion":"net-1"}',
        HEAD + b'[8.25,5.75],"AlgoVersion":"net-1"}',
    ]
    warned = PLAIN.depths(finished(), keypoints_mm=(2.0, 1.0), depths_mm=(-1.0,), warning="Odd")
    assert payloads(warned)[1] == HEAD + b'[-1.0],"AlgoVersion":"net-1","Warning":"Odd"}'
    error = HEAD + b'"no","AlgoVersion":"net-1","Error":true}'
    assert payloads(PLAIN.error(finished(), "no")) == [error, error]


def test_an_error_says_which_weights_made_it_if_any_did():
    """Prevents a refusal that can't be traced, and a hash on an answer that no model gave."""
    made, unmade = (FORMATTER.error(finished(model_hash=text), "no") for text in ("3f9a", ""))
    assert [orjson.loads(payload)["ModelHash"] for payload in payloads(made)] == ["3f9a"] * 2
    assert not any("ModelHash" in orjson.loads(payload) for payload in payloads(unmade))


def test_a_hash_that_can_not_be_printed_is_tidied():
    """Prevents an invalid message because of a user's hash."""
    (message, _) = FORMATTER.error(finished(model_hash="a\nb\ud800"), "no")
    assert orjson.loads(message.payload)["ModelHash"] == "a b"


def test_a_warning_is_in_both_messages():
    messages = FORMATTER.depths(
        finished(), keypoints_mm=(2.0, 1.0), depths_mm=(-1.0,), warning="Negative depth: -1 mm"
    )
    for message in messages:
        body = orjson.loads(message.payload)
        assert body["Warning"] == "Negative depth: -1 mm"
        assert "Error" not in body


def test_an_error_says_why_in_the_place_of_the_value():
    messages = FORMATTER.error(finished(), "Not enough steps to estimate depth")
    assert len({message.topic for message in messages}) == 2
    for message in messages:
        body = orjson.loads(message.payload)
        assert body["Value"] == "Not enough steps to estimate depth"
        assert body["Error"] is True
        assert (body["ResultId"], body["MachineId"]) == ("440", "M-17")


def test_an_error_without_any_provenance_has_nulls():
    body = orjson.loads(
        FORMATTER.error(finished(provenance={}, model_version="", model_hash=""), "")[0].payload
    )
    assert body == {
        "SourceTimestamp": None,
        "MachineId": None,
        "ResultId": "440",
        "HeadId": None,
        "Value": NO_REASON,
        "AlgoVersion": None,
        "Error": True,
    }


def test_a_rejected_part_gets_one_message_of_its_own():
    (message,) = FORMATTER.rejection(Route("trace", "box/unit"), "Trace: the id is null")
    assert message.topic == f"OPCPUBSUB/box/unit/{DEPTH}.Errors"
    body = orjson.loads(message.payload)
    assert body.pop("Kind") == "trace"
    assert body.pop("Error") is True
    assert body.pop("Value") == "Trace: the id is null"
    assert set(body.values()) == {None}


def test_topics_are_as_configured():
    config = MqttConfig.model_validate(
        {
            "listener": {"root": "site/hall"},
            "estimation": {"keypoints": "K", "depth_estimation": "D/E", "errors": "X"},
        }
    )
    formatter = ResultMessageFormatter(config)
    topics = [message.topic for message in formatter.error(finished(), "no")]
    topics += [message.topic for message in formatter.rejection(Route("heads", "b/t"), "no")]
    assert topics == ["site/hall/box/unit/K", "site/hall/box/unit/D/E", "site/hall/b/t/X"]


def test_a_long_id_is_repeated_whole():
    """Prevents ids that are cut or tidied like sentences: the consumer could not match them."""
    part_id = "a  b" + "x" * 900
    body = orjson.loads(FORMATTER.error(finished(part_id=part_id), "no")[0].payload)
    assert body["ResultId"] == part_id


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\r\n and\ttabs", "two lines and tabs"),
        ("nul\0 and \x1b[31mred", "nul and [31mred"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("x" * 300, "x" * 300),
        ("x" * 301, "x" * 299 + "…"),
        (" \n ", ""),
    ],
)
def test_sentences_are_one_short_clean_line(text, line):
    assert sentence(text) == line


WILD = st.text() | st.none() | st.floats() | st.integers() | st.booleans() | st.just("\ud800")


@given(
    reason=st.text(alphabet=st.characters(), max_size=2000),
    provenance=st.dictionaries(st.sampled_from(sorted(PROVENANCE)), WILD),
    part_id=st.text(alphabet=st.characters(), max_size=20),
)
@settings(deadline=None)
def test_whatever_the_reason_there_is_an_answer(reason, provenance, part_id):
    """Prevents a hole without answer because its error could not be written down."""
    subject = finished(provenance=provenance, part_id=part_id)
    for message in (
        *FORMATTER.error(subject, reason),
        *FORMATTER.rejection(Route("trace", "b/t"), reason),
    ):
        value = orjson.loads(message.payload)["Value"]
        assert value
        assert len(value) <= 300
        assert value.isprintable()
