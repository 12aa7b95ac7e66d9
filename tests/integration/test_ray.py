"""Workers that Ray keeps, on a cluster of several nodes on this machine: no hole is lost.

Ray is an extra: without it there is nothing to test here.
"""

from __future__ import annotations

import os
import signal
import uuid
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml
from rig import (
    MARK,
    Farm,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_gone,
    assert_one_answer_each,
    eventually,
    marked_processes,
    paced,
    run_farm,
    settle,
)

from farm.simulation.ports import free_ports

ray = pytest.importorskip("ray", reason="Ray is not installed: it is the extra `ray`")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rig import Hole

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

RATE_HZ = 20.0
JOIN_S = 60.0  # two of Ray's processes and a worker start on a busy machine
LEFT_S = 20.0
QUICK = {"heartbeat_interval_s": 0.3, "heartbeat_timeout_s": 2.0}
# A node that is not heard of is given up in 2 s and not in 30: the tests wait for it.
SHORT_PATIENCE = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


class Plant:
    """A Ray cluster, of which the head computes nothing, and a farm that launches workers on it."""

    def __init__(
        self, cluster: Any, tmp_path: Path, start_farm: Callable[..., Farm], mqtt_port: int
    ) -> None:
        self.cluster = cluster
        self._start_farm, self._mqtt_port = start_farm, mqtt_port
        self.state_dir, self._tmp_path = tmp_path / "s", tmp_path
        self.key_file = tmp_path / "ray.key"
        self.port = free_ports(3)

    def add_node(self, **resources: Any) -> Any:
        return self.cluster.add_node(**{"num_cpus": 2, **resources})

    def start(self, *, workers: int = 2, wait: bool = True, **settings: Any) -> Farm:
        attach = {"listen": f"127.0.0.1:{self.port}"}
        config = self._tmp_path / "keys.yaml"
        config.write_text(f"attach: {{listen: '{attach['listen']}'}}\n")
        made = run_farm(
            *("keys", "new", "ray", "--config", config, "--state-dir", self.state_dir),
            *("--out", self.key_file),
        )
        assert made.returncode == 0, made.stderr
        self.farm = self._start_farm(
            self._mqtt_port,
            workers=workers,
            state_dir=self.state_dir,
            wait=False,
            more={
                "attach": attach,
                "workers": {"launch": "ray", **QUICK},
                "ray": {
                    "address": self.cluster.address,
                    "key_file": str(self.key_file),
                    **settings,
                },
            },
        )
        if wait:
            self.wait_ready(workers)
        return self.farm

    def rows(self) -> list[dict[str, Any]]:
        rows = self.farm.stats().get("workers", ())
        return [row for row in rows if row["state"] in ("idle", "busy")]

    def names(self) -> list[str]:
        return sorted(row["name"] for row in self.rows())

    def wait_ready(self, workers: int) -> None:
        names = [f"ray-{n}" for n in range(1, workers + 1)]
        eventually(
            lambda: self.names() == names and self.farm.stats()["mqtt"]["state"] == "connected",
            JOIN_S,
            lambda: f"{names} are READY: {self.farm.stats()}\n{self.farm.last_lines()}",
        )

    def raylet_of(self, pid: int) -> int:
        """The Ray process of the node on which a worker runs: its grandparent."""
        found = [p.pid for p in psutil.Process(pid).parents() if "raylet" in p.name()]
        assert len(found) == 1, psutil.Process(pid).parents()
        return found[0]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The head of a cluster, whose processes carry a mark."""
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - skipped where it is not

    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)  # the nodes' processes inherit it
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SHORT_PATIENCE}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()
    assert_gone(mark, 20)


@pytest.fixture
def plant(
    cluster: Any, tmp_path: Path, mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> Plant:
    return Plant(cluster, tmp_path, start_farm, mosquitto.port)  # the farm ends before the cluster


def cluster_cpus(plant: Plant) -> tuple[float, float]:
    """Of the whole cluster: how many there are, and how many are free."""
    ray.init(address=plant.cluster.address, log_to_driver=False, configure_logging=False)
    try:
        total, free = ray.cluster_resources(), ray.available_resources()
        return total.get("CPU", 0.0), free.get("CPU", 0.0)
    finally:
        ray.shutdown()


def test_a_node_that_is_killed_under_load_costs_no_hole(plant: Plant, site: Site) -> None:
    # prevents: holes that die with a machine, and workers that nobody starts again
    plant.add_node()
    plant.add_node()
    plant.start(workers=2)
    before = {row["name"]: plant.raylet_of(row["pid"]) for row in plant.rows()}
    assert len(set(before.values())) == 2, before  # they are spread
    victim = before["ray-2"]
    tools = [Tool() for _ in range(5)]
    holes: list[Hole] = []
    for n, _at_s in enumerate(paced(RATE_HZ, 12.0)):
        if n == int(RATE_HZ * 3):
            os.kill(victim, signal.SIGKILL)
        holes.append(tools[n % len(tools)].drill())
        site.send_hole(holes[-1])
    site.wait_answered(holes, 60)
    plant.wait_ready(2)
    after = {plant.raylet_of(row["pid"]) for row in plant.rows()}
    assert after == {before["ray-1"]}  # both on the node that is left
    settle(site, plant.farm)
    assert_one_answer_each(site, holes)
    for hole in holes:
        assert_depths(site, hole)
    told = plant.farm.stats()["holes"]
    assert told["arrived"] == told["published"] == len(holes)


def test_the_fleet_follows_an_operator_and_leaves_nothing_behind(plant: Plant, site: Site) -> None:
    # prevents: actors that hold a cluster's cores for a farm that has gone
    plant.add_node()
    farm = plant.start(workers=1)
    place = ("--state-dir", str(farm.state_dir))
    assert run_farm("scale", "2", *place).returncode == 0
    plant.wait_ready(2)
    assert cluster_cpus(plant) == (2.0, 0.0)
    fleet = farm.stats()["fleet"]
    assert (fleet["wanted"], fleet["alive"], fleet["cause"]) == (2, 2, "")
    assert run_farm("scale", "1", *place).returncode == 0
    plant.wait_ready(1)
    eventually(lambda: cluster_cpus(plant) == (2.0, 1.0), LEFT_S, "its core is free again")
    assert not farm.events("worker_fenced")
    tool = Tool()
    holes = [tool.drill() for _ in range(40)]
    for hole in holes:
        site.send_hole(hole)
    site.wait_acknowledged()
    farm.signal(signal.SIGTERM)
    assert farm.wait(30) == 0
    site.wait_answered(holes, 1)
    [end] = farm.events("fleet_disbanded")
    eventually(lambda: cluster_cpus(plant) == (2.0, 2.0), LEFT_S, "all cores are free again")
    assert not [pid for pid in marked_processes(os.environ[MARK]) if is_worker(pid)]
    assert end["ended_at_once"] == 0


def test_a_farm_that_is_killed_leaves_nothing_on_the_cluster(plant: Plant) -> None:
    # prevents: actors without a farm, which hold cores until somebody finds them
    plant.add_node()
    farm = plant.start(workers=2)
    os.kill(farm.pid, signal.SIGKILL)
    farm.wait()
    eventually(lambda: cluster_cpus(plant) == (2.0, 2.0), LEFT_S, "all cores are free again")
    assert not [pid for pid in marked_processes(os.environ[MARK]) if is_worker(pid)]


def is_worker(pid: int) -> bool:
    return "worker" in psutil.Process(pid).cmdline()


def test_a_changed_configuration_reaches_workers_on_ray(plant: Plant) -> None:
    # prevents: workers that answer with the settings of last week, or leave and stay away
    plant.add_node()
    farm = plant.start(workers=1)
    [before] = plant.rows()
    settings = yaml.safe_load(farm.config_file.read_text())
    settings["workers"]["threads"] = 2
    farm.config_file.write_text(yaml.safe_dump(settings))
    assert run_farm("reload", "--state-dir", farm.state_dir).returncode == 0

    def is_another() -> bool:
        return [row["name"] for row in plant.rows() if row["id"] != before["id"]] == ["ray-1"]

    eventually(is_another, JOIN_S, farm.last_lines)
    assert farm.stats()["fleet"]["cause"] == ""


def test_what_is_wrong_is_said(plant: Plant) -> None:
    # prevents: a farm that waits for ever, and an operator who does not know for what
    farm = plant.start(workers=1, wait=False, resources={"drill_room": 1})

    def cause() -> str:
        return str(farm.stats().get("fleet", {}).get("cause", ""))

    eventually(lambda: "drill_room 1" in cause(), JOIN_S, farm.last_lines)
    plant.key_file.rename(plant.key_file.with_suffix(".gone"))
    plant.add_node(resources={"drill_room": 1})
    eventually(lambda: "ray.key can't be read" in cause(), JOIN_S, farm.last_lines)
    plant.key_file.with_suffix(".gone").rename(plant.key_file)
    plant.wait_ready(1)  # mended without a restart
    eventually(lambda: not cause(), JOIN_S, cause)


def test_a_farm_without_a_cluster_waits_for_it_and_says_so(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm], tmp_path: Path
) -> None:
    # prevents: a farm that must be started after its cluster
    state_dir, port = tmp_path / "s", free_ports(3)
    config = tmp_path / "keys.yaml"
    config.write_text(f"attach: {{listen: '127.0.0.1:{port}'}}\n")
    made = run_farm("keys", "new", "ray", "--config", config, "--state-dir", state_dir)
    assert made.returncode == 0, made.stderr
    farm = start_farm(
        mosquitto.port,
        state_dir=state_dir,
        wait=False,
        more={
            "attach": {"listen": f"127.0.0.1:{port}"},
            "workers": {"launch": "ray"},
            "ray": {"address": f"127.0.0.1:{free_ports(1)}", "key_file": "/nowhere/ray.key"},
        },
    )
    eventually(
        lambda: any("no Ray cluster answers" in p for p in farm.stats().get("problems", ())),
        JOIN_S,
        farm.last_lines,
    )
