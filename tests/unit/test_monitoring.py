"""Whether a broker is alive and ready, as load balancers and orchestrators ask."""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from farm.broker import monitoring
from farm.broker.monitoring import Monitoring, Readiness
from farm.config import Config
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTING = "the broker is starting"
AWAY, NOBODY, STOPPING = "MQTT is not connected", "no worker is READY", "the farm is stopping"


class Rig:
    """A monitoring whose loop turns when it is told to."""

    def __init__(self) -> None:
        self.port = free_port()
        self.raised = 0
        self.readiness = Readiness(is_connected=True, ready_workers=1, is_draining=False)
        config = Config.model_validate({"metrics": {"listen": f"127.0.0.1:{self.port}"}})
        self.monitoring = Monitoring(
            config,
            farm="f",
            journal=None,
            wake=lambda: None,
            readiness=lambda: self.readiness,
        )
        self.monitoring.start()

    def turn(self) -> None:
        self.monitoring.turn(self._refuse)

    def _refuse(self, _now_s: float) -> Any:
        self.raised += 1
        raise KeyError("no such count")

    def ask(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode().strip()
        connection.close()
        return found


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.monitoring.stop()


def test_a_broker_is_alive_while_its_loop_turns(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: "ok" from a thread of its own, while the loop hangs or has not begun."""
    assert rig.ask("/healthz") == (503, STARTING)
    rig.turn()
    assert rig.ask("/healthz") == (200, "ok")
    monkeypatch.setattr(monitoring, "TICK_TIMEOUT_S", 0.0)
    status, told = rig.ask("/healthz")
    assert (status, told) == (503, "the broker's loop has not turned for 0 s")
    assert rig.ask("/readyz")[0] == 503


@pytest.mark.parametrize(
    ("readiness", "status", "told"),
    [
        (Readiness(True, 1, False), 200, "ready"),
        (Readiness(False, 1, False), 503, AWAY),
        (Readiness(True, 0, False), 503, NOBODY),
        (Readiness(True, 1, True), 503, STOPPING),
        (Readiness(False, 0, True), 503, f"{AWAY}; {NOBODY}; {STOPPING}"),
    ],
)
def test_a_farm_is_ready_with_mqtt_and_a_worker(
    rig: Rig, readiness: Readiness, status: int, told: str
) -> None:
    """Prevents: traffic that is sent to a farm which can't answer."""
    rig.turn()
    rig.readiness = readiness
    assert rig.ask("/readyz") == (status, told)
    assert rig.ask("/healthz")[0] == 200  # it lives, and a restart would help nobody


def test_vitals_that_can_not_be_made_end_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a broker that ends with each scrape, for a figure that nobody needs."""
    monkeypatch.setattr("farm.metrics.exposition.ASK_TIMEOUT_S", 0.2)
    found: list[tuple[int, str]] = []
    asking = threading.Thread(target=lambda: found.append(rig.ask("/metrics")))
    asking.start()
    while asking.is_alive():
        rig.turn()  # raises inside
        time.sleep(0.01)
    [(status, text)] = found
    assert status == 200
    assert "farm_build_info{" in text
    assert "farm_workers_ready" not in text
    assert rig.ask("/healthz") == (200, "ok")
    assert rig.raised >= 1
