"""The sentence on top of `farm stats`, and what it says is to be done."""

from __future__ import annotations

from typing import Any

import pytest
from shots import busy_shot

from farm.telemetry.together import together
from farm.telemetry.verdict import Remark, verdict


def told(**changes: Any) -> str:
    """The sentence, of a busy farm with sections changed."""
    return verdict(changed(busy_shot(), changes)).sentence


def changed(shot: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        if isinstance(value, dict):
            shot[key] = shot[key] | value
        else:
            shot[key] = value
    return shot


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "Keeps up: 12.0 holes/s arrive, 12.1 are answered, none waits."),
        (
            {"throughput": {"backlog": 2}},
            "Keeps up: 12.0 holes/s arrive, 12.1 are answered, 2 wait.",
        ),
        (
            {"throughput": {"backlog": 600, "processing_rate": 32.0, "drain_s": 30.0}},
            (
                "Works off a backlog: 600 wait, drained in 30 s; 12.0 holes/s arrive, 32.0 are "
                "answered."
            ),
        ),
        (
            {
                "state": "FALLING_BEHIND",
                "throughput": {"arrival_rate": 40.0, "processing_rate": 27.5, "backlog": 512},
            },
            "Falling behind by 12.5 holes/s: 40.0 arrive, 27.5 are answered, 512 wait.",
        ),
        (
            {
                "state": "FALLING_BEHIND",
                "throughput": {"arrival_rate": 0.0, "processing_rate": 0.0, "backlog": 1},
            },
            "Stands still: 1 hole waits, none is answered.",
        ),
        (
            {"state": "UNHEALTHY", "mqtt": {"state": "disconnected"}},
            "Takes nothing in: MQTT is disconnected. 18 holes are still to be answered.",
        ),
        (
            {"state": "UNHEALTHY", "intake": {"paused": True}, "jobs": {"unanswered": 0}},
            "Takes nothing in: an operator has paused it. No hole is open.",
        ),
        (
            {"state": "DRAINING"},
            "Draining: takes in nothing new, 18 holes to be answered, in about 1 s.",
        ),
        ({"state": "STARTING"}, "Starting: 4 of 4 workers are READY."),
        (
            {"throughput": {"arrival_rate": 0.0, "processing_rate": 0.0},
             "tools": {"rows": [{"silent_s": 200.0}, {"silent_s": None}]}},
            "Nothing to do: the last message came 3 min 20 s ago.",
        ),
        (
            {"throughput": {"arrival_rate": 0.0, "processing_rate": 0.0}, "tools": {"rows": []}},
            "Nothing to do: no message has come yet.",
        ),
    ],
)  # fmt: skip
def test_the_sentence_says_whether_it_keeps_up(changes: dict[str, Any], sentence: str) -> None:
    """Numbers that everybody must read for himself, at three in the morning."""
    assert told(**changes) == sentence


def test_a_farm_that_falls_behind_is_told_how_many_workers_would_do() -> None:
    """Advice by guess: 40 holes/s of 61.9 ms are 2.5 busy workers, 3.5 of them at 70 %."""
    shot = busy_shot(is_behind=True)
    for row in shot["workers"][1:]:
        row["state"] = "loading"
    cures = [remark.cure for remark in verdict(shot).remarks]
    assert "about 4 workers would keep up: farm scale 4, if there are cores" in cures


def test_where_mqtt_is_what_is_slow_no_workers_are_asked_for() -> None:
    """More workers for a broker whose disk is slow."""
    shot = busy_shot(is_behind=True)
    shot["jobs"] |= {"pending": 0, "unconfirmed_publications": 400}
    [first, *_] = verdict(shot).remarks
    assert first == Remark(
        "", "the workers are done: the MQTT broker is slow to confirm the answers"
    )


def test_what_is_said_on_top_is_not_said_again_below() -> None:
    remarks = verdict(busy_shot(is_behind=True)).remarks
    assert not [each for each in remarks if each.problem.startswith("falling behind")]


def test_a_slow_worker_is_named_in_an_overload_alone() -> None:
    """A worker that is blamed for having nothing to do."""
    behind = [each.problem for each in verdict(busy_shot(is_behind=True)).remarks]
    assert "worker 4 is slow: 0.4 holes/s, others 3.8" in behind
    assert not [each for each in verdict(busy_shot()).remarks if "slow" in each.problem]


def test_each_problem_has_its_cure_beside_it() -> None:
    """A problem without a word of what to do."""
    shot = busy_shot()
    shot["mqtt"] |= {"state": "disconnected", "reason": "Connection refused"}
    shot["workers"] = []
    shot["problems"] = ["MQTT is disconnected", "no worker is READY", "worker 3 is FAILED, …"]
    remarks = verdict(shot).remarks
    assert len(remarks) == 3 + 1  # and the dead letters
    assert all(each.problem and each.cure for each in remarks)
    assert "Connection refused" in remarks[0].cure
    assert "farm dead list" in remarks[3].cure


def test_a_worker_that_is_started_again_and_again_is_named() -> None:
    """A farm that is healthy each time one looks, between two crashes."""
    shot = busy_shot() | {"up_s": 120.0}
    shot["workers"][2] |= {"restarts": 4, "last_end": "killed by SIGSEGV"}
    [found] = [each for each in verdict(shot).remarks if "started again" in each.problem]
    assert found == Remark(
        "worker 3 was started again 4 times in 2 min", "the last one ended by: killed by SIGSEGV"
    )
    shot["up_s"] = 86_400.0
    assert not [each for each in verdict(shot).remarks if "started again" in each.problem]


def test_several_farms_have_one_sentence() -> None:
    one = together({"/a": busy_shot(), "/b": busy_shot(is_behind=True)})
    assert verdict(one).sentence == (
        "Falling behind by 12.4 holes/s: 52.0 arrive, 39.6 are answered, 512 wait."
    )


def test_a_farm_that_does_not_answer_is_said_first() -> None:
    """A site whose sentence is that of two of its three farms."""
    one = together({"/a": busy_shot(), "/b": None, "/c": busy_shot()})
    assert verdict(one).sentence.startswith("1 of 3 farms does not answer. Keeps up: 24.0 holes/s")
    assert verdict(one).style == "bold red"
    behind = together({"/a": busy_shot(is_behind=True), "/b": None})
    assert verdict(behind).sentence.startswith("1 of 2 farms does not answer. Falling behind by")
