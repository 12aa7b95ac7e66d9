"""A reload with workers elsewhere alone, as processes: one first, and back where it fails."""

from __future__ import annotations

import signal
import socket
import subprocess
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from rig import MARK, ODD_MODELS, Farm, Mosquitto, assert_gone, eventually, farm_command, run_farm

from farm.simulation.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WORKERS = ("line-1", "line-2")
# A first one that does not come up is given up after these two and 20 s.
QUICK = {"dispatch": {"job_timeout_s": 1.0}, "workers": {"ready_timeout_s": 6.0}}


class Far:
    """Workers that came through the door, under what plays systemd."""

    def __init__(self, farm: Farm, folder: Path) -> None:
        self._mark = uuid.uuid4().hex
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(str(farm.home / "notify"))
        self._listener.setblocking(False)
        self._said: list[str] = []
        environment = farm.environment | {MARK: self._mark, "HOME": str(folder)}
        environment["NOTIFY_SOCKET"] = str(farm.home / "notify")
        self._processes = []
        for name in WORKERS:
            key = folder / f"{name}.key"
            with key.with_suffix(".log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen(
                        farm_command("worker", "--key", key, "--name", name),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=environment,
                        cwd=folder,
                    )
                )

    def said(self) -> list[str]:
        """What systemd has heard so far."""
        try:
            while True:
                self._said += self._listener.recv(4096).decode().splitlines()
        except BlockingIOError:
            return self._said

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)
        self._listener.close()
        assert_gone(self._mark)


@pytest.fixture
def farm(mosquitto: Mosquitto, start_farm: Callable[..., Farm], tmp_path: Path) -> Farm:
    attach = {"listen": f"127.0.0.1:{free_ports(3)}", "public_host": "127.0.0.1"}
    config, state_dir = tmp_path / "keys.yaml", tmp_path / "s"
    config.write_text(yaml.safe_dump({"attach": attach}))
    for name in WORKERS:
        made = run_farm(
            *("keys", "new", name, "--config", config, "--out", tmp_path / f"{name}.key"),
            *("--state-dir", state_dir),
        )
        assert made.returncode == 0, made.stderr
    return start_farm(
        mosquitto.port,
        workers=0,
        wait=False,
        state_dir=state_dir,
        environment=ODD_MODELS,
        more={**QUICK, "model": "rule", "attach": attach},
    )


@pytest.fixture
def far(farm: Farm, tmp_path: Path) -> Iterator[Far]:
    eventually(farm.stats, 20, farm.last_lines)
    made = Far(farm, tmp_path)
    yield made
    made.close()


def worker_ids(farm: Farm) -> list[int]:
    """Those of the READY workers; each start gets a new one."""
    shot: dict[str, Any] = farm.stats()
    rows = shot.get("workers", ())
    return sorted(row["id"] for row in rows if row["state"] in ("idle", "busy"))


def reload(farm: Farm, **changes: Any) -> None:
    settings = yaml.safe_load(farm.config_file.read_text())
    farm.config_file.write_text(yaml.safe_dump(settings | changes))
    farm.signal(signal.SIGHUP)


def test_far_workers_alone_follow_a_reload_and_a_bad_one_is_taken_back(
    farm: Farm, far: Far
) -> None:
    """Prevents a bad model that takes all far workers down and stays in force, and a worker that
    systemd kills at work since it said STOPPING when a reload had it start anew.
    """
    eventually(lambda: len(worker_ids(farm)) == 2, 40, farm.last_lines)
    before = worker_ids(farm)
    reload(farm, model="odd_models:Slow")
    eventually(lambda: farm.events("far_workers_reloaded"), 60, farm.last_lines)
    after = worker_ids(farm)
    assert len(after) == 2
    assert not set(before) & set(after)

    reload(farm, model="odd_models:NeverLoads")
    eventually(lambda: farm.events("far_rollout_failed"), 60, farm.last_lines)
    assert len(worker_ids(farm)) == 1  # the other one goes on
    assert farm.events("rollout_failed")
    eventually(lambda: farm.events("reload_taken_back"), 20, farm.last_lines)
    eventually(lambda: len(worker_ids(farm)) == 2, 40, farm.last_lines)
    said = far.said()
    assert "READY=1" in said
    assert "STOPPING=1" not in said
