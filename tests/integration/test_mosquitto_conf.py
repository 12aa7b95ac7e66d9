"""etc/mosquitto.conf as shipped: mosquitto takes it, and its advice on old sessions works."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rig import REPOSITORY, eventually, short_directory

from farm.simulation.mqttd import accepts_mqtt, find_mosquitto
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("has_mosquitto")]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that mosquitto can write to also when it gives up being root."""
    made = short_directory()
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def port(home: Path) -> Iterator[int]:
    """Where a mosquitto with the shipped file listens; only port and folder are put in."""
    number = free_port()
    text = (REPOSITORY / "etc" / "mosquitto.conf").read_text()
    text, ports = re.subn(r"(?m)^listener 1883 ", f"listener {number} ", text)
    text, folders = re.subn(r"/var/lib/mosquitto/", f"{home}/", text)
    assert (ports, folders) == (1, 1)
    file = home / "mosquitto.conf"
    file.write_text(text)
    program = find_mosquitto()
    assert program is not None
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(file)], stdout=log, stderr=log)
    try:
        eventually(lambda: accepts_mqtt("127.0.0.1", number), 10, (home / "log").read_text)
        yield number
    finally:
        process.kill()
        process.wait()


def connect(port: int, client_id: str) -> bool:
    """Connect as a farm does; returns whether mosquitto still had the session."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 86_400
    found: list[bool] = []
    client.on_connect = lambda _c, _u, flags, _r, _p: found.append(flags.session_present)
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()
    eventually(lambda: found, 10, "CONNACK")
    client.disconnect()
    client.loop_stop()
    return found[0]


def test_a_lost_farms_session_is_removed_as_the_file_says(port: int) -> None:
    # prevents: a file that mosquitto refuses, and a cure that does not cure
    assert not connect(port, "farm-old")
    assert connect(port, "farm-old")
    command = ["mosquitto_sub", "-p", str(port), "-i", "farm-old", "-t", "none", "-E"]
    subprocess.run(command, check=True, timeout=10)
    assert not connect(port, "farm-old")


def test_it_saves_within_seconds(port: int, home: Path) -> None:
    # prevents: autosave_interval counted in changes, or never
    connect(port, "farm-new")
    wanted = time.time()
    database = home / "mosquitto.db"
    eventually(
        lambda: database.exists() and database.stat().st_mtime >= wanted - 1, 5, "it is saved"
    )
