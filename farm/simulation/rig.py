"""A whole farm in a temporary state directory: an MQTT broker, `farm start`, and a way to look in.

Shared by `farm demo`, `farm bench` and tests. Owns the processes and the directory; publishes and
hears nothing itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import yaml

from farm.config import Config
from farm.config.environment import LEGACY, PREFIX
from farm.control import fetch_stats
from farm.errors import FarmError, NoFarmError
from farm.simulation.mqttd import EmbeddedBroker, Engine
from farm.simulation.processes import command_line, process_cpu_s, pss_bytes, tree_pids
from farm.simulation.tether import tethered
from farm.state_dir import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.simulation.mqtt import BrokerAddress

READY_TIMEOUT_S = 120.0  # loading torch from a cold disk takes half of it on a small machine
STOP_TIMEOUT_S = 30.0
STATS_TIMEOUT_S = 1.0
POLL_S = 0.1
LOG_LINES_SHOWN = 8
MARK = "RIG_MARK"  # not FARM_: that would be a setting
READY_STATES = frozenset({"idle", "busy"})


class Rig:
    """A farm with its own MQTT broker; a context manager that leaves nothing behind.

    Must be entered from a thread that lives as long as the farm, see `farm.simulation.tether`.

    Args:
        workers: how many.
        engine: which MQTT broker program.
        durable_mqtt: see `EmbeddedBroker`.
        settings: further configuration by section, over ours.
        via: gives the address under which the farm reaches the MQTT broker that runs at another.
        keep: leave the directory where it is, for a post-mortem.

    Attributes:
        mark: in the environment of each of its processes, under `MARK`; see `survivors`.
    """

    def __init__(
        self,
        *,
        workers: int,
        engine: Engine | str = Engine.AUTO,
        durable_mqtt: bool = False,
        settings: Mapping[str, Any] | None = None,
        via: Callable[[BrokerAddress], BrokerAddress] = lambda address: address,
        keep: bool = False,
    ) -> None:
        self.workers = workers
        self.home = Path(tempfile.mkdtemp(prefix="farm-"))
        self.state_dir = self.home / "state"
        self.log_file = self.home / "farm.log"
        self.broker = EmbeddedBroker(engine, directory=self.home / "mqtt", durable=durable_mqtt)
        self.control = endpoints(Config(), self.state_dir).control
        self.mark = uuid.uuid4().hex
        self._settings = dict(settings or {})
        self._via = via
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.broker.start()
            self._config_file.write_text(yaml.safe_dump(self._config()))
            self.start_farm()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the directory."""
        try:
            self.stop()
        finally:
            self.broker.stop()
            if not self._keep:
                shutil.rmtree(self.home, ignore_errors=True)

    @property
    def exit_status(self) -> int | None:
        """Of a farm that has ended by itself or was killed; None while it runs."""
        return self._process.poll() if self._process else None

    def start_farm(self) -> None:
        """Start the farm, for the first time or again after its end, as supervisord would."""
        command = [sys.executable, "-m", "farm", "start", "--config", str(self._config_file)]
        command += ["--state-dir", str(self.state_dir), "--workers", str(self.workers)]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**_clean_environment(), MARK: self.mark},
                # Ctrl-C in a terminal goes to the whole group: we end the farm, in good order.
                process_group=0,
            )

    def kill_farm(self) -> None:
        """End `farm start` as the kernel does when memory runs out, and nothing else of it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def survivors(self) -> list[int]:
        """Every living process of this farm, whoever its parent is now."""
        return [process.pid for process in psutil.process_iter() if _is_marked(process, self.mark)]

    @property
    def pid(self) -> int:
        """The process of `farm start`."""
        assert self._process is not None
        return self._process.pid

    def stats(self) -> dict[str, Any] | None:
        """The farm's snapshot, or None while nobody answers."""
        try:
            return fetch_stats(self.control, timeout_s=STATS_TIMEOUT_S)
        except NoFarmError:
            return None

    def wait_ready(
        self,
        on_progress: Callable[[int], None] = lambda _ready: None,
        timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        """Wait until all workers are READY and MQTT is connected.

        Args:
            on_progress: called with the number of ready workers.
            timeout_s: for all of it.

        Raises:
            FarmError: it ends or takes too long; the end of its log is in the message.
        """
        deadline_s = time.monotonic() + timeout_s
        ready = 0
        while time.monotonic() < deadline_s:
            self.check_alive()
            snapshot = self.stats()
            if snapshot is not None:
                ready = sum(row["state"] in READY_STATES for row in snapshot["workers"])
                on_progress(ready)
                if ready >= self.workers and snapshot["mqtt"]["state"] == "connected":
                    return
            time.sleep(POLL_S)
        raise FarmError(
            f"only {ready} of {self.workers} workers are ready after {timeout_s:.0f} s;"
            f" the farm's log ends:\n{self.last_log_lines()}"
        )

    def check_alive(self) -> None:
        """Raise if the farm has ended by itself.

        Raises:
            FarmError: with its exit status and the end of its log.
        """
        code = self._process.poll() if self._process else None
        if code is not None:
            raise FarmError(
                f"the farm ended with exit status {code}; its log ends:\n{self.last_log_lines()}"
            )

    def stop(self) -> int | None:
        """Drain and end the farm by SIGTERM; by SIGKILL when that takes too long.

        Returns:
            Its exit status, or None when it was not running.
        """
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            return process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def last_log_lines(self) -> str:
        """The end of the farm's log."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return "(no log)"
        return "\n".join(f"  {line}" for line in lines[-LOG_LINES_SHOWN:]) or "  (empty)"

    def memory(self) -> dict[str, tuple[int, int]]:
        """Number of processes and PSS in bytes, by kind; the MQTT broker is a kind of its own."""
        snapshot = self.stats() or {}
        workers = {row["pid"] for row in snapshot.get("workers", ())}
        found: dict[str, tuple[int, int]] = {}
        pids = [(pid, self._kind(pid, workers)) for pid in tree_pids(self.pid)]
        if self.broker.pid is not None:
            pids.append((self.broker.pid, self.broker.engine.value))
        for pid, kind in pids:
            count, size = found.get(kind, (0, 0))
            found[kind] = (count + 1, size + pss_bytes(pid))
        return found

    def cpu_s(self) -> dict[str, float]:
        """CPU time that the processes have used so far, by kind, in seconds."""
        snapshot = self.stats() or {}
        workers = {row["pid"] for row in snapshot.get("workers", ())}
        found: dict[str, float] = {}
        for pid in tree_pids(self.pid):
            kind = self._kind(pid, workers)
            found[kind] = found.get(kind, 0.0) + process_cpu_s(pid)
        return found

    def _kind(self, pid: int, workers: set[int]) -> str:
        if pid == self.pid:
            return "supervisor"
        if pid in workers:
            return "workers"
        words = command_line(pid).split()
        # in this order: one that was just forked is a nursery until it has its own command line
        kinds = {"broker": "broker", "worker": "workers", "nursery": "nursery"}
        return next((kind for word, kind in kinds.items() if word in words), "other")

    @property
    def _config_file(self) -> Path:
        return self.home / "farm.yaml"

    def _config(self) -> dict[str, Any]:
        address = self._via(self.broker.address)
        broker = {"host": address.host, "port": address.port, "protocol": address.protocol}
        ours: dict[str, Any] = {"mqtt": {"broker": broker}, "log": {"level": "WARNING"}}
        return _merged(ours, self._settings)


def _is_marked(process: psutil.Process, mark: str) -> bool:
    try:
        is_ours: bool = process.environ().get(MARK) == mark
        return is_ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # gone, or another user's
        return False


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as one; `above` wins."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = _merged(old, value)
        else:
            result[key] = value
    return result


def _clean_environment() -> dict[str, str]:
    """Our environment without what would configure a farm: this one is told by its file."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(PREFIX) and name not in LEGACY
    }
