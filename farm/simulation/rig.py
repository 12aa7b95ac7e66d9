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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from farm.config import Config
from farm.config.environment import LEGACY, PREFIX
from farm.control import fetch_stats
from farm.errors import FarmError, NoFarmError
from farm.simulation.memory import command_line, pss_bytes, tree_pids
from farm.simulation.mqttd import EmbeddedBroker, Engine
from farm.simulation.tether import tethered
from farm.state_dir import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

READY_TIMEOUT_S = 120.0  # loading torch from a cold disk takes half of it on a small machine
STOP_TIMEOUT_S = 30.0
STATS_TIMEOUT_S = 1.0
POLL_S = 0.1
LOG_LINES_SHOWN = 8
READY_STATES = frozenset({"idle", "busy"})


class Rig:
    """A farm with its own MQTT broker; a context manager that leaves nothing behind.

    Must be entered from a thread that lives as long as the farm, see `farm.simulation.tether`.

    Args:
        workers: how many.
        engine: which MQTT broker program.
        durable_mqtt: see `EmbeddedBroker`.
        settings: further configuration by section, over ours.
    """

    def __init__(
        self,
        *,
        workers: int,
        engine: Engine | str = Engine.AUTO,
        durable_mqtt: bool = False,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.workers = workers
        self.home = Path(tempfile.mkdtemp(prefix="farm-"))
        self.state_dir = self.home / "state"
        self.log_file = self.home / "farm.log"
        self.broker = EmbeddedBroker(engine, directory=self.home / "mqtt", durable=durable_mqtt)
        self._control = endpoints(Config(), self.state_dir).control
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.broker.start()
            self._start_farm()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every process and remove the directory."""
        try:
            self.stop()
        finally:
            self.broker.stop()
            shutil.rmtree(self.home, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process of `farm start`."""
        assert self._process is not None
        return self._process.pid

    def stats(self) -> dict[str, Any] | None:
        """The farm's snapshot, or None while nobody answers."""
        try:
            return fetch_stats(self._control, timeout_s=STATS_TIMEOUT_S)
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

    def _kind(self, pid: int, workers: set[int]) -> str:
        if pid == self.pid:
            return "supervisor"
        if pid in workers:
            return "workers"
        return "broker" if " broker" in command_line(pid) else "nursery"

    def _start_farm(self) -> None:
        config_file = self.home / "farm.yaml"
        config_file.write_text(yaml.safe_dump(self._config()))
        command = [sys.executable, "-m", "farm", "start", "--config", str(config_file)]
        command += ["--state-dir", str(self.state_dir), "--workers", str(self.workers)]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_clean_environment(),
                # Ctrl-C in a terminal goes to the whole group: we end the farm, in good order.
                process_group=0,
            )

    def _config(self) -> dict[str, Any]:
        address = self.broker.address
        broker = {"host": address.host, "port": address.port, "protocol": address.protocol}
        ours: dict[str, Any] = {"mqtt": {"broker": broker}, "log": {"level": "WARNING"}}
        return _merged(ours, self._settings)


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
