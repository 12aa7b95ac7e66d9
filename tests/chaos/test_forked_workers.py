"""Workers forked from a nursery: what they take along, and what the end of each part costs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml
from rig import (
    KEYPOINTS,
    ODD_MODELS,
    Farm,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_gone,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    marked_hole,
    paced,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.chaos

RATE = 40.0  # holes a second
ZMQ_THREADS = 2  # of the one context that a worker makes: its reaper and its I/O
OWN_THREADS = 2  # the compute loop and the reader


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One that carries the load of these tests."""
    return make_mosquitto(durable=False)


def nursery_pid(farm: Farm) -> int:
    """Of the newest nursery that is ready."""
    return int(farm.events("nursery_ready")[-1]["pid"])


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has beside its standard ones, as the kernel names them."""
    targets = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets[int(link.name)] = str(link.readlink())
        except FileNotFoundError:
            continue
    return {t for number, t in targets.items() if number > 2 and t.startswith("socket:")}


def test_ten_workers_are_forked_from_one_nursery_and_inherit_neither_socket_nor_thread(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: ten models in memory; ZeroMQ sockets shared by accident, which mix up messages
    farm = start_farm(mosquitto.port, workers=10)
    pids = farm.worker_pids()
    nursery = nursery_pid(farm)
    assert len(list(Path(f"/proc/{nursery}/task").iterdir())) == 1
    [control] = sockets_of(nursery)
    seen = sockets_of(farm.pid) | {control}
    for pid in pids:
        worker = psutil.Process(pid)
        assert worker.ppid() == farm.pid  # so that its exit code is known
        assert os.getpgid(pid) == pid
        assert worker.num_threads() == ZMQ_THREADS + OWN_THREADS
        assert worker.cmdline()[:3] == ["farm", "worker", "--name"]
        assert worker.name().startswith("farm worker ")
        own = sockets_of(pid)
        assert not own & seen, "a socket of another process"
        seen |= own
        assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    assert len({psutil.Process(pid).cmdline()[3] for pid in pids}) == 10
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    assert_depths(site, hole)
    assert not farm.events("workers_by_exec")


def test_kill_9_of_the_nursery_under_load_costs_no_worker_and_a_new_one_comes(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: ten workers that go with the process that they came from
    farm = start_farm(mosquitto.port, workers=3)
    pids = sorted(farm.worker_pids())
    former = nursery_pid(farm)
    tools = [Tool() for _ in range(4)]
    holes = []
    for number, _ in enumerate(paced(RATE, 5.0)):
        holes.append(tools[number % len(tools)].drill())
        site.send_hole(holes[-1])
        if number == int(RATE):
            os.kill(former, signal.SIGKILL)
    eventually(lambda: len(farm.events("nursery_ready")) == 2, 30, farm.last_lines)
    assert sorted(farm.worker_pids()) == pids
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: len(set(farm.worker_pids()) - {pids[0]}) == 3, 20, "its successor is READY")
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    assert nursery_pid(farm) != former
    [ended] = farm.events("nursery_ended")
    assert "SIGKILL" in ended["how"]


def test_a_nursery_that_is_stopped_is_replaced_and_the_worker_comes_by_itself(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that loses its workers one by one, each waiting for a fork that never comes
    farm = start_farm(mosquitto.port, workers=2)
    former = nursery_pid(farm)
    [killed, other] = farm.worker_pids()
    os.kill(former, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: len(set(farm.worker_pids()) - {killed}) == 2, 40, farm.last_lines)
    [successor] = set(farm.worker_pids()) - {other}
    assert "-m" in psutil.Process(successor).cmdline()  # by exec
    eventually(lambda: len(farm.events("nursery_ready")) == 2, 30, farm.last_lines)
    assert former not in farm.processes()
    told = eventually(
        lambda: (now := farm.stats()["nursery"])["state"] == "ready" and now, 10, "it is told"
    )
    assert (told["made"], told["way"]) == (2, "fork")
    assert told["cause"] == "killed by the supervisor (SIGKILL)"


def test_new_settings_reach_forked_workers(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: workers that go on with the model which their nursery had loaded before
    settings = {"model": "odd_models:Offset", "model_settings": {"entry_mm": 3.0}}
    farm = start_farm(mosquitto.port, workers=2, environment=ODD_MODELS, **settings)
    former = nursery_pid(farm)
    kept = yaml.safe_load(farm.config_file.read_text())
    farm.config_file.write_text(yaml.safe_dump(kept | {"model_settings": {"entry_mm": 4.5}}))
    farm.signal(signal.SIGHUP)
    eventually(lambda: farm.events("reloaded"), 40, farm.last_lines)
    assert nursery_pid(farm) != former
    eventually(lambda: former not in farm.processes(), 10, "the former nursery has left")
    for pid in farm.worker_pids():
        assert psutil.Process(pid).cmdline()[:2] == ["farm", "worker"]  # forked
    assert not farm.events("worker_loads_itself")
    tool = Tool()
    holes = [tool.drill() for _ in range(6)]
    for hole in holes:
        site.send_hole(hole)
    site.wait_answered(holes)
    for hole in holes:
        assert site.answers()[hole.key][KEYPOINTS][0].body["Value"][0] == 4.5


def test_new_weights_under_the_old_name_reach_forked_workers_with_a_reload(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: an operator who replaces the weights, reads `reloaded`, and gets the old answers
    weights = tmp_path / "weights"
    weights.write_text("3.0")
    settings = {"model": "odd_models:OffsetOfFile", "model_settings": {"weights": str(weights)}}
    farm = start_farm(mosquitto.port, workers=2, environment=ODD_MODELS, **settings)
    former = nursery_pid(farm)
    weights.write_text("4.5")
    farm.signal(signal.SIGHUP)
    eventually(lambda: farm.events("reloaded"), 40, farm.last_lines)
    eventually(lambda: former not in farm.processes(), 10, "the former nursery has left")
    holes = [Tool().drill() for _ in range(4)]
    for hole in holes:
        site.send_hole(hole)
    site.wait_answered(holes)
    entries = [site.answers()[hole.key][KEYPOINTS][0].body["Value"][0] for hole in holes]
    assert entries == [4.5] * 4
    weights.write_text("no number")
    farm.signal(signal.SIGHUP)
    eventually(lambda: farm.events("reload_taken_back"), 40, farm.last_lines)
    assert len(farm.worker_pids()) == 2
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    assert site.answers()[hole.key][KEYPOINTS][0].body["Value"][0] == 4.5


@pytest.mark.parametrize(
    ("model", "how"), [("EndsOnMarked", "exit code 13"), ("SegfaultsOnMarked", "SIGSEGV")]
)
def test_how_a_forked_worker_ended_is_known(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], model: str, how: str
) -> None:
    # prevents: an operator who reads of dead workers and never why, since they were another's
    farm = start_farm(
        mosquitto.port,
        workers=2,
        model=f"odd_models:{model}",
        environment=ODD_MODELS,
        dispatch={"max_attempts": 1},
    )
    poison = marked_hole(Tool())
    site.send_hole(poison)
    site.wait_answered([poison])
    [ended] = eventually(lambda: farm.events("process_ended"), 10, farm.last_lines)
    assert how in ended["how"]
    farm.wait_ready()


def test_the_end_of_the_supervisor_ends_forked_workers_and_the_nursery(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> None:
    # prevents: orphans that hold the state directory's sockets against the next farm
    farm = start_farm(mosquitto.port, workers=3)
    farm.signal(signal.SIGKILL)
    assert farm.wait() == -signal.SIGKILL
    assert_gone(farm.mark)


def test_a_model_with_a_thread_runs_in_workers_of_their_own(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a fork that hangs on a lock which a thread held that it did not take along
    farm = start_farm(
        mosquitto.port, workers=2, model="odd_models:HasAThread", environment=ODD_MODELS
    )
    [told] = farm.events("workers_by_exec")
    assert "thread" in told["cause"]
    assert all("-m" in psutil.Process(pid).cmdline() for pid in farm.worker_pids())
    assert not farm.events("nursery_ended")
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    assert_depths(site, hole)


def test_launched_by_exec_there_is_no_nursery(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    farm = start_farm(mosquitto.port, workers=2, more={"workers": {"launch": "exec"}})
    commands = [psutil.Process(pid).cmdline() for pid in farm.processes()]
    assert not [words for words in commands if "nursery" in words]
    assert not farm.events("nursery_ready")
    assert all("-m" in psutil.Process(pid).cmdline() for pid in farm.worker_pids())
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    assert_depths(site, hole)


def test_what_a_model_has_asked_for_at_its_end_is_done_in_forked_workers(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: a model's last words lost, since a forked worker ends without taking itself apart
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:SaysGoodbye",
        environment=ODD_MODELS | {"GOODBYES": str(tmp_path)},
    )
    [pid] = farm.worker_pids()
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    farm.signal(signal.SIGTERM)
    assert farm.wait() == 0
    assert (tmp_path / str(pid)).exists()
