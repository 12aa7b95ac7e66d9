"""What `farm stats` shows of a flow, and what it calls healthy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fakes import make_flow, payload

from farm import wire
from farm.adapter import Answer, Finished, Status, Terminal
from farm.broker import snapshot
from farm.broker.roster import WorkerState
from farm.broker.tools import SHOWN
from farm.config import Config

if TYPE_CHECKING:
    from farm.broker.flow import Flow


@pytest.fixture
def flow() -> Flow:
    config = Config.model_validate({"correlation": {"optional_parts": "never"}})
    return make_flow(config)


def hire(flow: Flow, name: str, *, is_ready: bool = True) -> int:
    worker = flow.roster.hello(name=name, host="here", pid=int(name), local=True, now_s=0.0)
    if is_ready:
        flow.dispatcher.ready(worker, wire.Ready(worker.worker_id, "m1", "h1", 0.1, {}))
    return worker.worker_id


def shot(
    flow: Flow,
    now_s: float = 1.0,
    *,
    mqtt: str = "connected",
    failure: str = "",
    is_paused: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    settings = {"expected_workers": 1, "failed_slots": (), "is_starting": False}
    settings |= {"is_draining": False} | changes
    around = snapshot.Surroundings(
        instance="test",
        mqtt={"state": mqtt},
        intake={"queued": 0, "paused": is_paused},
        journal={"failure": failure},
        **settings,
    )
    return snapshot.build(flow, around, now_s=now_s, started_s=0.0)


def arrive(flow: Flow, kind: str, part_id: str) -> None:
    data = payload(part_id)
    flow.arrived(f"box/tool/{kind}", data, arrived_s=0.0, intake_s=0.0, now_s=0.0)


def test_what_the_supervisor_tells_of_its_nursery_is_shown(flow: Flow) -> None:
    told = {"state": "ready", "for_s": 3.0, "made": 1, "way": "fork", "cause": ""}
    assert shot(flow, nursery=told)["nursery"] == told
    assert shot(flow)["nursery"] == {}


def test_a_fresh_farm_can_be_shown_and_sent(flow: Flow) -> None:
    made = shot(flow)
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert wire.decode([wire.encode(wire.StatsReply(made))]) == wire.StatsReply(made)


@pytest.mark.parametrize(
    ("ready", "mqtt", "state", "problem"),
    [
        (1, "connected", "HEALTHY", None),
        (0, "connected", "UNHEALTHY", "no worker is READY"),
        (1, "disconnected", "UNHEALTHY", "MQTT is disconnected"),
    ],
)
def test_a_farm_without_workers_or_mqtt_is_not_healthy(
    flow: Flow, ready: int, mqtt: str, state: str, problem: str | None
) -> None:
    for name in range(ready):
        hire(flow, str(name + 1))
    made = shot(flow, mqtt=mqtt)
    assert made["state"] == state
    assert made["problems"] == ([problem] if problem else [])


def test_a_worker_that_loads_is_counted_as_missing(flow: Flow) -> None:
    hire(flow, "1")
    hire(flow, "2", is_ready=False)
    assert shot(flow, expected_workers=2)["problems"] == ["1 of 2 workers are READY"]


def test_starting_and_draining_are_told_apart_from_trouble(flow: Flow) -> None:
    assert shot(flow, is_starting=True)["state"] == "STARTING"
    assert shot(flow, is_draining=True)["state"] == "DRAINING"
    hire(flow, "1")
    assert shot(flow, is_starting=True)["state"] == "HEALTHY"


def test_a_backlog_that_nobody_works_on_is_falling_behind(flow: Flow) -> None:
    hire(flow, "1")
    for kind in ("result", "trace"):
        arrive(flow, kind, "7")
    made = shot(flow)
    assert made["state"] == "FALLING_BEHIND"
    assert made["throughput"]["backlog"] == 1
    assert "1 wait" in made["problems"][0]


def test_the_numbers_follow_a_hole_to_its_end(flow: Flow) -> None:
    worker_id = hire(flow, "1")
    arrive(flow, "result", "7")
    arrive(flow, "result", "8")
    made = shot(flow)
    assert made["buffers"] == {
        "parts_by_kind": {"result": 2, "trace": 0, "heads": 0},
        "open_joins": 2,
        "payload_bytes": 4,
    }
    arrive(flow, "trace", "7")
    made = shot(flow)
    assert (made["jobs"]["pending"], made["jobs"]["active"], made["jobs"]["unanswered"]) == (
        1,
        0,
        1,
    )
    batch = flow.dispatcher.next_jobs(0.0)
    flow.dispatcher.sent(batch, 0.5)
    flow.dispatcher.claimed(wire.Claim(worker_id, [entry.job_id for entry in batch]), 0.5)
    made = shot(flow)
    assert (made["jobs"]["pending"], made["jobs"]["active"]) == (0, 1)
    assert made["workers"][0]["state"] == WorkerState.BUSY.value
    assert made["workers"][0]["job_age_s"] == 0.5
    flow.dispatcher.finished(
        wire.Result(worker_id, batch[0].job_id, "ok", "42", "", {}, "m1", "h1", 0.1, 0.2), 1.0
    )
    assert shot(flow)["jobs"]["unconfirmed_publications"] == 1
    assert flow.publication(0.0) is not None
    flow.outbox.sent(1)
    letter = flow.outbox.confirmed(1, None)
    assert letter is not None
    flow.delivered(letter, 1.5)
    made = shot(flow, 2.0)
    assert made["holes"] == {
        "arrived": 1,
        "published": 1,
        "insufficient": 0,
        "shed": 0,
        "skipped": 0,
        "dead": 0,
    }
    assert made["jobs"]["completed"] == 1
    assert made["jobs"]["unanswered"] == 0
    assert made["latency"]["total"]["max_s"] == 1.5
    assert made["counts"]["paired"] == 1


def test_what_strangers_name_as_long_as_they_can_still_fits_into_a_reply(flow: Flow) -> None:
    """Prevents: `farm stats` that fails for all, since a stranger's names fill the frame."""
    long = "\U000e0001" * 990  # shown as its escape, ten characters each
    dead = Finished(long, long, Status.FAILED, None, long, {}, "", "")
    for number in range(2 * SHOWN):
        source = f"{number}{long}"
        flow.observation.tools.rejected(source, long, 1.0)
        flow.observation.answered(number, dead, Answer(Terminal.DEAD, (), alert=long), 1.0)
    for number in range(64):
        worker_id = hire(flow, str(number))
        arrive(flow, "result", f"{number}{long}")
        arrive(flow, "trace", f"{number}{long}")
        [entry, *_] = batch = flow.dispatcher.next_jobs(0.0)
        flow.dispatcher.sent(batch, 0.5)
        flow.dispatcher.claimed(wire.Claim(worker_id, [entry.job_id]), 0.5)
    made = shot(flow)
    assert any(row["job"] for row in made["workers"])
    assert len(wire.encode(wire.StatsReply(made))) < wire.MAX_HEAD_BYTES


def test_workers_are_listed_in_the_order_of_their_numbers(flow: Flow) -> None:
    for name in ("10", "9", "1"):
        hire(flow, name)
    assert [row["name"] for row in shot(flow)["workers"]] == ["1", "9", "10"]


def test_what_is_wrong_with_the_workers_on_ray_is_a_problem(flow: Flow) -> None:
    # prevents: `farm stats` that says 0 of 4 and not that there is no cluster
    hire(flow, "1")
    told = {"wanted": 2, "cause": "no Ray cluster answers at head:6379"}
    found = shot(flow, expected_workers=2, ready_workers=0, fleet=told)
    assert found["fleet"] == told
    assert found["problems"] == [
        "workers on Ray: no Ray cluster answers at head:6379",
        "0 of 2 workers are READY (and 1 on other machines)",
    ]
