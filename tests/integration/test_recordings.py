"""Record and replay with real processes: what one farm was sent, another answers alike."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr
from rig import (
    Farm,
    Mosquitto,
    Site,
    Tool,
    assert_one_answer_each,
    clean_environment,
    eventually,
    farm_command,
    run_farm,
    settle,
    tools_of_all_styles,
)

from farm.config import BrokerConfig, Config
from farm.errors import MqttError
from farm.recording.faults import Faults
from farm.recording.reader import RecordingReader
from farm.recording.record import Gap, Message
from farm.recording.replayer import Replayer
from farm.recording.subscription import Subscription
from farm.recording.traffic import Traffic
from farm.recording.writer import RecordingWriter
from farm.simulation.mqtt import BrokerAddress, MqttLink
from farm.simulation.mqttd import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

WAIT_S = 30


class Recorder:
    """A `farm record` that runs."""

    def __init__(self, file: Path, *words: object) -> None:
        self._log = file.with_suffix(".log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                farm_command("record", file, *words),
                stdout=log, stderr=log, env=clean_environment(), cwd=file.parent,
            )  # fmt: skip
        eventually(lambda: "listening" in self.told, WAIT_S, lambda: f"it listens: {self.told}")

    @property
    def told(self) -> str:
        return self._log.read_text()

    def wait(self) -> int:
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def recording(file: Path, *words: object) -> Iterator[Recorder]:
    made = Recorder(file, *words)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()


def messages(file: Path) -> list[Message]:
    with RecordingReader(file) as reader:
        found = [each for each in reader.records() if isinstance(each, Message)]
    return [each for each in found if not each.is_answer]


def test_another_farm_answers_a_recording_alike_in_spite_of_faults(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    tmp_path: Path,
) -> None:
    """Prevents a recording that lacks what matters, and a comparison that sees no difference."""
    here, there = make_mosquitto(durable=False), make_mosquitto(durable=False)
    site = make_site(here.port)
    first = start_farm(here.port, workers=1)
    second = start_farm(there.port, workers=1, wait=False, mqtt={"listener": {"time_window": 3}})
    tools = tools_of_all_styles()
    holes = [tool.drill() for tool in tools for _ in range(2)]
    holes.append(tools[1].drill(single_step=True))
    file, journal, results = (tmp_path / name for name in ("a.farmrec", "j.farmrec", "a.jsonl"))
    options = ("--config", first.config_file)
    with recording(file, *options, "--holes", len(holes), "--results") as recorder:
        site.publish(holes[0].part("result").topic, b"{}")  # names no hole: it is refused
        for hole in holes:
            site.send_hole(hole)
        site.wait_answered(holes)
        settle(site, first)
        assert recorder.wait() == 0, recorder.told
    assert f"{len(holes)} holes" in recorder.told
    assert assert_one_answer_each(site, holes) == 0  # the farm was not disturbed
    sent = Counter(part.payload for hole in holes for part in hole.parts) + Counter([b"{}"])
    assert Counter(each.payload for each in messages(file)) == sent

    # the journal has the same, also once its farm was stopped
    first.signal(signal.SIGTERM)
    first.wait()
    state = ("--state-dir", first.state_dir)
    done = run_farm("record", journal, *options, *state, "--from", "journal", "--results")
    assert done.returncode == 0, done.stderr
    assert Counter(each.payload for each in messages(journal)) == sent

    second.wait_ready()
    options = ("--port", there.port, "--config", second.config_file, "--speed", "max")
    faults = ("--faults", "dup=0.5,reorder=0.5,delay=0.2s", "--seed", 3)
    done = run_farm("replay", file, *options, *faults, "--expect", file, "--save-results", results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(holes)} answers as expected" in done.stdout
    # what is lost on purpose is expected to be missed
    faults = ("--faults", "drop=0.3", "--seed", 5)
    done = run_farm("replay", file, *options, *faults, "--expect", journal, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["dropped"] > 2
    assert outcome["same"] + outcome["not_sent"] == len(holes)

    _change_one(results)
    done = run_farm("replay", file, *options, "--expect", results, "--tolerance-mm", 0.01)
    assert done.returncode == 1
    assert f"{len(holes) - 2} answers as expected" in done.stdout
    assert "NOT as expected: 1 extra, 1 different" in done.stdout


def _change_one(results: Path) -> None:
    """One keypoint by 0.02 mm; and one hole goes."""
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    chosen = [each for each in lines if each.get("keypoints_mm")]
    chosen[0]["keypoints_mm"][1] += 0.02
    lines.remove(chosen[1])
    results.write_text("".join(f"{json.dumps(each)}\n" for each in lines))


def test_a_recorder_outlives_an_outage_and_loses_little_to_a_kill(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    tmp_path: Path,
) -> None:
    """Prevents a night's recording that ends with the first restart of the MQTT broker."""
    mosquitto = make_mosquitto()
    site = make_site(mosquitto.port)
    settings = tmp_path / "farm.yaml"
    settings.write_text(
        f"mqtt: {{broker: {{host: 127.0.0.1, port: {mosquitto.port}, reconnect_min_s: 0.1}}}}\n"
    )
    file, tool = tmp_path / "r.farmrec", Tool()

    def drill_and_wait(count: int) -> None:
        site.send_hole(tool.drill())
        site.wait_acknowledged()
        eventually(lambda: len(messages(file)) == count, WAIT_S, f"{count} messages in the file")

    with recording(file, "--config", settings) as recorder:
        drill_and_wait(3)
        mosquitto.stop()
        eventually(lambda: "waiting for" in recorder.told, WAIT_S, "it tells of the outage")
        mosquitto.start()
        drill_and_wait(6)
        os.kill(recorder.process.pid, signal.SIGKILL)
        recorder.wait()
    with RecordingReader(file) as reader:
        [gap] = [each for each in reader.records() if isinstance(each, Gap)]
        assert gap.to_ns > gap.at_ns
        assert reader.torn is None
    with file.open("ab") as torn:
        torn.write(b"FBL")  # as if it had been writing
    with recording(file, "--config", settings, "--tool", tool.name) as recorder:
        assert "begin of a block" in recorder.told
        site.send_hole(Tool().drill())
        drill_and_wait(9)
        recorder.process.terminate()
        assert recorder.wait() == 0
    assert "stopped: 3 messages of 1 tools, 1 holes" in recorder.told
    assert len(messages(file)) == 9


def write_holes(file: Path, count: int) -> None:
    tool = Tool()
    with RecordingWriter(file, now_ns=0) as writer:
        for number in range(count):
            for part in tool.drill().parts:
                writer.append(Message(number * 1_000_000, part.topic, part.payload))


def test_answers_that_did_not_come_replace_none_that_did(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """Prevents a good file of results that an empty one replaces, since no farm was running."""
    mosquitto = make_mosquitto(durable=False)
    file, results = tmp_path / "r.farmrec", tmp_path / "r.jsonl"
    write_holes(file, 2)
    results.write_text('{"format": "farm-results", "version": 1}\n')
    before = results.read_bytes()
    options = ("--port", mosquitto.port, "--speed", "max", "--wait", "0.3s")
    done = run_farm("replay", file, *options, "--save-results", results)
    assert done.returncode == 1, done.stdout
    assert "is left as it was" in done.stderr
    assert results.read_bytes() == before


def test_a_replay_gives_a_broker_up_that_is_gone_for_good(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    """Prevents a replay that waits for ever, and says nothing."""
    mosquitto = make_mosquitto(durable=False)
    replayer = Replayer(
        BrokerAddress("127.0.0.1", mosquitto.port), Traffic(Config()),
        speed=0.0, faults=Faults(), seed=1, first_id=1, window=2, outage_s=0.5,
    )  # fmt: skip
    file = tmp_path / "r.farmrec"
    write_holes(file, 5)

    def sent() -> Iterator[Message]:
        for number, message in enumerate(messages(file)):
            if number == 3:
                mosquitto.stop()
            yield message

    replayer.connect()
    thread = threading.Thread(target=replayer.run, args=(sent(),), daemon=True)
    thread.start()
    eventually(replayer.ended.is_set, WAIT_S, "the replay ends")
    thread.join()
    assert replayer.is_given_up
    assert not replayer.played.is_done
    replayer.close()


def hears(subscription: Subscription, done: Callable[[], bool]) -> list[Message | Gap]:
    """Serve it until something is so; what came."""
    came: list[Message | Gap] = []

    def poll() -> bool:
        came.extend(subscription.poll(0.1))
        return bool(came) or done()

    eventually(poll, WAIT_S, lambda: f"something comes: {subscription.problem}")
    return came


def test_a_broker_of_mqtt_3_alone_is_listened_to() -> None:
    """Prevents a recorder that waits for ever where the broker knows no MQTT 5."""
    with EmbeddedBroker("amqtt") as broker:
        subscription = Subscription(
            BrokerConfig(host="127.0.0.1", port=broker.port, reconnect_min_s=0.1),
            filters=("site/+",),
            is_answer=lambda topic: topic.endswith("answer"),
        )
        hears(subscription, lambda: not subscription.problem)
        link = MqttLink(broker.address, name="site")
        link.connect()
        link.publish("site/answer", b"[1]")
        [message] = hears(subscription, lambda: False)
        assert isinstance(message, Message)
        assert (message.topic, message.payload, message.qos) == ("site/answer", b"[1]", 1)
        assert message.is_answer
        link.close()
        subscription.close()
        subscription.close()


def test_a_wrong_password_is_told_and_not_waited_for(
    make_mosquitto: Callable[..., Mosquitto], password_file: str
) -> None:
    """Prevents a recorder that waits all night for a broker that will never let it in."""
    mosquitto = make_mosquitto(extra=password_file, login=("driller", "s3cret"), durable=False)
    subscription = Subscription(
        BrokerConfig(
            host="127.0.0.1", port=mosquitto.port, username="driller", password=SecretStr("wrong")
        ),
        filters=("site/+",),
        is_answer=lambda _: False,
    )
    with pytest.raises(MqttError, match=r"refuses us .*password_file"):
        hears(subscription, lambda: False)
