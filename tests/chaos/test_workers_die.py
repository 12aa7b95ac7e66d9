"""Workers are killed, stopped, hung and crashed under load: every hole is answered all the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path
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
    assert_error,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    marked_hole,
    paced,
    settle,
)

from farm import models as farm_models
from farm.supervisor.restart import MAX_STILLBORN

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.chaos

RATE = 60.0  # holes a second
KILL_EVERY_S = 0.7
# Two of three workers can be too few for this load: nobody is to be overtaken for that.
PATIENT = {"objective_s": 60.0}


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One that carries the load of these tests; it is not the one that is killed."""
    return make_mosquitto(durable=False)


def _drive(site: Site, duration_s: float, each_hole: Callable[[float], None]) -> list[Hole]:
    """Publish holes of several tools at RATE, calling `each_hole` with the time after each."""
    tools = [Tool("2025-03") for _ in range(5)] + [Tool("2025-06"), Tool("2024-12")]
    holes = []
    for number, at_s in enumerate(paced(RATE, duration_s)):
        hole = tools[number % len(tools)].drill()
        site.send_hole(hole)
        holes.append(hole)
        each_hole(at_s)
    return holes


def test_kill_9_of_random_workers_under_load_loses_and_repeats_no_hole(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a hole lost with the worker that held it, computed and published twice, or overtaken
    rng = random.Random(3)
    farm = start_farm(
        mosquitto.port,
        workers=4,
        supervisor={"backoff_initial_s": 0.05, "restart_budget": 100},
    )
    killed: list[int] = []
    next_kill_s = KILL_EVERY_S

    def maybe_kill(at_s: float) -> None:
        nonlocal next_kill_s
        if at_s < next_kill_s:
            return
        next_kill_s += KILL_EVERY_S
        alive = [pid for pid in farm.worker_pids() if pid not in killed]
        if alive:
            killed.append(rng.choice(alive))
            os.kill(killed[-1], signal.SIGKILL)

    holes = _drive(site, 8.0, maybe_kill)
    assert len(killed) >= 6, "too few kills to prove anything"
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    for hole in holes:
        assert_depths(site, hole)
    farm.wait_ready()
    assert not set(killed) & set(farm.worker_pids())
    shot = farm.stats()
    told = {name: shot["counts"].get(name) for name in ("reclaimed", "bounces", "late_results")}
    print(told)  # noqa: T201 - for people
    assert shot["holes"]["arrived"] == shot["holes"]["published"] == len(holes)


def test_a_stopped_worker_is_fenced_and_replaced_and_its_hole_goes_to_another(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a worker that is alive and does nothing, holding its hole and its jobs for ever
    farm = start_farm(
        mosquitto.port,
        workers=3,
        more={
            "workers": {"heartbeat_timeout_s": 1.5, "heartbeat_interval_s": 0.3},
            "overload": PATIENT,
        },
    )
    stopped: list[int] = []

    def stop_one(at_s: float) -> None:
        if at_s >= 1.0 and not stopped:
            stopped.append(farm.worker_pids()[0])
            os.kill(stopped[0], signal.SIGSTOP)

    holes = _drive(site, 6.0, stop_one)
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    farm.wait_ready()
    assert stopped[0] not in farm.processes()
    assert farm.stats()["counts"]["workers_fenced"] == 1
    [fenced] = farm.events("worker_fenced")
    assert fenced["pid"] == stopped[0]
    assert "silent" in fenced["cause"]


def test_all_workers_stopped_at_once_come_back(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that counts dead workers as capacity and waits for ever
    farm = start_farm(
        mosquitto.port,
        workers=2,
        more={"workers": {"heartbeat_timeout_s": 1.5, "heartbeat_interval_s": 0.3}},
    )
    for pid in farm.worker_pids():
        os.kill(pid, signal.SIGSTOP)
    tool = Tool()
    holes = [tool.drill() for _ in range(20)]
    for hole in holes:
        site.send_hole(hole)
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)


def test_a_worker_that_is_stopped_while_the_broker_is_replaced_is_missed(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that is one worker short for ever, since the new broker never heard of it
    farm = start_farm(
        mosquitto.port,
        workers=2,
        more={
            "workers": {
                "heartbeat_timeout_s": 1.5,
                "heartbeat_interval_s": 0.3,
                "ready_timeout_s": 10.0,  # the supervisor may not have heard that it was READY
            }
        },
    )
    stopped, other = farm.worker_pids()
    os.kill(stopped, signal.SIGSTOP)
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: farm.worker_pids() == [other], 20, "a new broker that knows one worker")
    farm.wait_ready()
    assert stopped not in farm.processes()
    assert other in farm.worker_pids()
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        ("HangsOnMarked", "dispatch.job_timeout_s"),
        ("LoopsOnMarked", "dispatch.job_timeout_s"),
        ("HoldsGilOnMarked", "silent"),
        ("EndsOnMarked", "exit code 13"),
        ("SegfaultsOnMarked", "SIGSEGV"),
        ("EatsMemoryOnMarked", "workers.memory_limit_bytes"),
    ],
)
def test_a_hole_that_kills_its_workers_gets_an_error_and_the_others_their_value(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], model: str, cause: str
) -> None:
    # prevents: one poisonous hole that goes from worker to worker until none is left
    farm = start_farm(
        mosquitto.port,
        workers=3,
        model=f"odd_models:{model}",
        environment=ODD_MODELS,
        dispatch={"job_timeout_s": 3.0, "claim_timeout_s": 0.5, "max_attempts": 2},
        supervisor={"backoff_initial_s": 0.05},
        more={
            "workers": {
                "heartbeat_interval_s": 0.2,
                "heartbeat_timeout_s": 1.5,
                "memory_limit_bytes": 300_000_000,
            },
            "overload": PATIENT,
        },
    )
    sick, sound = Tool(), Tool()
    before, poison, after = sick.drill(), marked_hole(sick), sick.drill()
    others = [sound.drill() for _ in range(60)]
    for hole in (before, poison, after):
        site.send_hole(hole)
    for hole, _ in zip(others, paced(30, 2), strict=True):
        site.send_hole(hole)
    everything = [before, poison, after, *others]
    site.wait_answered(everything, 30)
    settle(site, farm)
    assert_one_answer_each(site, everything)
    assert_order_kept(site, everything)
    assert_error(site, poison, "2 workers", cause)
    for hole in (before, after, *others):
        assert_depths(site, hole)
    farm.wait_ready()
    shot = farm.stats()
    assert (shot["holes"]["dead"], shot["dead_letters"]) == (1, 1)


def test_a_worker_that_dies_right_after_its_result_is_not_blamed_on_the_hole(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a message lost with its sender taken for a hole that kills, and a good hole given up
    farm = start_farm(
        mosquitto.port,
        workers=2,
        model="odd_models:EndsAfterMarked",
        environment=ODD_MODELS,
        dispatch={"max_attempts": 2},
        supervisor={"backoff_initial_s": 0.05},
    )
    tool = Tool()
    # the first becomes the golden hole: a marked one would end each new worker, too
    holes = [tool.drill(), *(marked_hole(tool) for _ in range(6))]
    for hole in holes:
        site.send_hole(hole)
        site.wait_answered([hole])
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    for hole in holes:
        assert_depths(site, hole)


def test_a_model_that_kills_at_every_hole_is_suspected_instead_of_the_holes(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: a bad model that turns a shift's holes into dead letters, one after the other
    sign = tmp_path / "kills"
    sign.touch()
    farm = start_farm(
        mosquitto.port,
        workers=2,
        model="odd_models:KillsAlways",
        environment=ODD_MODELS | {"KILLS_WHILE": str(sign)},
        dispatch={"breaker_kills": 3, "breaker_pause_s": 2.0},
        supervisor={"backoff_initial_s": 0.05, "restart_budget": 100},
    )
    tools = [Tool() for _ in range(4)]
    holes = [tool.drill() for _ in range(5) for tool in tools]
    for hole in holes:
        site.send_hole(hole)
    eventually(
        lambda: any("model" in problem for problem in farm.stats().get("problems", ())),
        20,
        lambda: f"the model is suspected: {farm.stats().get('problems')}",
    )
    farm.wait_ready()  # nothing is sent to them: they live
    assert farm.stats()["holes"]["dead"] == 0
    spawned = len(farm.events("process_ended"))
    sign.unlink()  # as if the model had been mended
    site.wait_answered(holes, 40)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    for hole in holes:
        assert_depths(site, hole)
    assert len(farm.events("process_ended")) <= spawned + 2
    assert not any("model" in problem for problem in farm.stats()["problems"])


@pytest.mark.parametrize("when", ["idle", "computing"])
def test_kill_9_of_every_worker_at_once_costs_no_hole(
    when: str, mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: credit for workers that are gone, holes that wait for a claim of the dead
    farm = start_farm(
        mosquitto.port,
        workers=3,
        model="odd_models:Slow",
        environment=ODD_MODELS,
        supervisor={"backoff_initial_s": 0.05},
    )
    tools = [Tool() for _ in range(3)]
    holes = [tool.drill() for _ in range(5) for tool in tools]
    killed = farm.worker_pids()
    if when == "computing":
        for hole in holes:
            site.send_hole(hole)
        eventually(lambda: farm.stats()["jobs"]["active"] == 3, 10, "all workers compute")
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    if when == "idle":
        for hole in holes:
            site.send_hole(hole)
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    assert not set(killed) & set(farm.worker_pids())


def test_a_worker_that_is_stopped_for_a_moment_goes_on_and_nothing_comes_twice(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a late claim or result, of a hole that went to another meanwhile, taken for a second
    farm = start_farm(mosquitto.port, workers=2)
    pids = farm.worker_pids()
    stopped_s = 0.0

    def stop_and_go(at_s: float) -> None:
        nonlocal stopped_s
        if at_s >= 1.0 and not stopped_s:
            os.kill(pids[0], signal.SIGSTOP)
            stopped_s = at_s
        elif stopped_s and at_s >= stopped_s + 1.0:
            os.kill(pids[0], signal.SIGCONT)

    holes = _drive(site, 4.0, stop_and_go)
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    assert sorted(farm.worker_pids()) == sorted(pids), "a short stop must not cost a worker"


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_weights_that_can_not_be_trusted_end_the_farm_with_the_reason(
    damage: str, mosquitto: Mosquitto, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: a farm that answers with half a file of weights, or restarts over it for ever
    library = Path(farm_models.__file__).parent / "library" / "4"
    shutil.copytree(library, tmp_path / "models" / "77")
    folder = tmp_path / "models" / "77"
    files = [*folder.glob("*.safetensors"), *folder.glob("*.onnx")]  # a machine uses one of them
    assert len(files) >= 3
    for file in files:
        if damage == "missing":
            file.unlink()
        else:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 0xFF
            file.write_bytes(content)
    farm = start_farm(
        mosquitto.port,
        workers=1,
        wait=False,
        model="",
        more={"mqtt": {"processing": {"model_id": 77, "models_dir": str(tmp_path / "models")}}},
        supervisor={"backoff_initial_s": 0.05, "backoff_max_s": 0.1, "restart_budget": 1},
    )
    assert farm.wait(40) in (3, 7)
    assert any(file.name in farm.log for file in files)


def test_a_model_that_raises_costs_only_its_hole_and_no_worker(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a restart for each hole that a model does not like, or silence about it
    farm = start_farm(
        mosquitto.port, workers=1, model="odd_models:RaisesOnMarked", environment=ODD_MODELS
    )
    [pid] = farm.worker_pids()
    tool = Tool()
    before, poison, after = tool.drill(), marked_hole(tool), tool.drill()
    for hole in (before, poison, after):
        site.send_hole(hole)
    site.wait_answered([before, poison, after])
    settle(site, farm)
    assert_error(site, poison, "no feed on this hole")
    assert_depths(site, after)
    assert farm.worker_pids() == [pid]


def test_a_model_that_never_loads_ends_the_farm_with_7_and_its_reason(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that looks alive and will never answer, restarting for ever
    farm = start_farm(
        mosquitto.port,
        workers=2,
        wait=False,
        model="odd_models:NeverLoads",
        environment=ODD_MODELS,
        supervisor={"backoff_initial_s": 0.05, "backoff_max_s": 0.1, "restart_budget": 1},
    )
    assert farm.wait(30) == 7
    assert any("of another planet" in e["reason"] for e in farm.events("model_unusable"))
    assert farm.events("farm_hopeless")
    eventually(lambda: not farm.processes(), 3, "nothing is left")


def test_a_worker_that_crashes_at_every_start_is_given_up_and_the_others_go_on(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: a core that is busy with starts for ever; a farm that is short and does not say so
    for seat in range(2):
        (tmp_path / str(seat)).touch()
    farm = start_farm(
        mosquitto.port,
        workers=3,
        wait=False,
        model="odd_models:LacksSeats",
        environment=ODD_MODELS | {"SEATS": str(tmp_path)},
        supervisor={"backoff_initial_s": 0.02, "backoff_max_s": 0.05},
        more={"workers": {"launch": "exec"}},  # forked ones all have what the nursery could load
    )
    eventually(lambda: farm.events("gave_up"), 40, farm.last_lines)
    [given_up] = farm.events("gave_up")
    assert "exit code 13" in given_up["how"]
    starts = [e for e in farm.events("process_ended") if e["child"] == given_up["child"]]
    assert len(starts) == MAX_STILLBORN - 1
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    shot = eventually(
        lambda: (now := farm.stats()) and now["slots_failed"] and now, 5, "the slot is FAILED"
    )
    assert shot["state"] != "HEALTHY"
    assert any("FAILED" in problem for problem in shot["problems"]), shot["problems"]
    assert len(farm.worker_pids()) == 2
