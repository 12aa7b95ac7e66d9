"""Workers on other machines, over cables that are cut, half open, slow and lossy: nothing is lost.

The machines are network namespaces, and so is the farm's own: the thread of the test lives there.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from rig import (
    DEPTHS,
    MARK,
    Farm,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_gone,
    assert_one_answer_each,
    eventually,
    farm_command,
    paced,
    run_farm,
    settle,
    wait_for_exit,
)

from farm.simulation.network import Cable, Host, isolated, why_impossible
from farm.simulation.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rig import Hole

pytestmark = pytest.mark.chaos

RATE_HZ = 40.0
SENT_S: dict[tuple[str, str], float] = {}  # when the hole of this key was sent
JOIN_S = 30.0
# A worker that is not heard of is fenced; quicker than by default, since the tests wait for it.
QUICK = {"heartbeat_interval_s": 0.3, "heartbeat_timeout_s": 2.0}


@pytest.fixture(autouse=True)
def own_network() -> Iterator[None]:
    """All of the test in a network of its own, loopback included."""
    if why := why_impossible():
        pytest.skip(why)
    with isolated():
        yield


class Attached:
    """A worker on another machine, by a key of its own."""

    def __init__(self, farm: Farm, host: Host, key_file: Path) -> None:
        self.host, self.mark, self.name = host, uuid.uuid4().hex, key_file.stem
        self.log_file = key_file.with_suffix(".log")
        self._home = key_file.parent
        self._command = host.command(
            *farm_command("worker", "--key", key_file, "--name", self.name)
        )
        self._environment = farm.environment | {MARK: self.mark, "HOME": str(self._home)}
        self.start()

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._home,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert_gone(self.mark)
        print(f"---- {self.name} ----\n{self.log}")  # noqa: T201 - for people


class Plant:
    """A farm that listens to other machines, and those machines."""

    def __init__(self, tmp_path: Path, start_farm: Callable[..., Farm], port: int) -> None:
        self.tmp_path = tmp_path
        self._start_farm, self._mqtt_port = start_farm, port
        self.state_dir = tmp_path / "s"
        self.port = free_ports(3)
        self.attached: list[Attached] = []
        self.settings: dict[str, Any] = {"attach": {"listen": f"0.0.0.0:{self.port}"}}

    def key(self, name: str, host: str) -> Path:
        """A key file for a worker that reaches us at this address."""
        config = self.tmp_path / "keys.yaml"
        config.write_text(f"attach: {{listen: '0.0.0.0:{self.port}'}}\n")
        path = self.tmp_path / f"{name}.key"
        made = run_farm(
            *("keys", "new", name, "--config", config, "--state-dir", self.state_dir),
            *("--host", host, "--out", path),
        )
        assert made.returncode == 0, made.stderr
        return path

    def start(self, **more: Any) -> Farm:
        self.farm = self._start_farm(
            self._mqtt_port,
            state_dir=self.state_dir,
            more={"workers": QUICK, **self.settings, **more.pop("more", {})},
            **more,
        )
        return self.farm

    def attach(self, host: Host, key_file: Path) -> Attached:
        worker = Attached(self.farm, host, key_file)
        self.attached.append(worker)
        return worker

    def with_second(
        self, far: tuple[Host, Cable], workers: int = 1, **more: Any
    ) -> tuple[Attached, Cable]:
        """A farm with so many workers of its own, and one on another machine called `second`."""
        host, cable = far
        key = self.key("second", cable.near)
        self.start(workers=workers, **more)
        worker = self.attach(host, key)
        self.wait_for("second")
        return worker, cable

    def names(self) -> set[str]:
        """The workers that are READY."""
        rows = self.farm.stats().get("workers", ())
        return {row["name"] for row in rows if row["state"] in ("idle", "busy")}

    def wait_for(self, *names: str) -> None:
        eventually(
            lambda: set(names) <= self.names(),
            JOIN_S,
            lambda: f"{names} join:\n" + "\n".join(worker.log for worker in self.attached),
        )

    def done_by(self, name: str) -> int:
        rows = self.farm.stats().get("workers", ())
        return sum(row["jobs_done"] for row in rows if row["name"] == name)

    def close(self) -> None:
        for worker in self.attached:
            worker.close()


@pytest.fixture
def plant(
    own_network: None,
    tmp_path: Path,
    start_farm: Callable[..., Farm],
    mosquitto: Mosquitto,
) -> Iterator[Plant]:
    made = Plant(tmp_path, start_farm, mosquitto.port)
    yield made
    made.close()


@pytest.fixture
def far() -> Iterator[tuple[Host, Cable]]:
    """Another machine."""
    with Host(f"far-{uuid.uuid4().hex[:8]}") as host, Cable(host, 1) as cable:
        yield host, cable


@pytest.fixture
def farther() -> Iterator[tuple[Host, Cable]]:
    """A third one."""
    with Host(f"far-{uuid.uuid4().hex[:8]}") as host, Cable(host, 2) as cable:
        yield host, cable


def drill(site: Site, seconds: float, meanwhile: Callable[[float], None]) -> list[Hole]:
    """Holes at a steady pace; `meanwhile` is told how far it is."""
    tools = [Tool("2025-03") for _ in range(5)]
    holes = []
    for n, at_s in enumerate(paced(RATE_HZ, seconds)):
        meanwhile(at_s)
        holes.append(tools[n % len(tools)].drill())
        SENT_S[holes[-1].key] = time.monotonic()
        site.send_hole(holes[-1])
    return holes


def figures(plant: Plant, site: Site, holes: list[Hole]) -> str:
    """For docs/other-machines.md: how long holes took, through MQTT, and who did them."""
    answers = site.answers()
    took_s = [answers[hole.key][DEPTHS][0].heard_s - SENT_S[hole.key] for hole in holes]
    cuts = statistics.quantiles(took_s, n=100)
    counts = plant.farm.stats()["counts"]
    told = {key: counts.get(key, 0) for key in ("reclaimed", "bounces", "late_results")}
    done = {row["name"]: row["jobs_done"] for row in plant.farm.stats().get("workers", ())}
    return (
        f"{len(holes)} holes, answered once: p50 {cuts[49] * 1e3:.0f} ms,"
        f" p99 {cuts[98] * 1e3:.0f} ms, longest {max(took_s) * 1e3:.0f} ms; {told}; done by {done}"
    )


def once(at_s: float, act: Callable[[], object]) -> Callable[[float], None]:
    """Does it when the time has come, one time."""
    done: list[bool] = []

    def look(now_s: float) -> None:
        if now_s >= at_s and not done:
            done.append(True)
            act()

    return look


def assert_all_answered(plant: Plant, site: Site, holes: list[Hole]) -> None:
    site.wait_answered(holes, 40)
    settle(site, plant.farm)
    assert_one_answer_each(site, holes)
    for hole in holes:
        assert_depths(site, hole)
    print(f"figures: {figures(plant, site, holes)}")  # noqa: T201 - for people: pytest -s
    holes_told = plant.farm.stats()["holes"]
    assert holes_told["arrived"] == holes_told["published"] == len(holes)


def test_workers_on_two_other_machines_share_the_work(
    plant: Plant, site: Site, far: tuple[Host, Cable], farther: tuple[Host, Cable]
) -> None:
    # prevents: a farm that has workers elsewhere and gives them nothing, or answers a hole twice
    keys = [plant.key("second", far[1].near), plant.key("third", farther[1].near)]
    plant.start(workers=1)
    for host, key in zip((far[0], farther[0]), keys, strict=True):
        plant.attach(host, key)
    plant.wait_for("second", "third")
    holes = drill(site, 3.0, lambda _at_s: None)
    assert_all_answered(plant, site, holes)
    shares = {name: plant.done_by(name) for name in ("1", "second", "third")}
    assert all(share > len(holes) / 10 for share in shares.values()), shares
    rows = {row["name"]: row for row in plant.farm.stats()["workers"]}
    assert rows["second"]["key"] == "second"
    assert rows["1"]["key"] == ""


def test_a_cable_that_is_cut_and_mended_loses_nothing(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: holes that wait for a worker nobody can reach, and a worker that never comes back
    _, cable = plant.with_second(far, workers=1)
    cut, mend = once(1.0, cable.cut), once(5.0, cable.mend)

    def meanwhile(at_s: float) -> None:
        cut(at_s)
        mend(at_s)

    holes = drill(site, 8.0, meanwhile)
    assert_all_answered(plant, site, holes)
    plant.wait_for("second")
    assert "second" in [row["worker"] for row in plant.farm.events("worker_fenced")]
    more = drill(site, 2.0, lambda _at_s: None)
    site.wait_answered(more, 20)
    assert plant.done_by("second") > 0  # of its new membership


def test_a_link_that_is_open_one_way_is_given_up_and_found_again(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: a worker that is heard and hears nothing, taken for a living one
    _, cable = plant.with_second(far, workers=1)
    half, mend = once(1.0, cable.half_open), once(6.0, cable.mend)

    def meanwhile(at_s: float) -> None:
        half(at_s)
        mend(at_s)

    holes = drill(site, 8.0, meanwhile)
    assert_all_answered(plant, site, holes)
    plant.wait_for("second")


def test_a_slow_and_lossy_link_gets_its_share_and_no_more(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: a far worker that swallows jobs which a near one could do at once
    _, cable = plant.with_second(far, workers=2)
    cable.worsen(delay_s=0.1, loss=0.02)
    holes = drill(site, 8.0, lambda _at_s: None)
    assert_all_answered(plant, site, holes)
    near = plant.done_by("1") + plant.done_by("2")
    assert near > plant.done_by("second")
    assert cable.lost > 0


def test_a_far_link_that_is_waited_for_is_of_use(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: advice in the log and the docs that does not help
    patient = {"dispatch": {"claim_timeout_s": 1.0}}
    _, cable = plant.with_second(far, workers=1, more=patient)
    cable.worsen(delay_s=0.05, loss=0.0)
    holes = drill(site, 4.0, lambda _at_s: None)
    assert_all_answered(plant, site, holes)
    assert plant.done_by("second") > len(holes) / 10


def test_a_host_that_is_gone_for_ever_costs_no_hole(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: jobs of a machine that was switched off, held for ever
    worker, cable = plant.with_second(far, workers=1)

    def switch_off() -> None:
        cable.cut()
        worker.process.kill()

    holes = drill(site, 5.0, once(1.0, switch_off))
    assert_all_answered(plant, site, holes)
    assert "second" not in plant.names()


def test_a_broker_that_is_killed_is_joined_again(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: attached workers that must be started again by hand after every restart
    worker, _ = plant.with_second(far, workers=1, supervisor={"backoff_initial_s": 0.05})
    holes = drill(site, 6.0, once(2.0, lambda: os.kill(plant.farm.broker_pid(), signal.SIGKILL)))
    site.wait_answered(holes, 40)
    plant.wait_for("second")
    settle(site, plant.farm)
    assert worker.process.poll() is None
    # around its death the broker may repeat an answer, byte for byte; it never gives another one
    for hole in holes:
        assert_depths(site, hole)


def test_a_drained_worker_hands_in_what_it_has_and_stays_away(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    worker, _ = plant.with_second(far, workers=1)
    farm = plant.farm
    drain = once(1.0, lambda: run_farm("workers", "drain", "second", "--state-dir", farm.state_dir))
    holes = drill(site, 3.0, drain)
    assert wait_for_exit(worker.process, 20) == 0
    assert_all_answered(plant, site, holes)
    assert not farm.events("worker_fenced")


def test_a_revoked_worker_is_out_at_once_and_is_told_why(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: a stolen laptop that goes on computing, and an operator who wonders why it stopped
    host, _ = far
    worker, cable = plant.with_second(far, workers=1)
    farm = plant.farm
    key = plant.tmp_path / "second.key"
    revoke = once(1.0, lambda: run_farm("keys", "revoke", "second", "--state-dir", farm.state_dir))
    holes = drill(site, 5.0, revoke)
    assert_all_answered(plant, site, holes)
    assert "second" not in plant.names()
    [fenced] = plant.farm.events("worker_fenced")  # at once: what it had need not wait
    assert fenced["cause"] == "its key was revoked"
    eventually(lambda: "or it was revoked" in worker.log, 20, "it says why")
    done = plant.farm.stats()["counts"]
    assert done["turned_away"] > 0
    worker.close()
    plant.attached.remove(worker)
    key.unlink()
    plant.attach(host, plant.key("second", cable.near))  # with a new key it may come in again
    plant.wait_for("second")


def test_a_changed_configuration_reaches_workers_elsewhere(
    plant: Plant, site: Site, far: tuple[Host, Cable]
) -> None:
    # prevents: a worker that answers with the settings of last week
    worker, _ = plant.with_second(far, workers=1)
    farm = plant.farm
    text = farm.config_file.read_text()
    farm.config_file.write_text(text.replace("model: rule", "model: ''"))
    farm.signal(signal.SIGHUP)

    def has_new_model() -> bool:
        rows = farm.stats().get("workers", ())
        return any(
            row["name"] == "second" and row["model_version"].startswith("depthnet") for row in rows
        )

    eventually(has_new_model, 60, lambda: f"it computes with the new model:\n{worker.log}")
    assert worker.process.poll() is None  # the same process, started anew in its place
