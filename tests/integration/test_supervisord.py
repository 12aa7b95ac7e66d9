"""The farm under a real supervisord, with the settings that etc/supervisord.conf ships."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from rig import (
    REPOSITORY,
    Farm,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_gone,
    eventually,
    settings_for,
    settle,
    short_directory,
    wait_for_exit,
)

from farm.simulation.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

STARTS_TRIED = 3  # the shipped file tries more often, with a second more between each two
SHIPPED = REPOSITORY / "etc" / "supervisord.conf"


class Supervisord:
    """A supervisord that runs one farm by the shipped file; only paths and names are put in."""

    def __init__(self, farm: Farm) -> None:
        pytest.importorskip("supervisor")
        self.home = short_directory()
        self.farm = farm
        self.file = self.home / "supervisord.conf"
        with self.file.open("w") as file:
            _patched(self.home, shlex.join(farm.command)).write(file)
        self._process = subprocess.Popen(
            tethered([sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.file)]),
            env=farm.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def control(self, *words: str) -> str:
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.file), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        return done.stdout + done.stderr

    def farm_pid(self) -> int:
        """The pid of the farm while it is RUNNING, else 0."""
        told = self.control("pid", "farm").strip()
        running = "RUNNING" in self.control("status", "farm")
        return int(told) if running and told.isdigit() else 0

    def close(self) -> None:
        try:
            if self._process.poll() is None:
                self._process.terminate()
                wait_for_exit(self._process, 40)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            log = self.home / "farm.log"
            print(log.read_text() if log.exists() else "no log")  # noqa: T201 - for people
            assert_gone(self.farm.mark)
            shutil.rmtree(self.home, ignore_errors=True)
            shutil.rmtree(self.farm.home, ignore_errors=True)


def _patched(home: Path, command: str) -> configparser.RawConfigParser:
    shipped = configparser.RawConfigParser(inline_comment_prefixes=(" ;",))
    shipped.read(SHIPPED)
    for section, key, value in (
        ("supervisord", "logfile", home / "supervisord.log"),
        ("supervisord", "pidfile", home / "supervisord.pid"),
        ("unix_http_server", "file", home / "s.sock"),
        ("supervisorctl", "serverurl", f"unix://{home}/s.sock"),
        ("program:farm", "command", command),
        ("program:farm", "directory", home),
        ("program:farm", "stdout_logfile", home / "farm.log"),
        ("program:farm", "startretries", STARTS_TRIED - 1),
    ):
        assert shipped.has_option(section, key), f"{SHIPPED} has no {key} in {section}"
        shipped.set(section, key, str(value))
    return shipped


@pytest.fixture
def supervisord(mosquitto: Mosquitto) -> Iterator[Supervisord]:
    started = Supervisord(Farm(settings_for(mosquitto.port), workers=2))
    try:
        eventually(started.farm_pid, 20, lambda: started.control("status"))
        started.farm.wait_ready()
        yield started
    finally:
        started.close()


def _answered(site: Site, tool: Tool) -> None:
    hole = tool.drill()
    site.send_hole(hole)
    site.wait_answered([hole], 30)
    assert_depths(site, hole)


def test_start_restart_and_stop_in_good_order(site: Site, supervisord: Supervisord) -> None:
    # prevents: a stop that kills instead of draining, or that leaves workers behind
    farm, tool = supervisord.farm, Tool()
    _answered(site, tool)
    first = supervisord.farm_pid()
    assert "farm: started" in supervisord.control("restart", "farm")
    farm.wait_ready()
    second = supervisord.farm_pid()
    assert second not in (0, first)
    _answered(site, tool)
    settle(site, farm)
    assert "farm: stopped" in supervisord.control("stop", "farm")
    assert "STOPPED" in supervisord.control("status", "farm")
    log = (supervisord.home / "farm.log").read_text()
    assert log.count('"drained": true') == 2
    assert "Traceback" not in log
    assert not [pid for pid in farm.processes() if pid != supervisord._process.pid]


def test_kill_9_of_the_farm_is_healed_by_supervisord(site: Site, supervisord: Supervisord) -> None:
    # prevents: a farm that stays away after its supervisor died, e.g. for want of memory
    farm, tool = supervisord.farm, Tool()
    _answered(site, tool)
    killed = supervisord.farm_pid()
    workers = farm.worker_pids()
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: supervisord.farm_pid() not in (0, killed), 20, "it is started again")
    farm.wait_ready()
    assert not set(workers) & set(farm.processes()), "workers of the killed farm live on"
    _answered(site, tool)


def test_a_wrong_configuration_is_not_tried_for_ever(mosquitto: Mosquitto) -> None:
    # prevents: a log full of one mistake, and a farm that seems to be starting all day
    started = Supervisord(Farm(settings_for(mosquitto.port, wokers=3), workers=1))
    try:
        eventually(
            lambda: "FATAL" in started.control("status", "farm"),
            60,
            lambda: started.control("status"),
        )
        log = (started.home / "farm.log").read_text()
        assert log.count("unknown key wokers") == STARTS_TRIED
    finally:
        started.close()
