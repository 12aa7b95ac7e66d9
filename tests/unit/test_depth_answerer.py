import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.adapter import Finished, Route, Status, Terminal
from farm.config import Config
from farm.drilling.answerer import NOT_ENOUGH, DepthAnswerer
from farm.models.model import depth_answer

GOOD = depth_answer([2.0, 10.0, 16.0])
BAD = depth_answer([10.0, 9.5, 16.0])


SURE = depth_answer(
    [2.0, 10.0, 16.0], sigma_mm=[0.06149, 0.1, 0.0], quality=0.98149, tip_mm=[1.9, 9.8, 15.49951]
)


def an_answerer(estimation=None, **validation) -> DepthAnswerer:
    mqtt = {"depth_validation": validation, "estimation": estimation or {}}
    return DepthAnswerer(Config.model_validate({"mqtt": mqtt}))


def finished(status=Status.OK, value=None, reason="") -> Finished:
    return Finished(
        source="box/unit",
        part_id="440",
        status=status,
        value=value,
        reason=reason,
        provenance={},
        model_version="net-1",
        model_hash="3f9a",
    )


def bodies(answer) -> list[dict]:
    return [orjson.loads(message.payload) for message in answer.publications]


def test_a_value_becomes_keypoints_and_depths():
    answer = an_answerer().answer(finished(value=GOOD), 0.0)
    assert answer.terminal is Terminal.PUBLISHED
    assert [body["Value"] for body in bodies(answer)] == [[2.0, 10.0, 16.0], [8.0, 6.0]]
    assert (answer.alert, answer.counts) == ("", ())


def test_a_model_may_add_to_its_answer():
    answer = an_answerer().answer(finished(value=dict(GOOD) | {"confidence": 0.9}), 0.0)
    assert answer.terminal is Terminal.PUBLISHED
    assert answer.counts == ()


def test_a_hole_of_one_material_has_two_keypoints_and_one_depth():
    """Prevents a single layer that is refused, or filled up to three keypoints."""
    value = depth_answer([2.0, 10.0], sigma_mm=[0.1, 0.2], quality=0.9, tip_mm=[1.5, 9.5])
    answer = an_answerer({"tip_keypoints": True}).answer(finished(value=value), 0.0)
    keypoints, depths = bodies(answer)
    assert (keypoints["Value"], depths["Value"]) == ([2.0, 10.0], [8.0])
    assert keypoints["Sigma"] == depths["Sigma"] == [0.1, 0.2]
    assert keypoints["TipKeyPoints"] == [1.5, 9.5]
    assert answer.counts == ()


def test_a_negative_depth_of_one_material_is_judged_like_any_other():
    """Prevents a single layer that slips past the operator's policy."""
    value = depth_answer([10.0, 9.5], sigma_mm=[0.1, 0.2], quality=0.1)
    answer = an_answerer(negative_depth_behavior="warning").answer(finished(value=value), 0.0)
    assert answer.counts == ("negative_depths",)
    for body in bodies(answer):
        assert body["Warning"] == "Negative depth: -0.5 mm"
        assert (body["Sigma"], body["Quality"]) == ([0.1, 0.2], 0.1)


def test_both_messages_tell_the_confidence_and_the_keypoints_alone_the_tip():
    """Prevents a depth that is used without knowing how sure it is."""
    keypoints, depths = bodies(
        an_answerer({"tip_keypoints": True}).answer(finished(value=SURE), 0.0)
    )
    for body in (keypoints, depths):
        assert (body["ModelHash"], body["Sigma"], body["Quality"]) == (
            "3f9a",
            [0.061, 0.1, 0.0],
            0.981,
        )
    assert keypoints["TipKeyPoints"] == [1.9, 9.8, 15.5]
    assert "TipKeyPoints" not in depths


def test_the_tip_is_told_only_where_the_site_asks_for_it():
    """Prevents a second set of keypoints in messages of consumers that know of one."""
    answer = an_answerer().answer(finished(value=SURE), 0.0)
    assert not any("TipKeyPoints" in body for body in bodies(answer))


NONSENSE = {"sigma_mm": "sure", "quality": math.nan, "tip_mm": [1.0]}


@pytest.mark.parametrize("extra", [{}, SURE, NONSENSE])
def test_without_confidence_the_answer_is_the_old_form_to_the_byte(extra):
    """Prevents a new field, or a count of what nobody asked for, at a site with the old form."""
    answerer = an_answerer({"confidence": False})
    answer = answerer.answer(finished(value=dict(extra) | dict(GOOD)), 0.0)
    head = b'{"SourceTimestamp":null,"MachineId":null,"ResultId":"440","HeadId":null,"Value":'
    assert [message.payload for message in answer.publications] == [
        head + b'[2.0,10.0,16.0],"AlgoVersion":"net-1"}',
        head + b'[8.0,6.0],"AlgoVersion":"net-1"}',
    ]
    assert answer.counts == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sigma_mm", [0.1, 0.2]),  # for three keypoints
        ("sigma_mm", [0.1, 0.2, 0.3, 0.4]),
        ("sigma_mm", []),
        ("sigma_mm", 0.1),
        ("sigma_mm", "0.1"),
        ("sigma_mm", {"0": 0.1, "1": 0.1, "2": 0.1}),
        ("sigma_mm", [0.1, math.nan, 0.1]),
        ("sigma_mm", [0.1, math.inf, 0.1]),
        ("sigma_mm", [0.1, -0.01, 0.1]),
        ("sigma_mm", [0.1, "0.1", 0.1]),
        ("sigma_mm", [0.1, None, 0.1]),
        ("sigma_mm", [0.1, True, 0.1]),
        ("sigma_mm", [0.1, 10**400, 0.1]),
        ("quality", -0.001),
        ("quality", 1.001),
        ("quality", math.nan),
        ("quality", -math.inf),
        ("quality", True),
        ("quality", "0.9"),
        ("quality", [0.9]),
        ("quality", 10**400),
        ("tip_mm", [1.0, 2.0]),
        ("tip_mm", [1.0, math.nan, 2.0]),
        ("tip_mm", "deep"),
    ],
)
def test_a_malformed_confidence_is_left_out_and_costs_nothing_else(key, value):
    """Prevents null or nonsense on the wire, and a hole without depths, from a user's model."""
    answerer = an_answerer({"tip_keypoints": True})
    answer = answerer.answer(finished(value=dict(SURE) | {key: value}), 0.0)
    good = answerer.answer(finished(value=SURE), 0.0)
    assert (answer.terminal, answer.counts) == (Terminal.PUBLISHED, ("invalid_confidence",))
    name = {"sigma_mm": "Sigma", "quality": "Quality", "tip_mm": "TipKeyPoints"}[key]
    for body, whole in zip(bodies(answer), bodies(good), strict=True):
        whole.pop(name, None)
        assert body == whole


def test_a_confidence_of_null_was_not_given():
    """Prevents the alarm of a counter where a model just does not know."""
    answer = an_answerer().answer(finished(value=dict(GOOD) | dict.fromkeys(NONSENSE)), 0.0)
    assert answer.counts == ()
    assert not any({"Sigma", "Quality"} & set(body) for body in bodies(answer))


@given(
    st.dictionaries(
        st.sampled_from(sorted(NONSENSE)),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.lists(inner, min_size=3, max_size=3),
            max_leaves=6,
        ),
    )
)
def test_whatever_the_confidence_the_message_is_valid(extra):
    """Prevents a null, an infinity or an exception in the broker about a user's model."""
    answer = an_answerer({"tip_keypoints": True}).answer(finished(value=dict(GOOD) | extra), 0.0)
    assert [body["Value"] for body in bodies(answer)] == [[2.0, 10.0, 16.0], [8.0, 6.0]]
    for body in bodies(answer):
        assert all(0 <= number < math.inf for number in body.get("Sigma", [0, 0, 0]))
        assert 0 <= body.get("Quality", 0) <= 1


@pytest.mark.parametrize("given_", [{}, {"sigma_mm": [0.1, 0.2]}, {"quality": 0.5}])
def test_a_depth_answer_leaves_out_what_is_not_known(given_):
    """Prevents nulls in the answers of models that give keypoints alone."""
    assert depth_answer([1, 2], **given_) == {"keypoints_mm": [1.0, 2.0]} | given_


@pytest.mark.parametrize(
    ("status", "reason", "terminal", "value"),
    [
        (Status.INSUFFICIENT, "Only one step", Terminal.INSUFFICIENT, "Only one step"),
        (Status.INSUFFICIENT, "", Terminal.INSUFFICIENT, NOT_ENOUGH),
        (Status.FAILED, "Trace: the message is cut short", Terminal.DEAD, "Trace: the message"),
    ],
)
def test_a_hole_without_value_is_answered_with_the_reason(status, reason, terminal, value):
    answer = an_answerer().answer(finished(status, reason=reason), 0.0)
    assert answer.terminal is terminal
    assert len(answer.publications) == 2
    for body in bodies(answer):
        assert body["Value"].startswith(value)
        assert body["Error"] is True
        assert body["ModelHash"] == "3f9a"
        assert not {"Sigma", "Quality"} & set(body)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1.0, 2.0, 3.0],
        "deep",
        {},
        {"keypoints": [1.0, 2.0]},
        depth_answer([1.0]),
        depth_answer([1.0, math.nan, 3.0]),
        {"keypoints_mm": [1.0, None]},
    ],
)
def test_a_value_that_is_no_depth_is_a_dead_letter_with_its_reason(value):
    """Prevents null depths on the wire, and an exception in the broker about a user's model."""
    answer = an_answerer().answer(finished(value=value), 0.0)
    assert answer.terminal is Terminal.DEAD
    assert answer.counts == ("invalid_values",)
    assert [body["Error"] for body in bodies(answer)] == [True, True]
    assert all(body["Value"].startswith("The model") for body in bodies(answer))


@pytest.mark.parametrize(
    ("behaviour", "terminal", "messages", "warning"),
    [
        ("publish", Terminal.PUBLISHED, 2, None),
        ("skip", Terminal.SKIPPED, 0, None),
        ("warning", Terminal.PUBLISHED, 2, "Negative depth: -0.5 mm"),
    ],
)
def test_negative_depths_end_as_the_operator_chose(behaviour, terminal, messages, warning):
    answerer = an_answerer(negative_depth_behavior=behaviour, sequential_threshold=2)
    first = answerer.answer(finished(value=BAD), 0.0)
    assert (first.terminal, len(first.publications)) == (terminal, messages)
    assert [body.get("Warning") for body in bodies(first)] == [warning] * messages
    assert (first.counts, first.alert) == (("negative_depths",), "")
    second = answerer.answer(finished(value=BAD), 1.0)
    assert second.counts == ("negative_depths", "negative_runs")
    assert "box/unit: 2 negative depths in a row" in second.alert
    assert answerer.statistics["negative_runs"] == 1


def test_a_part_of_no_hole_is_reported_once():
    (message,) = an_answerer().reject(Route("heads", "box/unit"), "Heads: the message is empty")
    assert orjson.loads(message.payload)["Value"] == "Heads: the message is empty"
