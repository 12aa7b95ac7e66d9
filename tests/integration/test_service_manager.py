"""A real farm under what plays systemd: it hears READY, reloads, signs of life and the end."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import Farm, Mosquitto, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCHDOG_S = 1.5
QUIET_S = 2 * WATCHDOG_S


class Manager:
    """Hears what a service says, on a socket of its own."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._lock = threading.Lock()
        self._heard: list[tuple[float, str]] = []
        self.environment = {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6)),
        }
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while message := self._socket.recv(4096):
                with self._lock:
                    self._heard.append((time.monotonic(), message.decode()))

    def heard(self, begin: str) -> list[float]:
        """When messages that begin so came."""
        with self._lock:
            return [at_s for at_s, message in self._heard if message.startswith(begin)]

    def states(self) -> list[str]:
        """What was told of its state, in order."""
        with self._lock:
            words = [message.partition("=")[0] for _, message in self._heard]
        return [word for word in words if word in ("READY", "RELOADING", "STOPPING")]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def manager(short_path: Path) -> Iterator[Manager]:
    made = Manager(short_path / "notify")
    yield made
    made.close()


def wait_for_end_of_reload(manager: Manager) -> None:
    eventually(lambda: manager.states() == ["READY", "RELOADING", "READY"], 30, "reloaded")


def test_systemd_hears_how_a_farm_is(
    has_mosquitto: None,
    make_mosquitto: Callable[..., Mosquitto],
    start_farm: Callable[..., Farm],
    manager: Manager,
) -> None:
    """Prevents a unit that is up too early or never, that is killed while it waits for MQTT, or
    while it lives, and that is left alone when its supervisor hangs.
    """
    mosquitto: Any = make_mosquitto()
    mosquitto.stop()
    farm = start_farm(mosquitto.port, environment=manager.environment, wait=False)
    eventually(farm.worker_pids, 40, lambda: f"workers ready:\n{farm.last_lines()}")
    eventually(lambda: manager.heard("EXTEND_TIMEOUT_USEC="), 20, "it asks for time")
    assert manager.states() == []  # without MQTT it is not up
    assert "NOTIFY_SOCKET" not in environment_of(farm.broker_pid())
    assert all("NOTIFY_SOCKET" not in environment_of(pid) for pid in farm.worker_pids())

    mosquitto.start()
    eventually(lambda: manager.states() == ["READY"], 20, "up with MQTT")
    eventually(lambda: manager.heard("STATUS=HEALTHY: MQTT connected"), 20, "its status")
    farm.signal(signal.SIGHUP)
    wait_for_end_of_reload(manager)

    before = len(manager.heard("WATCHDOG=1"))
    eventually(lambda: len(manager.heard("WATCHDOG=1")) > before + 2, 20, "signs of life")
    farm.signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    eventually(lambda: time.monotonic() - stopped_s > QUIET_S, 20, "a while")
    assert [at_s for at_s in manager.heard("WATCHDOG=1") if at_s > stopped_s + 0.5] == []
    farm.signal(signal.SIGCONT)
    eventually(lambda: manager.heard("WATCHDOG=1")[-1] > stopped_s + QUIET_S, 20, "life again")

    farm.signal(signal.SIGTERM)
    assert farm.wait() == 0, farm.last_lines()
    assert manager.states()[-1] == "STOPPING"


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
