"""What an operator does to a farm under load: pause, scale, reload. No hole is lost or repeated."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rig import (
    ODD_MODELS,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    paced,
    run_farm,
    settle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.chaos

RATE = 40.0  # holes a second


@pytest.fixture
def mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One that carries the load of these tests."""
    return make_mosquitto(durable=False)


class Load:
    """Drills at RATE beside the test, from `begin` to `end`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._holes: list[Hole] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def begin(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        tools = [Tool() for _ in range(4)]
        for number, _ in enumerate(paced(RATE, 60.0)):
            if self._is_over.is_set():
                return
            hole = tools[number % len(tools)].drill()
            self._site.send_hole(hole)
            self._holes.append(hole)

    def end(self) -> list[Hole]:
        self.stop()
        assert len(self._holes) > 20, "too few holes to prove anything"
        return self._holes


@pytest.fixture
def load(site: Site) -> Iterator[Load]:
    """Not begun; ended with the test."""
    made = Load(site)
    yield made
    made.stop()


def _order(farm: Farm, *words: object) -> None:
    done = run_farm(*words, "--state-dir", farm.state_dir)
    assert done.returncode == 0, done.stderr


def _change(farm: Farm, **settings: Any) -> None:
    kept = yaml.safe_load(farm.config_file.read_text())
    farm.config_file.write_text(yaml.safe_dump(kept | settings))


def _check(site: Site, farm: Farm, holes: list[Hole]) -> None:
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)
    shot = farm.stats()
    assert shot["holes"]["arrived"] == shot["holes"]["published"] == len(holes)


def _came(farm: Farm, event: str) -> Callable[[], list[dict[str, Any]]]:
    return lambda: farm.events(event)


def test_workers_are_replaced_under_load_and_nobody_notices(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], load: Load
) -> None:
    # prevents: holes lost or held up while a model is changed, a gap without workers
    farm = start_farm(mosquitto.port, workers=2, environment=ODD_MODELS)
    before = farm.worker_pids()
    load.begin()
    eventually(lambda: farm.stats()["holes"]["published"] > 10, 20, "some holes")
    _change(farm, model="odd_models:GradientRule")
    _order(farm, "reload")
    eventually(_came(farm, "reloaded"), 40, farm.last_lines)
    assert not set(before) & set(farm.worker_pids())
    _check(site, farm, load.end())
    [begun] = farm.events("reload_begun")
    assert begun["changed"] == ["model"]
    # never fewer than two that serve
    readies = [one["ready"] for one in farm.events("worker_ready")]
    assert readies[2:] == [3, 3]


def test_a_wrong_configuration_is_refused_and_the_farm_goes_on(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], load: Load
) -> None:
    # prevents: a slip in an editor that ends a running farm, at once or at the next restart
    farm = start_farm(mosquitto.port, workers=2)
    before = farm.worker_pids()
    load.begin()
    good = farm.config_file.read_text()
    farm.config_file.write_text(good + "dispatch:\n  max_atempts: 3\n")
    farm.signal(signal.SIGHUP)
    [refused] = eventually(_came(farm, "reload_refused"), 10, farm.last_lines)
    assert "max_attempts" in refused["reason"], refused  # it names the key that was meant
    assert farm.worker_pids() == before
    # also what is started again does not read the wrong file
    os.kill(before[0], signal.SIGKILL)
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: before[0] not in farm.worker_pids(), 10, "the old worker is gone")
    farm.wait_ready()
    holes = load.end()
    site.wait_answered(holes, 30)
    settle(site, farm)
    assert_order_kept(site, holes)


@pytest.mark.parametrize("model", ["NeverLoads", "RaisesAlways"])
def test_a_new_model_that_can_not_work_is_taken_back(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], load: Load, model: str
) -> None:
    # prevents: a model that loads and fails on real holes, rolled out over a whole farm
    farm = start_farm(mosquitto.port, workers=2, environment=ODD_MODELS)
    before = farm.worker_pids()
    load.begin()
    eventually(lambda: farm.stats()["holes"]["published"] > 10, 20, "some holes")
    _change(farm, model=f"odd_models:{model}")
    farm.signal(signal.SIGHUP)
    eventually(_came(farm, "rollout_failed"), 40, farm.last_lines)
    eventually(_came(farm, "reload_taken_back"), 20, farm.last_lines)
    assert farm.worker_pids() == before
    _check(site, farm, load.end())


def test_a_setting_that_needs_a_restart_is_named_and_waits_for_one(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a setting that comes into force with the next crash, in a part of the farm
    farm = start_farm(mosquitto.port, workers=1)
    _change(farm, journal={"durability": "off"})
    farm.signal(signal.SIGHUP)
    [told] = eventually(_came(farm, "needs_restart"), 10, farm.last_lines)
    assert told["keys"] == ["journal.durability"]
    eventually(_came(farm, "reloaded"), 30, farm.last_lines)
    broker = farm.broker_pid()
    os.kill(broker, signal.SIGKILL)
    eventually(lambda: farm.processes() and broker not in farm.processes(), 10, "it is gone")
    farm.wait_ready()
    assert farm.stats()["journal"]["durability"] == "process"


def test_workers_come_and_go_under_load(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm], load: Load
) -> None:
    # prevents: a hole lost with a worker that was sent away; a scale that a broker's death undoes
    farm = start_farm(mosquitto.port, workers=2)
    load.begin()
    for count in (4, 1, 3):
        _order(farm, "scale", count)
        eventually(lambda n=count: len(farm.worker_pids()) == n, 20, f"{count} workers")
        assert farm.stats()["workers_expected"] == count
    _check(site, farm, load.end())
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: len(farm.worker_pids()) == 3, 20, "three workers joined the new broker")
    assert farm.stats()["workers_expected"] == 3


def test_a_paused_farm_takes_in_nothing_also_after_a_restart_of_its_broker(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: work on a line that begins again by itself, and holes lost while it was paused
    farm = start_farm(mosquitto.port, workers=2)
    tool = Tool()
    holes = [tool.drill() for _ in range(30)]
    for hole in holes[:10]:
        site.send_hole(hole)
    site.wait_answered(holes[:10])
    _order(farm, "pause")
    for hole in holes[10:20]:
        site.send_hole(hole)
    assert farm.stats()["intake"]["paused"]
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: farm.stats().get("mqtt", {}).get("state") == "connected", 20, "a broker")
    for hole in holes[20:]:
        site.send_hole(hole)
    assert farm.stats()["intake"]["paused"]
    assert farm.stats()["holes"]["arrived"] == 0
    _order(farm, "resume")
    site.wait_answered(holes, 20)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)


def test_commands_without_a_farm_say_so(tmp_path: Path) -> None:
    for words in (("pause",), ("resume",), ("scale", 3), ("reload",)):
        done = run_farm(*words, "--state-dir", tmp_path)
        assert done.returncode == 6, done.stderr
        assert "farm start" in done.stderr
