"""`farm chaos` in short: a farm that keeps its promise passes, one that can't is found out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from rig import run_farm

if TYPE_CHECKING:
    import subprocess

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


def _chaos(*options: object) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    done = run_farm(
        *("chaos", "--json", "--rate", 40, "--workers", 4, "--faults-per-s", 1.5),
        *options,
        timeout_s=220,
    )
    assert done.stdout.startswith("{"), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done, found


def test_a_farm_under_chaos_loses_and_repeats_nothing() -> None:
    # prevents: a promise that holds for each fault alone, and not for two at a time
    done, account = _chaos("--minutes", 0.4, "--seed", 4)
    assert account["violations"] == []
    assert done.returncode == 0
    assert account["holes"] > 500
    assert account["answered"] == account["acknowledged"] == account["holes"]
    assert account["broker_lives"] > 1
    assert account["dead"]["poison"] > 0
    processes_and_network = {name for name in account["faults"] if "-" in name}
    assert len(processes_and_network) >= 5, account["faults"]


def test_mosquitto_may_be_killed_too_where_it_saves_every_message() -> None:
    done, account = _chaos(
        *("--minutes", 0.2, "--rate", 15, "--seed", 5, "--durable-mqtt"),
        *("--only", "mosquitto-kill,worker-kill,broker-kill,duplicate,reorder"),
    )
    assert account["violations"] == []
    assert done.returncode == 0
    assert account["faults"]["mosquitto-kill"] > 0


def test_a_farm_without_a_journal_is_found_out() -> None:
    # prevents: an account that comes out even whatever happens
    done, account = _chaos(
        *("--minutes", 0.3, "--seed", 6, "--durability", "off"),
        *("--only", "broker-kill,worker-stop,reorder", "--faults-per-s", 3),
    )
    assert done.returncode == 1
    assert account["flaws"]["lost"] > 0
