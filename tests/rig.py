"""What the tests with real processes share: mosquitto, a farm, a site that drills and listens.

Owns processes, ports and directories, and gives them back whatever a test did. Knows the outside of
the farm alone: its command line, its MQTT topics, its control socket and its log.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import odd_models
import paho.mqtt.client as paho
import psutil
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from farm.control import fetch_stats
from farm.errors import NoFarmError
from farm.simulation.drilled import Recipe, drill
from farm.simulation.gateway import HEADS, RESULT, ROOT, STYLES, TRACE
from farm.simulation.mqttd import accepts_mqtt, find_mosquitto
from farm.simulation.ports import free_port
from farm.simulation.restamp import BoundHole, HoleTemplate
from farm.simulation.tether import tethered

if TYPE_CHECKING:
    import random

REPOSITORY = Path(__file__).resolve().parent.parent
# Where the misbehaving models of tests/odd_models.py are found by a farm's workers.
ODD_MODELS = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"
KEYPOINTS = f"{ESTIMATE}.KeyPoints"
DEPTHS = f"{ESTIMATE}.DepthEstimation"
ERRORS = f"{ESTIMATE}.Errors"
KIND_OF_TAIL = {RESULT: "result", TRACE: "trace", HEADS: "heads"}

POLL_S = 0.05
START_TIMEOUT_S = 40.0  # a farm with the rule is ready in 1.5 s on an idle machine
STOP_TIMEOUT_S = 20.0
STATS_TIMEOUT_S = 1.0
LOG_LINES_SHOWN = 120
MARK = "TEST_FARM_MARK"  # in the environment of every process of a farm, to find survivors by
READY = ("idle", "busy")

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout_s: float, what: str | Callable[[], str]) -> T:
    """The first true value of `check`; fails with `what` when there is none in time."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        if value := check():
            return value
        if time.monotonic() > deadline_s:
            pytest.fail(f"not within {timeout_s:g} s: {what() if callable(what) else what}")
        time.sleep(POLL_S)


def short_directory() -> Path:
    """A new directory with a path short enough for sockets (at most 107 characters)."""
    return Path(tempfile.mkdtemp(prefix="ft-", dir="/tmp"))


def wait_for_exit(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """The exit status of a process, which must end in time."""
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        pytest.fail(f"process {process.args} still runs after {timeout_s:g} s")


# ---- mosquitto -----------------------------------------------------------------------------------

# As in FACTS.md: with mosquitto's own defaults messages are lost in silence, or 40 ms late.
MOSQUITTO_CONF = """\
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
log_type notice
{extra}
listener {port} 127.0.0.1
"""


class Mosquitto:
    """A mosquitto with a directory and a port of its own, which it keeps when it is restarted.

    Args:
        extra: further lines for its configuration, before the listener.
        login: (user, password) that clients must give; None lets everyone in.
        durable: save every change, so that even kill -9 loses nothing; carries 350 messages/s.
        shipped: run with etc/mosquitto.conf, but for port and folder.
    """

    def __init__(
        self,
        extra: str = "",
        login: tuple[str, str] | None = None,
        *,
        durable: bool = True,
        shipped: bool = False,
    ) -> None:
        self.directory = short_directory()
        self.port = free_port()
        self.login = login
        self._extra = extra or "allow_anonymous true"
        self._durable = durable
        self._shipped = shipped
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        program = find_mosquitto()
        assert program is not None
        settings = self.directory / "mosquitto.conf"
        text = (
            self._shipped_conf()
            if self._shipped
            else MOSQUITTO_CONF.format(
                user=pwd.getpwuid(os.getuid()).pw_name,
                directory=self.directory,
                extra=self._extra,
                port=self.port,
                on_changes="true" if self._durable else "false",
                interval=1 if self._durable else 60,
            )
        )
        settings.write_text(text)
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                tethered([program, "-c", str(settings)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._is_up, 10, lambda: f"mosquitto is up:\n{self.log}")

    def _shipped_conf(self) -> str:
        text = (REPOSITORY / "etc" / "mosquitto.conf").read_text()
        changes = {
            "\nlistener 1883 ": f"\nlistener {self.port} ",
            "/var/lib/mosquitto/": f"{self.directory}/",
        }
        for old, new in changes.items():
            assert text.count(old) == 1
            text = text.replace(old, new)
        # started by root it would become another user, who can't write there
        return f"{text}\nuser {pwd.getpwuid(os.getuid()).pw_name}\n"

    def stop(self, signum: int = signal.SIGTERM) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signum)
            wait_for_exit(process, 10)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"mosquitto ended:\n{self.log}")
        if self.login is None:
            return accepts_mqtt("127.0.0.1", self.port)
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


# ---- the farm ------------------------------------------------------------------------------------


class Farm:
    """One `farm start` with its own state directory; every process of it carries a mark."""

    def __init__(
        self, settings: Mapping[str, Any], *, workers: int, state_dir: Path | None = None
    ) -> None:
        self.home = short_directory()
        self.state_dir = state_dir or self.home / "s"
        self.workers = workers
        self.config_file = self.home / "farm.yaml"
        self.config_file.write_text(yaml.safe_dump(dict(settings)))
        self.mark = uuid.uuid4().hex
        self.environment = clean_environment() | {MARK: self.mark}
        self.log_file = self.home / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        return farm_command(
            *("start", "--config", self.config_file, "--state-dir", self.state_dir),
            *("--workers", self.workers),
        )

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                tethered(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                cwd=self.home,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == name]

    def stats(self) -> dict[str, Any]:
        """The snapshot; {} while nobody answers."""
        try:
            return fetch_stats(f"ipc://{self.state_dir}/control.sock", timeout_s=STATS_TIMEOUT_S)
        except NoFarmError:
            return {}

    def worker_pids(self) -> list[int]:
        """The processes of the workers that are READY."""
        return [row["pid"] for row in self.stats().get("workers", ()) if row["state"] in READY]

    def broker_pid(self) -> int:
        """The process that is not the supervisor and not a worker."""
        found = []
        for child in psutil.Process(self.pid).children():
            # a worker that was just killed may not be reaped yet
            with contextlib.suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
                if "broker" in child.cmdline():
                    found.append(child.pid)
        assert len(found) == 1, found
        return found[0]

    def is_ready(self, workers: int) -> bool:
        if self.process is not None and self.process.poll() is not None:
            pytest.fail(f"the farm ended with {self.process.returncode}:\n{self.last_lines()}")
        shot = self.stats()
        ready = sum(row["state"] in READY for row in shot.get("workers", ()))
        return ready >= workers and shot["mqtt"]["state"] == "connected"

    def wait_ready(self, workers: int | None = None) -> None:
        wanted = self.workers if workers is None else workers
        what = f"{wanted} workers READY and MQTT connected"
        eventually(
            lambda: self.is_ready(wanted), START_TIMEOUT_S, lambda: f"{what}:\n{self.last_lines()}"
        )

    def processes(self) -> list[int]:
        """Every living process of this farm, found by its mark, whoever its parent is now."""
        return marked_processes(self.mark)

    def signal(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        assert self.process is not None
        return wait_for_exit(self.process, timeout_s)

    def last_lines(self) -> str:
        return "\n".join(self.log.splitlines()[-LOG_LINES_SHOWN:])

    def close(self) -> None:
        """End it if it still runs; nothing of it may survive."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            assert_gone(self.mark)
        finally:
            print(f"---- {self.home} ----\n{self.last_lines()}")  # noqa: T201 - for people
            shutil.rmtree(self.home, ignore_errors=True)


def marked_hole(tool: Tool) -> Hole:
    """The next hole of a tool, with the mark that the models of odd_models.py look for."""
    hole = tool.drill()
    marked = hole.changed("trace", lambda payload: payload.replace(*odd_models.MARK))
    assert marked.part("trace") != hole.part("trace")
    return marked


def farm_command(*arguments: object) -> list[str]:
    """The command line of `farm`, run from this checkout."""
    return [sys.executable, "-m", "farm", *map(str, arguments)]


def run_farm(
    *arguments: object, timeout_s: float = 30, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A `farm` command that ends by itself."""
    return subprocess.run(
        farm_command(*arguments),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=clean_environment() | dict(environment or {}),
    )


def clean_environment() -> dict[str, str]:
    """Ours, without anything that configures a farm, and with this checkout on the path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FARM_", "MQTT_")) and name not in ("MODEL_ID", "LOG_LEVEL")
    }
    return kept | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}


def marked_processes(mark: str) -> list[int]:
    """The living processes with this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def assert_gone(mark: str, timeout_s: float = 3.0) -> None:
    """No process with this mark lives on; what does is killed, and the test fails."""
    deadline_s = time.monotonic() + timeout_s
    while (left := marked_processes(mark)) and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, f"processes that outlived their farm: {left}"


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as one; `above` wins."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both else value
    return result


def settings_for(port: int, **above: Any) -> dict[str, Any]:
    """A configuration for tests: the rule, quick to reconnect, quick to give up draining."""
    broker = {"host": "127.0.0.1", "port": port, "reconnect_min_s": 0.1, "reconnect_max_s": 0.5}
    base = {
        "mqtt": {"broker": broker},
        "instance": f"t-{uuid.uuid4().hex[:8]}",
        "model": "rule",
        "log": {"format": "json"},
        "supervisor": {"drain_timeout_s": 10},
    }
    return merged(base, above)


# ---- holes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sent:
    """One message of a hole."""

    kind: str
    topic: str
    payload: bytes


@dataclass(frozen=True)
class Hole:
    """The messages of one hole, and what its answer must repeat of them."""

    source: str  # "toolbox/tool"
    result_id: str
    parts: tuple[Sent, ...]
    machine_id: str
    head_id: str | None

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.result_id

    def part(self, kind: str) -> Sent:
        return next(part for part in self.parts if part.kind == kind)

    def changed(self, kind: str, change: Callable[[bytes], bytes]) -> Hole:
        """The same hole with one message rewritten."""
        parts = tuple(
            Sent(p.kind, p.topic, change(p.payload)) if p.kind == kind else p for p in self.parts
        )
        return Hole(self.source, self.result_id, parts, self.machine_id, self.head_id)


@functools.cache
def _template(program: str, style: str, single_step: bool) -> tuple[HoleTemplate, str, str | None]:
    hole = drill(Recipe(program, style, single_step), seed=7)
    result = json.loads(hole.messages.result)["Messages"]["Payload"]
    machine = _value(result, "ResultMetaData.SerialNumber")
    head = None
    if hole.messages.heads is not None:
        heads = json.loads(hole.messages.heads)["Messages"]["Payload"]
        head = str(_value(heads, "Identification.SerialNumber"))
    return HoleTemplate(hole.messages), str(machine), head


def _value(payload: Mapping[str, Any], ending: str) -> Any:
    return next(entry["Value"] for key, entry in payload.items() if key.endswith(ending))


@functools.cache
def _bound(toolbox: str, tool: str, program: str, style: str, single_step: bool) -> BoundHole:
    template, _, _ = _template(program, style, single_step)
    return template.bind(toolbox=toolbox, tool=tool)


class Tool:
    """A drilling unit under a name that no other test uses; its holes count from `first_id`."""

    def __init__(
        self,
        style: str = "2025-03",
        *,
        program: str = "V8",
        toolbox: str = "",
        first_id: int = 1,
    ) -> None:
        self.style, self.program = style, program
        self.toolbox = toolbox or f"BOX-{uuid.uuid4().hex[:8]}"
        self.name = f"UNIT-{uuid.uuid4().hex[:6]}"
        self._next_id = first_id

    @property
    def source(self) -> str:
        return f"{self.toolbox}/{self.name}"

    def drill(self, *, single_step: bool = False, result_id: str | None = None) -> Hole:
        """The next hole."""
        if result_id is None:
            result_id, self._next_id = str(self._next_id), self._next_id + 1
        bound = _bound(self.toolbox, self.name, self.program, self.style, single_step)
        _, machine, head = _template(self.program, self.style, single_step)
        parts = tuple(
            Sent(KIND_OF_TAIL[topic.split("/", 3)[3]], topic, payload)
            for topic, payload in bound.stamp(result_id)
        )
        return Hole(self.source, result_id, parts, machine, head)


def tools_of_all_styles(per_style: int = 1) -> list[Tool]:
    return [Tool(style) for style in STYLES for _ in range(per_style)]


# ---- the site ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """One message from the farm."""

    topic: str
    payload: bytes
    retained: bool
    heard_s: float

    @property
    def source(self) -> str:
        return "/".join(self.topic.removeprefix(f"{ROOT}/").split("/")[:2])

    @property
    def tail(self) -> str:
        return self.topic.rsplit("/", 1)[-1]

    @functools.cached_property
    def body(self) -> dict[str, Any]:
        # NaN and Infinity are no JSON: a consumer's parser would stumble over them
        return json.loads(self.payload, parse_constant=_refuse_constant)

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.body["ResultId"]


def _refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} on the wire")


class Site:
    """Publishes the units' messages and hears the answers: two connections, QoS 1.

    The hearing one has a persistent session, so that it misses nothing when mosquitto is restarted.
    """

    def __init__(
        self,
        port: int,
        *,
        login: tuple[str, str] | None = None,
        protocol: int = paho.MQTTv5,
        root: str = ROOT,
    ) -> None:
        self._port, self._login, self._protocol = port, login, protocol
        self._filters = [(f"{root}/+/+/{tail}", 1) for tail in (KEYPOINTS, DEPTHS, ERRORS)]
        self._filters.append(("farm/+/status", 1))
        self._lock = threading.Lock()
        self._heard: list[Heard] = []
        self._subscribed = threading.Event()
        self._sent = self._acknowledged = 0  # written by one thread each
        self.refusals: list[str] = []
        self._drill = self._connect("drill", self._note_publisher)
        self._hear = self._connect("hear", self._note_listener)
        assert self._subscribed.wait(10), "the site could not subscribe"

    def close(self) -> None:
        for client in (self._drill, self._hear):
            client.disconnect()
            client.loop_stop()

    # ---- drilling

    def publish(self, topic: str, payload: bytes) -> None:
        self._sent += 1
        self._drill.publish(topic, payload, qos=1)

    def send(self, *parts: Sent) -> None:
        for part in parts:
            self.publish(part.topic, part.payload)

    def send_hole(self, hole: Hole) -> None:
        self.send(*hole.parts)

    @property
    def unacknowledged(self) -> int:
        return self._sent - self._acknowledged

    def echo(self) -> None:
        """Wait until all that mosquitto has for us is heard: it keeps the order."""
        topic = f"farm/echo-{uuid.uuid4().hex}/status"
        self.publish(topic, b"{}")
        eventually(lambda: any(one.topic == topic for one in self.heard()), 10, "the echo comes")

    def wait_acknowledged(self, timeout_s: float = 20.0) -> None:
        eventually(lambda: not self.unacknowledged, timeout_s, "every message has its PUBACK")

    # ---- hearing

    def heard(self, tail: str | None = None, source: str | None = None) -> list[Heard]:
        with self._lock:
            heard = list(self._heard)
        return [
            one
            for one in heard
            if (tail is None or one.tail == tail) and (source is None or one.source == source)
        ]

    def answers(self) -> dict[tuple[str, str], dict[str, list[Heard]]]:
        """The messages about each hole, by tail."""
        found: dict[tuple[str, str], dict[str, list[Heard]]] = defaultdict(
            lambda: {KEYPOINTS: [], DEPTHS: []}
        )
        for one in self.heard():
            if one.tail in (KEYPOINTS, DEPTHS):
                found[one.key][one.tail].append(one)
        return found

    def missing(self, holes: Iterable[Hole]) -> list[tuple[str, str]]:
        """The holes without both messages."""
        answers = self.answers()
        return [
            hole.key
            for hole in holes
            if not all(answers.get(hole.key, {}).get(tail) for tail in (KEYPOINTS, DEPTHS))
        ]

    def wait_answered(self, holes: Iterable[Hole], timeout_s: float = 20.0) -> None:
        wanted = list(holes)
        eventually(
            lambda: not self.missing(wanted),
            timeout_s,
            lambda: f"{len(wanted)} holes answered; open: {self.missing(wanted)[:10]}",
        )

    def statuses(self, instance: str) -> list[Heard]:
        return [one for one in self.heard() if one.topic == f"farm/{instance}/status"]

    # ---- paho

    def _connect(self, what: str, callbacks: Callable[[paho.Client], None]) -> paho.Client:
        old = self._protocol != paho.MQTTv5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{what}-{uuid.uuid4().hex[:12]}",
            protocol=self._protocol,
            **({"clean_session": False} if old else {}),
        )
        client.max_inflight_messages_set(0)
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        client.on_socket_open = lambda _c, _u, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        if self._login:
            client.username_pw_set(*self._login)
        callbacks(client)
        options: dict[str, Any] = {}
        if not old:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 600
            options = {"clean_start": False, "properties": properties}
        client.connect("127.0.0.1", self._port, 30, **options)
        client.loop_start()
        return client

    def _note_publisher(self, client: paho.Client) -> None:
        def on_publish(_c: Any, _u: Any, _mid: int, reason: Any, _p: Any) -> None:
            self._acknowledged += 1
            if reason.is_failure:
                self.refusals.append(str(reason))

        client.on_publish = on_publish

    def _note_listener(self, client: paho.Client) -> None:
        def on_connect(client: paho.Client, *_: Any) -> None:
            client.subscribe(self._filters)

        def on_message(_c: Any, _u: Any, message: paho.MQTTMessage) -> None:
            heard = Heard(message.topic, message.payload, message.retain, time.monotonic())
            with self._lock:
                self._heard.append(heard)

        client.on_connect = on_connect
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = on_message


def paced(rate: float, duration_s: float) -> Iterator[float]:
    """Ticks of a schedule that waits for nobody; gives the seconds since its start."""
    start_s = time.monotonic()
    for number in range(int(rate * duration_s)):
        due_s = number / rate
        time.sleep(max(0.0, start_s + due_s - time.monotonic()))
        yield due_s


def shuffled(parts: Iterable[Sent], rng: random.Random) -> list[Sent]:
    mixed = list(parts)
    rng.shuffle(mixed)
    return mixed


# ---- what must hold ------------------------------------------------------------------------------


def assert_one_answer_each(
    site: Site, holes: Iterable[Hole], *, repeats_allowed: bool = False
) -> int:
    """Each hole has one KeyPoints and one DepthEstimation message, under the right names.

    Returns:
        How many messages came more than once, each byte for byte the same (0 unless allowed).
    """
    answers, repeats = site.answers(), 0
    for hole in holes:
        for tail in (KEYPOINTS, DEPTHS):
            messages = answers[hole.key][tail]
            assert messages, f"{hole.key} has no {tail}"
            if repeats_allowed:
                assert len({one.payload for one in messages}) == 1, (
                    f"{hole.key} differs: {messages}"
                )
                repeats += len(messages) - 1
            else:
                assert len(messages) == 1, f"{hole.key} has {len(messages)} {tail}: {messages}"
            assert messages[0].body["ResultId"] == hole.result_id
            assert messages[0].body["MachineId"] in (hole.machine_id, None)
    return repeats


def settle(site: Site, farm: Farm) -> None:
    """Wait until nothing is under way any more, so that what did not come will not come."""
    site.wait_acknowledged()
    site.echo()

    def is_quiet() -> bool:
        shot = farm.stats()
        jobs = shot.get("jobs", {"unanswered": 1})
        return not (
            jobs["unanswered"] or jobs["unconfirmed_publications"] or shot["intake"]["queued"]
        )

    eventually(is_quiet, 20, lambda: f"the farm is quiet: {farm.stats()}")
    site.echo()


def assert_depths(site: Site, hole: Hole) -> None:
    """The hole is answered with numbers, and all that identifies it is repeated."""
    messages = site.answers()[hole.key]
    keypoints, depths = messages[KEYPOINTS][0].body, messages[DEPTHS][0].body
    for body in (keypoints, depths):
        assert body["MachineId"] == hole.machine_id
        assert body["HeadId"] == hole.head_id
        assert body["AlgoVersion"]
        assert body["ModelHash"]
        assert body["SourceTimestamp"].endswith("Z")
        assert "Error" not in body
    entry, transition, exit_ = keypoints["Value"]
    assert depths["Value"] == pytest.approx([transition - entry, exit_ - transition], abs=2e-3)


def assert_error(site: Site, hole: Hole, *words: str) -> str:
    """The hole is answered with a sentence, once in both places; returns the sentence."""
    messages = site.answers()[hole.key]
    values = []
    for tail in (KEYPOINTS, DEPTHS):
        assert len(messages[tail]) == 1, f"{hole.key}: {messages}"
        body = messages[tail][0].body
        assert body["Error"] is True
        values.append(body["Value"])
    assert values[0] == values[1]
    for word in words:
        assert word in values[0], values[0]
    return values[0]


def assert_order_kept(site: Site, holes: Iterable[Hole]) -> None:
    """Per tool the answers came in the order of `holes`."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for hole in holes:
        wanted[hole.source].append(hole.result_id)
    for tail in (KEYPOINTS, DEPTHS):
        for source, ids in wanted.items():
            came = dict.fromkeys(one.body["ResultId"] for one in site.heard(tail, source))
            wrong = [i for i in came if i in set(ids)]
            assert wrong == ids, f"{source} {tail}: {wrong}"
