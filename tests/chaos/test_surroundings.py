"""What a farm stands in fails (disk, MQTT, clock): nothing is lost, and the farm says why."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rig import (
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    paced,
    settle,
    short_directory,
)

from farm.simulation.proxy import FaultyProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.chaos

DISK_BYTES = 40_000_000
OUTAGE_S = 60.0


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own for a state directory."""
    place = short_directory()
    size = f"size={DISK_BYTES}"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "none", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"can't mount a small disk here: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
    shutil.rmtree(place)


@pytest.fixture
def shipped_mosquitto(make_mosquitto: Callable[..., Mosquitto]) -> Mosquitto:
    """One with the configuration that is shipped."""
    return make_mosquitto(shipped=True)


def _fill(disk: Path) -> Path:
    """Leave not a byte free on it."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(1_000_000))
    with ballast.open("ab") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(512))
    return ballast


def _drill(site: Site, tools: list[Tool], rate: float, duration_s: float) -> list[Hole]:
    holes = []
    for number, _ in enumerate(paced(rate, duration_s)):
        hole = tools[number % len(tools)].drill()
        site.send_hole(hole)
        holes.append(hole)
    return holes


# ---- the disk ------------------------------------------------------------------------------------


def test_a_full_disk_stops_the_intake_and_loses_nothing(
    small_disk: Path, mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: holes that are acknowledged and not kept, and a farm that must be restarted after
    farm = start_farm(mosquitto.port, state_dir=small_disk / "s")
    tools = [Tool(), Tool("2025-06")]
    before = _drill(site, tools, 20, 1)
    site.wait_answered(before)
    ballast = _fill(small_disk)
    during = _drill(site, tools, 20, 3)
    shot = eventually(
        lambda: (shot := farm.stats()).get("journal", {}).get("failure") and shot,
        10,
        "the farm tells that it can't write",
    )
    assert shot["state"] != "HEALTHY"
    assert any("the journal can't be written" in problem for problem in shot["problems"])
    assert site.missing(during), "nothing may be answered that could not be recorded"
    ballast.unlink()
    site.wait_answered(during, 30)
    settle(site, farm)
    assert_one_answer_each(site, [*before, *during])
    assert_order_kept(site, [*before, *during])
    eventually(lambda: farm.stats()["state"] == "HEALTHY", 40, "it is well again")
    [said] = farm.events("journal_unwritable")
    assert "make room" in said["cure"]
    assert len(farm.events("journal_writes_again")) == 1


def test_a_broker_killed_on_a_full_disk_comes_back_when_there_is_room(
    small_disk: Path, mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a batch that was half written and is taken for whole
    farm = start_farm(
        mosquitto.port,
        state_dir=small_disk / "s",
        supervisor={"backoff_initial_s": 0.2, "backoff_max_s": 0.5, "restart_budget": 1000},
    )
    tool = Tool()
    holes = _drill(site, [tool], 20, 1)
    ballast = _fill(small_disk)
    holes += _drill(site, [tool], 20, 1)
    os.kill(farm.broker_pid(), signal.SIGKILL)
    holes += _drill(site, [tool], 20, 1)
    ballast.unlink()
    site.wait_answered(holes, 40)
    settle(site, farm)
    assert_one_answer_each(site, holes, repeats_allowed=True)
    assert_order_kept(site, holes)


def test_a_failing_sync_is_not_taken_for_success(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: pages that the kernel dropped after a failed sync, and a second try that "succeeds"
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace, which makes syncs fail, is not installed")
    farm = start_farm(mosquitto.port, journal={"durability": "power"})
    tool = Tool()
    before = _drill(site, [tool], 20, 1)
    site.wait_answered(before)
    command = [strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync"]
    command += ["-e", "inject=fdatasync,fsync:error=EIO", "-p", str(farm.broker_pid())]
    saboteur = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        during = []
        deadline_s = time.monotonic() + 15
        while not farm.stats().get("journal", {}).get("failure"):
            if saboteur.poll() is not None:
                assert saboteur.stderr is not None
                pytest.skip(f"may not trace here: {saboteur.stderr.read().decode().strip()}")
            assert time.monotonic() < deadline_s, "the farm did not notice"
            during += _drill(site, [tool], 10, 0.3)
        assert site.missing(during)
    finally:
        saboteur.terminate()
        saboteur.wait(10)
    site.wait_answered(during, 30)
    settle(site, farm)
    assert_one_answer_each(site, [*before, *during])
    assert_order_kept(site, [*before, *during])
    farm.signal(signal.SIGTERM)
    assert farm.wait() == 0


# ---- MQTT ----------------------------------------------------------------------------------------


def test_a_half_open_link_is_noticed_and_costs_no_hole(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that waits for ever on a connection that a firewall has forgotten
    with FaultyProxy("127.0.0.1", mosquitto.port) as proxy:
        farm = start_farm(proxy.port, mqtt={"broker": {"keepalive": 2}})
        tools = [Tool(), Tool("2025-06")]
        before = _drill(site, tools, 20, 1)
        proxy.blackhole()
        during = _drill(site, tools, 20, 1)
        eventually(lambda: farm.stats()["mqtt"]["state"] != "connected", 15, "it is noticed")
        proxy.heal()
        after = _drill(site, tools, 20, 1)
        everything = [*before, *during, *after]
        site.wait_answered(everything, 30)
        settle(site, farm)
        assert_one_answer_each(site, everything, repeats_allowed=True)
        assert_order_kept(site, everything)
        for hole in everything:
            assert_depths(site, hole)


@pytest.mark.timeout(240)
def test_a_minute_without_mqtt_expires_nothing_and_keeps_memory_flat(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: halves of holes that expire during an outage, answers lost with the client's queue
    farm = start_farm(mosquitto.port, mqtt={"listener": {"time_window": 5.0}})
    tools = [Tool(), Tool("2025-06")]
    before = _drill(site, tools, 20, 1)
    half = tools[0].drill()
    site.send(half.parts[0])
    site.wait_acknowledged()
    eventually(lambda: farm.stats()["buffers"]["open_joins"] == 1, 5, "the half is taken in")
    mosquitto.stop()
    eventually(lambda: farm.stats()["mqtt"]["state"] != "connected", 10, "the outage is noticed")
    ends_s = time.monotonic() + OUTAGE_S
    during = _drill(site, tools, 10, 2)  # they wait in the units
    while time.monotonic() < ends_s:
        assert farm.stats()["buffers"]["open_joins"] <= 1
        time.sleep(0.5)
    mosquitto.start()
    site.send(*half.parts[1:])
    everything = [*before, half, *during]
    site.wait_answered(everything, 60)
    settle(site, farm)
    assert_one_answer_each(site, everything, repeats_allowed=True)
    for hole in everything:
        assert_depths(site, hole)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_the_shipped_mosquitto_conf_over_an_end_of_mosquitto(
    signum: signal.Signals,
    shipped_mosquitto: Mosquitto,
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
) -> None:
    # prevents: a promise that the shipped file does not keep: SIGTERM costs nothing, SIGKILL at
    # most what mosquitto had taken since its last save and the farm not yet
    mosquitto = shipped_mosquitto
    site = make_site(mosquitto.port)
    farm = start_farm(mosquitto.port)
    tools = [Tool(), Tool("2025-06")]
    holes = _drill(site, tools, 20, 4)
    mosquitto.stop(signum)
    mosquitto.start()
    after = _drill(site, tools, 20, 2)
    site.wait_acknowledged(30)
    site.wait_answered(after, 30)
    site.wait_answered(holes[:-60], 30)  # three seconds before: they were saved, or answered
    settle(site, farm)
    lost = {hole.key for hole in holes if hole.key in set(site.missing(holes))}
    if signum == signal.SIGTERM:
        assert not lost
    print(f"{signum.name}: {len(lost)} of {len(holes)} unheard")  # noqa: T201 - for people
    heard = [hole for hole in [*holes, *after] if hole.key not in lost]
    assert_one_answer_each(site, heard, repeats_allowed=True)
    shot = farm.stats()
    ends = sum(shot["holes"][end] for end in ("published", "insufficient", "skipped", "dead"))
    assert shot["holes"]["arrived"] == ends


# ---- the clock -----------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_disturbs_no_hole(
    hours: int, mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: windows, deadlines and retention that run on a clock which people set
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime, which sets a clock for one process, is not installed")
    home = short_directory()
    control = home / "time"
    control.write_text("+0")
    farm = start_farm(
        mosquitto.port,
        environment={
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(control),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    tools = [Tool(), Tool("2025-06")]
    half = tools[0].drill()
    site.send(half.parts[0])
    holes = _drill(site, tools, 20, 2)
    control.write_text(f"{3600 * hours:+d}")
    holes += _drill(site, tools, 20, 2)
    site.send(*half.parts[1:])
    eventually(lambda: farm.events("clock_was_set"), 20, "the farm notices")
    os.kill(farm.broker_pid(), signal.SIGKILL)
    control.write_text("+0")
    holes += _drill(site, tools, 20, 2)
    site.wait_answered([*holes, half], 30)
    settle(site, farm)
    assert_one_answer_each(site, [*holes, half], repeats_allowed=True)
    for hole in [*holes, half]:
        assert_depths(site, hole)
    shutil.rmtree(home)
