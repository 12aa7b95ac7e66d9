"""`farm bench` whole: MQTT broker, farm, load, limits, the plain pool, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from farm.errors import FarmError
from farm.simulation.archive import write_archive
from farm.simulation.bench.child import Child
from farm.simulation.bench.drive import Driver, Load
from farm.simulation.drilled import SAMPLE_RECIPES, series
from farm.simulation.listener import AnswerTopics
from farm.simulation.mqtt import MqttLink
from farm.simulation.mqttd import EmbeddedBroker, Engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("has_mosquitto")]

DEADLINE_S = 100.0
TOPICS = AnswerTopics()


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "farm", "bench", *map(str, arguments)],
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


def test_a_closed_loop_beside_the_pool_and_bare_mqtt(short_path, tmp_path):
    plot = tmp_path / "bench.png"
    options = ("--model", "null", "--workers", 2, "--in-flight", 8, "--tools", 3)
    times = ("--duration", 1, "--warm-up", 0.5)
    process = start(
        short_path, *options, *times, "--against", "pool", "--against", "plain", "--plot", plot,
        "--json",
    )  # fmt: skip
    code, out, err = finish(process)
    assert code == 0, out + err
    assert "\x1b[" not in err  # plain lines off a terminal
    found = json.loads(out)
    assert found["good"] is True
    farm, beside = found["farm"], found["beside"]
    assert set(beside) == {"pool", "plain", "bare MQTT"}
    for one in (farm, *beside.values()):
        assert one["holes"] == one["answered"] > 8
        assert (one["unanswered"], one["repeated"], one["strangers"]) == (0, 0, 0)
        assert one["rate_hz"] > 0
        assert 0 < one["latency_ms"]["p50"] <= one["latency_ms"]["p999"]
        assert {"mosquitto", "generator"} <= set(one["cpu_ms"])
        assert one["own_bytes"] > 0
    assert farm["memory"]["workers"]["processes"] == 2
    assert {"supervisor", "broker", "mosquitto"} <= set(farm["memory"])
    assert {"pairing", "queue", "transport", "inference", "publishing"} <= set(farm["stages_ms"])
    assert farm["stages_ms"]["total"]["p999"] >= farm["stages_ms"]["total"]["p50"] > 0
    assert found["ratios"]["pool"] == pytest.approx(farm["rate_hz"] / beside["pool"]["rate_hz"])
    assert found["cpu_ms_outside_forward"] == pytest.approx(farm["own_cpu_ms"])  # it is null
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(short_path.iterdir()) == []


def test_an_open_loop_with_a_killed_worker_and_the_model_alone(short_path):
    # the rule is a model of few ms without torch
    process = start(
        short_path, "--rate", 30, "--duration", 2, "--warm-up", 1, "-w", 2, "--model", "rule",
        "--replace", 1, "--durability", "off",
    )  # fmt: skip
    code, out, err = finish(process)
    assert code == 0, out + err
    assert "30 holes/s for 2 s" in out
    assert "model alone" in out
    assert "after a kill -9" in out
    assert "unanswered      0" in out
    assert list(short_path.iterdir()) == []


def test_ctrl_c_ends_every_process(short_path):
    process = start(short_path, "--model", "null", "-w", 1, "--duration", 600, "--no-limits")
    assert process.stderr is not None
    for line in process.stderr:
        if "holes answered" in line:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 5  # mosquitto, supervisor, broker, worker, generator
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert code == 130, out + err
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert list(short_path.iterdir()) == []


class Farmlet:
    """Answers holes as it is told to: by the number of the hole, which answers it gets."""

    def __init__(self, broker: EmbeddedBroker, answers: Callable[[int], list[str]]) -> None:
        self._answers = answers
        self._seen = 0
        self._link = MqttLink(
            broker.address, name="farmlet", filters=("OPCPUBSUB/+/+/ResultManagement",),
            on_message=self._hear,
        )  # fmt: skip

    def __enter__(self) -> None:
        self._link.connect()

    def __exit__(self, *_details: object) -> None:
        self._link.close()

    def _hear(self, topic: str, payload: bytes) -> None:
        fields = json.loads(payload)["Messages"]["Payload"]
        result_id = next(v["Value"] for k, v in fields.items() if k.endswith("MetaData.ResultId"))
        self._seen += 1
        for tail in self._answers(self._seen):
            body = json.dumps({"ResultId": str(result_id), "Value": [1.0]}).encode()
            self._link.publish(topic.removesuffix("ResultManagement") + tail, body)


@pytest.fixture(scope="module")
def holes_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("holes")
    write_archive(folder, series(SAMPLE_RECIPES[1:2], count=3, seed=1))
    return str(folder)


def drive(load: Load, answers: Callable[[int], list[str]]) -> Any:
    with (
        EmbeddedBroker(Engine.MOSQUITTO, durable=False) as broker,
        Farmlet(broker, answers),
        Driver(load, broker.address) as driver,
    ):
        driver.wait_ready()
        driver.tell("go")
        driver.wait("end", DEADLINE_S)
        return driver.report()


BOTH = [TOPICS.keypoints, TOPICS.depth]


def test_a_hole_that_is_answered_twice_is_told(holes_dir):
    load = Load(holes_dir, tools=2, in_flight=4, duration_s=0.5)
    found = drive(load, lambda seen: BOTH + ([TOPICS.depth] if seen == 3 else []))
    assert found.repeated == 1
    assert found.unanswered == 0
    assert found.answered == found.holes
    assert len(found.examples) == 1
    assert not found.good


def test_a_lost_hole_is_told_and_keeps_its_place(holes_dir):
    # prevents: a closed loop that never misses what it does not get
    load = Load(holes_dir, tools=2, in_flight=4, duration_s=0.5, patience_s=1.0)
    found = drive(load, lambda seen: BOTH[:1] if seen == 3 else BOTH)
    assert found.unanswered == 1
    assert found.holes == found.answered + 1
    assert found.examples[0].startswith("SIM-BOX-1/SIM-0000")
    assert not found.good


def test_an_open_loop_publishes_at_its_rate_whatever_is_answered(holes_dir):
    load = Load(
        holes_dir, tools=2, rate_hz=50.0, duration_s=1.0, patience_s=0.5, heads=False
    )  # fmt: skip
    found = drive(load, lambda _seen: [])
    assert found.answered == 0
    assert found.holes >= 50
    assert found.messages == found.acknowledged == 2 * found.holes


def test_a_child_that_fails_says_why(tmp_path):
    # prevents: "ended before its time", and the cause lost in a log
    orders = {
        "load": {"holes_dir": str(tmp_path), "tools": 1},
        "address": {"host": "127.0.0.1", "port": 1},
    }
    with (
        Child("farm.simulation.bench.drive", orders) as child,
        pytest.raises(FarmError, match="no hole found"),
    ):
        child.wait("ready", DEADLINE_S)
