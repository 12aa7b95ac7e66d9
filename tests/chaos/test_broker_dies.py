"""The broker process is killed at the worst moments: no hole is lost, no answer changes."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from rig import (
    ODD_MODELS,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    paced,
    settle,
)

from farm.failpoints import NAMES, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.chaos

RATE = 40.0  # holes a second
KILLS = 20
LIFE_S = 0.25  # from the first hole of a life to its end
# A busy machine starts a broker in seconds. Without a bound the backlog of those would outlast the
# kills by far, a life at a time; twice what a calm machine has open changes nothing there.
MOST_OPEN = 100
KILLING_S = 240.0  # for all of them, at the most: on a calm machine it takes 30
LOOK_EVERY = 20  # holes
UNDER_WAY = 6  # both answers of a hole of each tool
QUICK = {"backoff_initial_s": 0.02, "restart_budget": 1000}
# A hole waits through the lives in which it is not answered: none is to be overtaken for that.
PATIENT = {"objective_s": 60.0}


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One that carries the load of these tests; it is not the one that is killed."""
    return make_mosquitto(durable=False)


def _deaths(farm: Farm) -> int:
    ended = farm.events("process_ended")
    return sum(event["child"] == "broker" and "SIGKILL" in event["how"] for event in ended)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", NAMES)
def test_twenty_kills_at_one_point_lose_no_hole_and_change_no_answer(
    point: str, mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a hole acknowledged before it is on disk, an answer published before it is recorded
    # or forgotten after, a second answer with other bytes, an order that a restart turns round
    farm = start_farm(
        mosquitto.port,
        workers=2,
        supervisor=QUICK,
        overload=PATIENT,
        # else what is under way at a kill depends on how quick mosquitto is
        mqtt={"broker": {"max_inflight": UNDER_WAY}},
        environment={VARIABLE: f"{point}:{LIFE_S}"},
    )
    tools = [Tool(), Tool("2025-06"), Tool("2024-12")]
    holes: list[Hole] = []
    is_held_back = False
    for number, _ in enumerate(paced(RATE, KILLING_S)):
        if number % LOOK_EVERY == 0:
            if _deaths(farm) >= KILLS:
                break
            is_held_back = len(site.missing(holes)) > MOST_OPEN
        if not is_held_back:
            holes.append(tools[len(holes) % len(tools)].drill())
            site.send_hole(holes[-1])
    assert _deaths(farm) >= KILLS, f"only {_deaths(farm)} kills:\n{farm.last_lines()}"
    site.wait_acknowledged()
    site.wait_answered(holes, 60)
    settle(site, farm)
    repeats = assert_one_answer_each(site, holes, repeats_allowed=True)
    for hole in holes:
        assert_depths(site, hole)
    assert_order_kept(site, holes)
    print(f"{point}: {len(holes)} holes, {_deaths(farm)} kills, {repeats} repeats")  # noqa: T201
    may_repeat = point == "published"
    assert may_repeat or repeats <= 2 * _deaths(farm) * len(tools), "more than was under way"


def test_what_was_acknowledged_and_not_paired_outlives_the_broker(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: half a hole that dies with the memory, and an error for the half that comes later
    farm = start_farm(mosquitto.port, supervisor=QUICK)
    tool = Tool()
    holes = [tool.drill() for _ in range(5)]
    for hole in holes:
        site.send(hole.parts[0])
    site.wait_acknowledged()
    eventually(lambda: farm.stats()["buffers"]["open_joins"] == 5, 5, "the first parts are taken")
    eventually(lambda: not farm.stats()["intake"]["unacknowledged"], 5, "they are acknowledged")
    os.kill(farm.broker_pid(), signal.SIGKILL)
    for hole in holes:
        site.send(*hole.parts[1:])
    site.wait_answered(holes)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    for hole in holes:
        assert_depths(site, hole)


def test_a_backlog_outlives_the_whole_farm(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: kill -9 of everything at once that takes what was accepted along
    farm = start_farm(mosquitto.port, workers=1, model="odd_models:Slow", environment=ODD_MODELS)
    tool = Tool()
    holes = [tool.drill() for _ in range(60)]
    for hole in holes:
        site.send_hole(hole)
    site.wait_acknowledged()
    eventually(lambda: farm.stats()["holes"]["arrived"] == 60, 10, "all are accepted")
    for pid in farm.processes():
        os.kill(pid, signal.SIGKILL)
    farm.wait()
    again = start_farm(mosquitto.port, state_dir=farm.state_dir)
    site.wait_answered(holes)
    settle(site, again)
    assert_one_answer_each(site, holes, repeats_allowed=True)
    assert_order_kept(site, holes)
    [recovered] = again.events("journal_recovered")
    assert recovered["unanswered"] > 0


def test_a_drain_that_is_cut_short_loses_nothing(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a deployment with a backlog that throws it away
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:Slow",
        environment=ODD_MODELS,
        supervisor={"drain_timeout_s": 0.5},
    )
    tool = Tool()
    holes = [tool.drill() for _ in range(60)]
    for hole in holes:
        site.send_hole(hole)
    eventually(lambda: farm.stats()["holes"]["arrived"] == 60, 10, "all are accepted")
    farm.signal(signal.SIGTERM)
    assert farm.wait(10) == 1
    [stopped] = farm.events("broker_stopped")
    assert stopped["kept"], "the log must say that what is left open is kept"
    again = start_farm(mosquitto.port, state_dir=farm.state_dir)
    site.wait_answered(holes)
    settle(site, again)
    assert_one_answer_each(site, holes, repeats_allowed=True)


def test_runs_of_negative_depths_go_on_over_a_restart(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a unit with a broken bit whose run of negatives begins anew with each restart
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:NegativeDepths",
        environment=ODD_MODELS,
        supervisor=QUICK,
        more={"mqtt": {"depth_validation": {"sequential_threshold": 4}}},
    )
    tool = Tool()
    first = [tool.drill() for _ in range(3)]
    for hole in first:
        site.send_hole(hole)
    site.wait_answered(first)
    settle(site, farm)
    assert not farm.stats()["counts"].get("negative_runs")
    os.kill(farm.broker_pid(), signal.SIGKILL)
    fourth = tool.drill()
    site.send_hole(fourth)
    site.wait_answered([fourth])
    assert farm.stats()["counts"]["negative_runs"] == 1
    assert [event["source"] for event in farm.events("alert")] == [tool.source]
