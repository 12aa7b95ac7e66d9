"""An MQTT broker of our own on a free loopback port, for a demo, a bench or a test.

Owns the broker's process, its settings and its directory. Prefers mosquitto, which is what plants
run; amqtt (pure Python) stands in where there is none.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from enum import Enum
from pathlib import Path
from typing import Self

from farm.errors import MqttError
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.ports import LOOPBACK, free_port
from farm.simulation.tether import tethered

START_TIMEOUT_S = 20.0  # amqtt takes 1 s on a busy small machine
STOP_TIMEOUT_S = 5.0
POLL_S = 0.02
RELAXED_SAVE_S = 10  # also saved when it is stopped in good order
# A stranger may take the port between our choosing it and the broker's binding it.
PORT_ATTEMPTS = 3
# MQTT 3.1.1 CONNECT, clean session, keep alive 10 s, client id "probe"; all brokers speak it.
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe"
_CONNACK = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"

# Without the persistence and queue settings mosquitto loses messages in silence: its queue for a
# client that is away holds 1000, and it saves at intervals only. Nagle's algorithm adds 40 ms.
# Saving on changes syncs the disk for almost every message to a persistent session: mosquitto
# then carries some 500 of them a second where it carries 9000 when saving at intervals.
_MOSQUITTO_CONF = """\
listener {port} {host}
allow_anonymous true
user {user}
persistence true
persistence_location {directory}/
autosave_on_changes {on_changes}
autosave_interval {interval}
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
"""


class Engine(Enum):
    """Which broker program."""

    AUTO = "auto"
    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


def find_mosquitto() -> str | None:
    """The mosquitto program: on PATH, or where Debian puts it out of a user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def choose_engine(engine: Engine) -> Engine:
    """The broker program to use.

    Raises:
        MqttError: it is not installed, with what to do.
    """
    has_amqtt = importlib.util.find_spec("amqtt") is not None
    if engine in {Engine.AUTO, Engine.MOSQUITTO} and find_mosquitto():
        return Engine.MOSQUITTO
    if engine in {Engine.AUTO, Engine.AMQTT} and has_amqtt:
        return Engine.AMQTT
    cures = {
        Engine.MOSQUITTO: "install it (apt install mosquitto) or choose amqtt",
        Engine.AMQTT: "pip install amqtt, or choose mosquitto",
        Engine.AUTO: "apt install mosquitto, or pip install amqtt",
    }
    wanted = "neither mosquitto nor amqtt" if engine is Engine.AUTO else f"no {engine.value}"
    raise MqttError(f"{wanted} is installed here: {cures[engine]}")


class EmbeddedBroker:
    """A broker that runs between `start` and `stop`, or as a context manager.

    Stopped and started again it keeps its port and, with mosquitto, its sessions and messages.

    Args:
        engine: which program, or its name.
        directory: for settings, log and data; by default a temporary one that is removed.
        durable: mosquitto saves every change, so that even its kill loses nothing. Slow.
    """

    def __init__(
        self,
        engine: Engine | str = Engine.AUTO,
        *,
        directory: Path | None = None,
        durable: bool = True,
    ) -> None:
        self.engine = choose_engine(Engine(engine))
        self.durable = durable
        self.port = 0
        self._given = directory
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> BrokerAddress:
        """Where clients connect."""
        old = self.engine is Engine.AMQTT
        return BrokerAddress(LOOPBACK, self.port, protocol="3.1.1" if old else "5")

    @property
    def pid(self) -> int | None:
        """The broker's process, while it runs."""
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and remove the directory where it is our own."""
        self.stop()
        if self._given is None and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def start(self) -> None:
        """Start the broker and return once it accepts MQTT connections.

        Raises:
            MqttError: it ends or stays silent; its last words are in the message.
        """
        self._prepare()
        attempts = 1 if self.port else PORT_ATTEMPTS
        for attempt in range(attempts):
            port = self.port or free_port()
            self._spawn(port)
            if self._wait_until_up(port):
                self.port = port
                return
            self.stop()
            if attempt + 1 == attempts:
                raise MqttError(f"{self.engine.value} did not start: {self._last_words()}")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """End the broker's process; harmless when it is not running.

        Returns:
            Whether it ended by itself; killed, it may not have saved what it holds.
        """
        process, self._process = self._process, None
        if process is None:
            return True
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True

    def kill(self) -> None:
        """End it as a power cut would, for tests of recovery."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _home(self) -> Path:
        assert self._directory is not None
        return self._directory

    @property
    def _log(self) -> Path:
        return self._home / "broker.log"

    def _prepare(self) -> None:
        if self._directory is None:
            made = self._given or Path(tempfile.mkdtemp(prefix="farm-mqtt-"))
            made.mkdir(parents=True, exist_ok=True)
            self._directory = made

    def _spawn(self, port: int) -> None:
        command = self._command(port)
        with self._log.open("ab") as log:  # what it said before a restart is of interest, too
            self._process = subprocess.Popen(
                tethered(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # a Ctrl-C in the terminal is not meant for it
            )

    def _command(self, port: int) -> list[str]:
        if self.engine is Engine.AMQTT:
            return [sys.executable, "-m", "farm.simulation.amqtt_server", "--port", str(port)]
        program = find_mosquitto()
        assert program is not None
        settings = self._home / "mosquitto.conf"
        settings.write_text(
            _MOSQUITTO_CONF.format(
                port=port,
                host=LOOPBACK,
                # Started by root it would become another user, who can't write our directory.
                user=pwd.getpwuid(os.getuid()).pw_name,
                directory=self._home,
                on_changes="true" if self.durable else "false",
                interval=1 if self.durable else RELAXED_SAVE_S,
            )
        )
        return [program, "-c", str(settings)]

    def _wait_until_up(self, port: int) -> bool:
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            if self._process.poll() is not None:
                return False
            if accepts_mqtt(LOOPBACK, port):
                # Our own broker, not a stranger that took the port while ours failed to bind.
                return self._process.poll() is None
            time.sleep(POLL_S)
        return False

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            if lines:
                return " | ".join(lines[-3:])
        return f"silent for {START_TIMEOUT_S:.0f} s"


def accepts_mqtt(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Whether an MQTT broker there accepts a connection now."""
    try:
        with socket.create_connection((host, port), timeout_s) as probe:
            probe.settimeout(timeout_s)
            probe.sendall(_CONNECT)
            answer = b""
            while len(answer) < len(_CONNACK):
                received = probe.recv(len(_CONNACK) - len(answer))
                if not received:
                    return False
                answer += received
            probe.sendall(_DISCONNECT)
            return answer[:1] == _CONNACK[:1] and answer[3:] == b"\x00"
    except OSError:
        return False
