"""`farm demo` whole: broker, farm, units, answers, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

DEADLINE_S = 100.0


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "farm", *map(str, arguments)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What would configure a real farm must not reach this one.
        env={**os.environ, "TMPDIR": str(folder), "MQTT_BROKER_PORT": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    return process.returncode, out, err


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return
    pytest.fail(f"it ended without {words!r}: {process.communicate()[1]}")


@pytest.mark.parametrize("engine", ["mosquitto", "amqtt"])
@pytest.mark.usefixtures("has_mosquitto")
def test_the_demo_answers_every_hole_and_leaves_nothing(short_path, engine):
    process = start(
        short_path, "demo", "--holes", 30, "--rate", 30, "--workers", 2, "--engine", engine
    )
    code, out, err = finish(process)
    assert code == 0, out + err
    assert f"{engine} on 127.0.0.1:" in out
    assert "holes in        30" in out
    assert "Every hole was answered, and only once." in out
    assert '"Value": [' in out  # an answer as received
    assert "\x1b[" not in out  # plain lines off a terminal
    assert list(short_path.iterdir()) == []


@pytest.mark.usefixtures("has_mosquitto")
def test_ctrl_c_ends_an_endless_demo_with_its_summary(short_path):
    process = start(short_path, "demo", "--holes", 0, "--workers", 1)
    read_until(process, "answered 1")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 0, out + err
    assert "Every hole was answered" in out
    deadline_s = time.monotonic() + 10
    while any(child.is_running() for child in children) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not [child for child in children if child.is_running()]


@pytest.mark.usefixtures("has_mosquitto")
def test_ctrl_c_while_the_farm_starts_says_so_and_leaves_nothing(short_path):
    # prevents: "Aborted!" with exit code 1, as if the demo had failed
    process = start(short_path, "demo", "--workers", 2)
    read_until(process, "MQTT broker")
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130, out + err
    assert err == "stopped before any hole was drilled\n"
    assert list(short_path.iterdir()) == []
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
