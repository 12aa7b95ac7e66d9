import math

import orjson
import pytest

from farm.adapter import Finished, Route, Status, Terminal
from farm.config import Config
from farm.drilling.answerer import NOT_ENOUGH, DepthAnswerer
from farm.models.model import depth_answer

GOOD = depth_answer([2.0, 10.0, 16.0])
BAD = depth_answer([10.0, 9.5, 16.0])


def an_answerer(**validation) -> DepthAnswerer:
    return DepthAnswerer(Config.model_validate({"mqtt": {"depth_validation": validation}}))


def finished(status=Status.OK, value=None, reason="") -> Finished:
    return Finished(
        source="box/unit",
        part_id="440",
        status=status,
        value=value,
        reason=reason,
        provenance={},
        model_version="net-1",
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
