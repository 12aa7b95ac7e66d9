"""The farm is stopped, started and killed, with its parts and its MQTT broker."""

from __future__ import annotations

import json
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
    assert_gone,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    paced,
    run_farm,
    settle,
)

from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.chaos


def _answered_now(site: Site, tool: Tool, timeout_s: float = 20.0) -> Hole:
    hole = tool.drill()
    site.send_hole(hole)
    site.wait_answered([hole], timeout_s)
    assert_depths(site, hole)
    return hole


# ---- stopping ------------------------------------------------------------------------------------


def test_sigterm_answers_what_was_accepted_and_leaves_nothing_behind(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: holes lost at each deployment, and processes that outlive their farm
    farm = start_farm(mosquitto.port, model="odd_models:Slow", environment=ODD_MODELS)
    tools = [Tool(), Tool("2025-06")]
    holes = [tool.drill() for _ in range(15) for tool in tools]
    for hole in holes:
        site.send_hole(hole)
    eventually(lambda: farm.stats()["holes"]["arrived"] == len(holes), 10, "all are accepted")
    assert farm.stats()["jobs"]["unanswered"] > 5, "the farm was too fast to test its draining"
    farm.signal(signal.SIGTERM)
    assert farm.wait() == 0
    assert_gone(farm.mark, timeout_s=0.5)
    site.echo()
    assert not site.missing(holes)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    [stopped] = farm.events("broker_stopped")
    assert stopped["unanswered"] == 0


def test_what_comes_while_the_farm_is_away_waits_for_its_return(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a session that is not persistent, or an acknowledgement during the drain
    farm = start_farm(mosquitto.port)
    tool = Tool()
    first = _answered_now(site, tool)
    state_dir = farm.home / "s"
    farm.signal(signal.SIGTERM)
    assert farm.wait() == 0
    waiting = [tool.drill() for _ in range(10)]
    for hole in waiting:
        site.send_hole(hole)
    site.wait_acknowledged()
    again = start_farm(mosquitto.port, state_dir=state_dir)
    site.wait_answered(waiting)
    settle(site, again)
    assert_one_answer_each(site, [first, *waiting])
    assert_order_kept(site, [first, *waiting])


def test_a_drain_that_takes_too_long_ends_at_its_limit_and_says_so(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a stop that never ends because of one hole
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:Slow",
        environment=ODD_MODELS,
        supervisor={"drain_timeout_s": 0.5},
    )
    tool = Tool()
    for _ in range(60):
        site.send_hole(tool.drill())
    eventually(lambda: farm.stats()["holes"]["arrived"] == 60, 10, "all are accepted")
    farm.signal(signal.SIGTERM)
    assert farm.wait(5) == 1
    assert farm.events("drain_timeout")
    [stopped] = farm.events("broker_stopped")
    assert stopped["unanswered"] > 0, "the log does not say what was left open"
    assert stopped["kept"]
    assert_gone(farm.mark, timeout_s=0.5)


def test_a_hole_whose_parts_come_before_and_after_a_restart_gets_one_good_answer(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: each restart under load turning good holes into errors, twice: one for the half
    # that had come, at the stop, and one for the half that came after the start
    farm = start_farm(mosquitto.port)
    hole = Tool().drill()
    first, *rest = hole.parts
    site.send(first)
    site.wait_acknowledged()
    eventually(lambda: farm.stats()["buffers"]["open_joins"] == 1, 5, "the first part is taken")
    state_dir = farm.home / "s"
    farm.signal(signal.SIGTERM)
    assert farm.wait() == 0
    again = start_farm(mosquitto.port, state_dir=state_dir)
    site.send(*rest)
    site.wait_answered([hole])
    settle(site, again)
    assert_one_answer_each(site, [hole])
    assert_depths(site, hole)


def test_a_second_sigterm_stops_at_once(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: an operator who can only kill -9
    farm = start_farm(mosquitto.port, workers=1, model="odd_models:Slow", environment=ODD_MODELS)
    tool = Tool()
    for _ in range(80):
        site.send_hole(tool.drill())
    eventually(lambda: farm.stats()["holes"]["arrived"] == 80, 10, "all are accepted")
    farm.signal(signal.SIGTERM)
    eventually(lambda: farm.events("draining"), 5, "the drain began")
    farm.signal(signal.SIGTERM)
    assert farm.wait(2) == 1
    assert_gone(farm.mark, timeout_s=0.5)


# ---- deaths --------------------------------------------------------------------------------------


def test_kill_9_of_the_supervisor_takes_its_children_along(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: an orphaned broker that steals the sockets and the MQTT session of the next farm
    farm = start_farm(mosquitto.port, workers=3)
    assert len(farm.processes()) == 6  # the supervisor, the nursery, the broker, three workers
    farm.signal(signal.SIGKILL)
    farm.wait()
    assert_gone(farm.mark, timeout_s=1)
    again = start_farm(mosquitto.port, state_dir=farm.state_dir)  # the lock went with it
    hole = _answered_now(site, Tool())
    settle(site, again)
    assert_one_answer_each(site, [hole])


def test_kill_9_of_the_broker_process_is_survived_by_the_farm(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: workers that never find the new broker, or a broker that is not started again
    farm = start_farm(mosquitto.port, workers=2, supervisor={"backoff_initial_s": 0.1})
    tool = Tool()
    before = _answered_now(site, tool)
    workers = sorted(farm.worker_pids())
    killed = farm.broker_pid()
    os.kill(killed, signal.SIGKILL)
    waiting = [tool.drill() for _ in range(5)]
    for hole in waiting:  # these wait in mosquitto, unacknowledged by the farm
        site.send_hole(hole)
    site.wait_answered(waiting)
    farm.wait_ready()
    assert farm.broker_pid() != killed
    assert sorted(farm.worker_pids()) == workers, "the workers need not be started again"
    after = _answered_now(site, tool)
    settle(site, farm)
    assert_one_answer_each(site, [before, *waiting, after])
    assert_order_kept(site, [before, *waiting, after])
    assert any("SIGKILL" in event["how"] for event in farm.events("process_ended"))


def test_unacknowledged_messages_come_again_after_kill_9_of_the_broker_process(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: an acknowledgement of what lies unread in the intake queue
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:Slow",
        environment=ODD_MODELS,
        overload={"max_open_jobs": 4},
        supervisor={"backoff_initial_s": 0.1},
    )
    tool = Tool()
    holes = [tool.drill() for _ in range(60)]
    for hole in holes:
        site.send_hole(hole)
    site.wait_acknowledged()
    eventually(lambda: farm.stats()["holes"]["published"] >= 5, 10, "some are answered")
    os.kill(farm.broker_pid(), signal.SIGKILL)
    site.wait_answered(holes, 30)
    farm.wait_ready()
    after = _answered_now(site, Tool())
    settle(site, farm)
    repeats = assert_one_answer_each(site, [*holes, after], repeats_allowed=True)
    print(f"repeated: {repeats}")  # noqa: T201 - for people


def test_a_stopped_broker_process_is_replaced(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that hangs with its broker and looks alive to supervisord
    farm = start_farm(
        mosquitto.port,
        workers=1,
        supervisor={"broker_timeout_s": 2.0, "backoff_initial_s": 0.1},
    )
    # the supervisor gives one that has never answered more time: it must have heard this one
    eventually(lambda: farm.stats()["up_s"] > 1.0, 5, "a broker that the supervisor knows")
    stopped = farm.broker_pid()
    os.kill(stopped, signal.SIGSTOP)
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole], 30)
    assert stopped not in farm.processes()
    assert any("did not answer" in event["why"] for event in farm.events("killing"))


# ---- two farms -----------------------------------------------------------------------------------


def test_a_second_farm_on_one_state_directory_is_refused(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: the second bind on an ipc path, which steals it in silence
    farm = start_farm(mosquitto.port, workers=1)
    second = start_farm(mosquitto.port, wait=False, state_dir=farm.state_dir)
    assert second.wait(10) == 4
    assert f"another farm (pid {farm.pid}) runs in {farm.state_dir}" in second.log
    assert "--state-dir" in second.log
    _answered_now(site, Tool())


def test_two_farms_with_one_mqtt_client_id_do_not_evict_each_other_for_ever(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: two farms that throw each other out of mosquitto, for ever and in silence
    broker = {"client_id": "farm-twice"}
    farms = [
        start_farm(mosquitto.port, workers=1, wait=wait, mqtt={"broker": broker})
        for wait in (True, False)
    ]

    def ended() -> list[Farm]:
        return [farm for farm in farms if farm.process and farm.process.poll() is not None]

    [loser] = eventually(ended, 20, "one of them gives way")
    [winner] = [farm for farm in farms if farm is not loser]
    assert loser.wait() == 9
    [told] = loser.events("mqtt_evicted")
    assert "client id" in told["cause"]
    assert "client_id" in told["cure"]
    assert_gone(loser.mark)
    winner.wait_ready()
    _answered_now(site, Tool())
    assert ended() == [loser], "one of them is enough"


# ---- farm stats ----------------------------------------------------------------------------------


def test_farm_stats_tells_by_its_exit_code_how_the_farm_is(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a monitor that sees 0 from a farm without MQTT, or a traceback where none runs
    farm = start_farm(mosquitto.port, workers=1)
    _answered_now(site, Tool())
    place = ("--state-dir", farm.state_dir)
    healthy = run_farm("stats", "--once", *place)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    assert "HEALTHY" in healthy.stdout
    as_json = run_farm("stats", "--json", *place)
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout)["holes"]["published"] == 1
    mosquitto.stop(signal.SIGKILL)
    eventually(lambda: farm.stats()["mqtt"]["state"] == "disconnected", 10, "the loss is noticed")
    unhealthy = run_farm("stats", "--once", *place)
    assert unhealthy.returncode == 5, unhealthy.stdout + unhealthy.stderr
    assert "MQTT" in unhealthy.stdout
    farm.signal(signal.SIGTERM)
    farm.wait()
    nobody = run_farm("stats", "--json", *place)
    assert nobody.returncode == 6
    assert "no farm answers" in nobody.stderr
    assert "Traceback" not in nobody.stderr


# ---- mosquitto -----------------------------------------------------------------------------------


def test_mosquitto_killed_and_restarted_under_load_costs_no_hole(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: acknowledgements across connections, answers lost in paho, holes that expire during
    # the outage
    farm = start_farm(mosquitto.port, workers=2, mqtt={"listener": {"time_window": 5.0}})
    tools = [Tool(), Tool("2025-06"), Tool("2024-12")]
    holes: list[Hole] = []
    # the units go on drilling through two outages of half a second
    todo = [(1.5, "kill"), (2.0, "start"), (4.0, "kill"), (4.5, "start")]
    for number, at_s in enumerate(paced(25, 6.0)):
        hole = tools[number % len(tools)].drill()
        site.send_hole(hole)
        holes.append(hole)
        if todo and at_s >= todo[0][0]:
            _, what = todo.pop(0)
            mosquitto.start() if what == "start" else mosquitto.stop(signal.SIGKILL)
    site.wait_acknowledged(30)
    site.wait_answered(holes, 30)
    settle(site, farm)
    repeats = assert_one_answer_each(site, holes, repeats_allowed=True)
    print(f"{len(holes)} holes, {repeats} answers repeated")  # noqa: T201 - for people
    shot = farm.stats()
    assert shot["mqtt"]["reconnects"] >= 2
    assert shot["state"] == "HEALTHY", shot["problems"]
    for hole in holes:
        assert_depths(site, hole)


def test_a_farm_that_starts_before_mosquitto_connects_once_it_is_there(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
) -> None:
    # prevents: an order of starting that must be kept, or a farm that ends in vain
    mosquitto = make_mosquitto()
    mosquitto.stop()
    farm = start_farm(mosquitto.port, workers=1, wait=False)
    eventually(farm.worker_pids, 20, "the worker is READY without MQTT")
    shot = farm.stats()
    assert shot["mqtt"]["state"] != "connected"
    assert any("MQTT" in problem for problem in shot["problems"])
    mosquitto.start()
    farm.wait_ready()
    assert farm.stats()["mqtt"]["protocol"] == "5"
    site = make_site(mosquitto.port)
    _answered_now(site, Tool())


def test_a_farm_without_mosquitto_still_stops_in_time(start_farm: Callable[..., Farm]) -> None:
    # prevents: a drain that waits for answers which nobody takes
    farm = start_farm(free_port(), workers=1, wait=False)
    eventually(farm.worker_pids, 20, "the worker is READY")
    farm.signal(signal.SIGTERM)
    assert farm.wait(10) == 0
