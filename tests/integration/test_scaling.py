"""A farm that has as many workers as it needs, between the bounds that it was given."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from rig import ODD_MODELS, Farm, Mosquitto, Site, Tool, eventually, run_farm

from farm.cores import cores

if TYPE_CHECKING:
    from collections.abc import Callable

HOLES = 160  # of 50 ms each: for one worker, 8 s


@pytest.mark.skipif(cores() < 2, reason="none is added beyond the cores")
def test_what_waits_gets_another_worker_and_an_operator_has_the_last_word(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a decision that never reaches the supervisor; a farm that argues with its operator,
    # or forgets what they said when its broker ends
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:Slow",
        environment=ODD_MODELS,
        more={"workers": {"min": 1, "max": 2}},
    )
    tool = Tool()
    holes = [tool.drill() for _ in range(HOLES)]
    for hole in holes:
        site.send_hole(hole)
    farm.wait_ready(2)
    scaling = farm.stats()["scaling"]
    assert (scaling["wanted"], scaling["min"], scaling["max"]) == (2, 1, 2)
    assert "holes/s of" in scaling["reason"]
    [change] = farm.events("workers_scaled")
    assert (change["before"], change["workers"]) == (1, 2)

    place = ("--state-dir", str(farm.state_dir))
    assert run_farm("scale", "1", *place).returncode == 0
    eventually(lambda: len(farm.worker_pids()) == 1, 30, farm.last_lines)
    assert farm.stats()["scaling"]["pinned"]
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: (farm.stats().get("scaling") or {}).get("pinned"), 30, farm.last_lines)
    assert farm.stats()["scaling"]["wanted"] == 1
    assert run_farm("scale", "auto", *place).returncode == 0
    assert not farm.stats()["scaling"]["pinned"]
    site.wait_answered(holes, 60)


def test_a_fixed_number_stays_fixed_and_says_nothing(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm of ten workers on two cores that is corrected to two
    farm = start_farm(mosquitto.port, workers=4, model="rule")
    scaling = farm.stats()["scaling"]
    assert (scaling["wanted"], scaling["is_on"], scaling["reason"]) == (4, False, "fixed")
    assert not farm.events("scaled")
    shown = run_farm("stats", "--once", "--state-dir", str(farm.state_dir)).stdout
    assert "wanted" not in shown
    assert run_farm("scale", "many", "--state-dir", str(farm.state_dir)).returncode == 2


def test_auto_goes_back_to_what_is_configured_behind_a_new_broker(
    mosquitto: Mosquitto, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a pin that `farm scale auto` can't undo, since the new broker was started with it
    farm = start_farm(mosquitto.port, workers=3, model="rule")
    place = ("--state-dir", str(farm.state_dir))
    assert run_farm("scale", "1", *place).returncode == 0
    eventually(lambda: len(farm.worker_pids()) == 1, 30, farm.last_lines)
    os.kill(farm.broker_pid(), signal.SIGKILL)
    eventually(lambda: (farm.stats().get("scaling") or {}).get("pinned"), 30, farm.last_lines)
    assert run_farm("scale", "auto", *place).returncode == 0
    farm.wait_ready(3)
    scaling = farm.stats()["scaling"]
    assert (scaling["wanted"], scaling["pinned"], scaling["reason"]) == (3, False, "fixed")
