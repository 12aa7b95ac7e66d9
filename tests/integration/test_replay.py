"""`farm replay` and `farm simulate` as commands, against a real mosquitto."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from farm.simulation.archive import read_archive
from farm.simulation.mqtt import MqttLink
from farm.simulation.mqttd import EmbeddedBroker
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("has_mosquitto")]

DEADLINE_S = 30.0


class Hearer:
    """Everything under one root, as it came."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.link = MqttLink(
            broker.address,
            name="hear",
            filters=("OPCPUBSUB/#",),
            on_message=lambda *message: self.heard.append(message),
        )

    def wait_for(self, count: int) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while len(self.heard) < count and time.monotonic() < deadline_s:
            time.sleep(0.02)
        assert len(self.heard) == count


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(durable=False) as running:
        yield running


@pytest.fixture
def hearer(broker: EmbeddedBroker) -> Iterator[Hearer]:
    made = Hearer(broker)
    made.link.connect()
    yield made
    made.link.close()


@pytest.fixture
def farm(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command of `farm` to its end."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "farm", *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )

    return run


@pytest.fixture
def holes(farm, tmp_path: Path) -> Path:
    """Three small holes, the first without Heads."""
    folder = tmp_path / "holes"
    done = farm("simulate", folder, "--program", "V6-V7", "--count", 3, "--seed", 5)
    assert done.returncode == 0, done.stderr
    return folder


def test_simulate_writes_holes_and_their_truth(holes):
    rows = list(csv.DictReader((holes / "index.csv").open()))
    assert [row["gateway_style"] for row in rows] == ["2024-12", "2025-03", "2025-06"]
    for row, hole in zip(rows, read_archive(holes), strict=True):
        assert row["hole"] == hole.name
        assert row["result_id"] == hole.template.result_id
        assert 0 < float(row["entry_mm"]) < float(row["transition_mm"]) < float(row["exit_mm"])


def test_replay_publishes_each_hole_once_under_a_fresh_id(farm, broker, hearer, holes):
    done = farm("replay", holes, "--port", broker.port, "--rate", 50)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 holes published" in done.stdout
    assert "8 messages, 8 acknowledged" in done.stdout
    hearer.wait_for(8)
    ids = Counter(result_id(payload) for topic, payload in hearer.heard)
    assert len(ids) == 3
    assert not set(ids) & {hole.template.result_id for hole in read_archive(holes)}


def test_replay_repeats_over_tools_without_ever_repeating_a_hole(farm, broker, hearer, holes):
    done = farm(
        "replay", holes, "--port", broker.port, "--rate", 500, "--count", 30, "--tools", 4,
        "--shuffle", "--skew", 0.05,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    hearer.wait_for(10 * 8)
    keys = Counter(
        (topic.split("/")[2], topic.rsplit("/", 1)[1], result_id(payload))
        for topic, payload in hearer.heard
    )
    assert set(keys.values()) == {1}
    assert len({tool for tool, _, _ in keys}) == 4


def test_keep_ids_publishes_the_recorded_bytes(farm, broker, hearer, holes):
    hole = read_archive(holes)[1]
    done = farm("replay", holes / hole.name, "--port", broker.port, "--keep-ids", "--count", 2)
    assert done.returncode == 0, done.stderr
    hearer.wait_for(6)
    parts = [raw for _, raw in hole.messages.parts()]
    assert [payload for _, payload in hearer.heard] == parts * 2


def test_replay_keeps_the_rate(farm, broker, holes):
    done = farm("replay", holes, "--port", broker.port, "--rate", 10, "--count", 21)
    took_s = float(re.findall(r"in (\d+\.\d) s", done.stdout)[0])
    assert 1.9 <= took_s < 10  # 20 intervals of 0.1 s; slow machines may add


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing"], 2, "does not exist"),
        (["."], 1, "no hole found"),
        (["holes", "--keep-ids", "--tools", "3"], 2, "choose one"),
        (["holes", "--rate", "0"], 2, "--rate"),
        (["holes", "--port", "FREE"], 1, "can't connect"),
    ],
)
def test_wrong_use_is_told_in_one_line(farm, holes, arguments, code, words):
    given = [str(free_port()) if a == "FREE" else a for a in arguments]
    if "--port" not in given:
        given += ["--port", str(free_port())]
    done = farm("replay", *given)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_broker_that_refuses_messages_means_exit_1(farm, tmp_path, holes, monkeypatch):
    from farm.simulation import mqttd  # noqa: PLC0415 - patched below

    rules = tmp_path / "rules"
    rules.write_text("topic read #\n")
    monkeypatch.setattr(mqttd, "_MOSQUITTO_CONF", f"{mqttd._MOSQUITTO_CONF}acl_file {rules}\n")
    with EmbeddedBroker("mosquitto", durable=False) as strict:
        done = farm("replay", holes, "--port", strict.port, "--rate", 50)
    assert done.returncode == 1
    assert "0 acknowledged" in done.stdout
    assert "x Not authorized" in done.stderr


def test_the_first_ctrl_c_waits_for_a_stuck_broker_and_the_second_gives_up(broker, holes):
    # prevents: a command that can only be killed, and leaves no word on what it had sent
    command = ["replay", holes, "--port", broker.port, "--rate", 20, "--count", 10_000]
    process = subprocess.Popen(
        [sys.executable, "-m", "farm", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    try:
        assert "to publish" in process.stderr.readline()
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        time.sleep(1)  # some 20 holes go out, into nothing
        process.send_signal(signal.SIGINT)
        told = process.stderr.readline()
        waiting = int(
            re.findall(r"stopping: (\d+) messages wait for their acknowledgement", told)[0]
        )
        assert waiting > 0
        started_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert time.monotonic() - started_s < 5  # not the 10 s after which a broker is stuck
    finally:
        os.kill(broker.pid, signal.SIGCONT)
        process.kill()
    assert process.returncode == 1
    assert "of 10000 holes published" in out
    assert "no longer waited for" in err


def test_the_commands_do_not_import_torch():
    modules = ", ".join(f"farm.cli.{name}" for name in ("demo", "replay", "bench", "simulate"))
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def result_id(payload: bytes) -> str:
    """Of any of the three messages."""
    fields = json.loads(payload)["Messages"]["Payload"]
    ends = (".ResultId", ".StepResultId", ".LifeTimeCycleCounter")
    return next(str(entry["Value"]) for key, entry in fields.items() if key.endswith(ends))
