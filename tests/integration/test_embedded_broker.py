"""The embedded MQTT broker, with both programs, and the links that units and listeners use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from farm.errors import MqttError
from farm.simulation import mqttd
from farm.simulation.drilled import Recipe, drill
from farm.simulation.listener import AnswerListener, AnswerTopics
from farm.simulation.mqtt import BrokerAddress, MqttLink
from farm.simulation.mqttd import EmbeddedBroker, Engine, accepts_mqtt
from farm.simulation.ports import free_port
from farm.simulation.restamp import HoleTemplate
from farm.simulation.schedule import Plan
from farm.simulation.units import DrillingUnits, simulated_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("has_mosquitto")]

BOTH = pytest.mark.parametrize("engine", [Engine.MOSQUITTO, Engine.AMQTT])
DEADLINE_S = 20.0


def until(condition: Callable[[], object]) -> bool:
    """Poll until it holds; False when it does not in time."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@BOTH
def test_it_carries_every_message_and_ends_with_its_context(engine):
    got: list[tuple[str, bytes]] = []
    with EmbeddedBroker(engine, durable=False) as broker:
        assert broker.pid is not None
        pid, address = broker.pid, broker.address
        subscriber = MqttLink(
            address, name="sub", filters=("a/#",), on_message=lambda *message: got.append(message)
        )
        publisher = MqttLink(address, name="pub")
        for link in (subscriber, publisher):
            link.connect()
        for number in range(50):
            publisher.publish("a/b", b"%d" % number)
        count = publisher.drain(5.0)
        assert (count.sent, count.acknowledged, count.open) == (50, 50, 0)
        assert until(lambda: len(got) == 50)
        assert [int(payload) for _, payload in got] == list(range(50))
        publisher.close()
        subscriber.close()
    assert not is_running(pid)
    assert not accepts_mqtt(address.host, address.port)


def test_two_brokers_run_side_by_side():
    with EmbeddedBroker(durable=False) as one, EmbeddedBroker(durable=False) as other:
        assert one.port != other.port


def test_a_broker_of_mqtt_3_alone_is_found_out():
    # amqtt does not even answer a CONNECT of MQTT 5 that has properties.
    with EmbeddedBroker(Engine.AMQTT) as broker:
        link = MqttLink(replace(broker.address, protocol="auto"), name="sub", filters=("x",))
        link.connect()
        link.publish("x", b"")
        assert link.drain(5.0).open == 0
        link.close()


def test_mosquitto_keeps_port_and_sessions_through_a_restart():
    got: list[bytes] = []
    with EmbeddedBroker(Engine.MOSQUITTO) as broker:
        subscriber = MqttLink(
            broker.address, name="sub", filters=("a",), on_message=lambda _, p: got.append(p)
        )
        publisher = MqttLink(broker.address, name="pub")
        for link in (subscriber, publisher):
            link.connect()
        port = broker.port
        broker.stop()
        publisher.publish("a", b"while it is down")
        broker.start()
        assert broker.port == port
        assert publisher.drain(DEADLINE_S).open == 0
        assert until(lambda: b"while it is down" in got)
        publisher.close()
        subscriber.close()


def test_it_dies_with_a_parent_that_is_killed(tmp_path):
    script = (
        "import sys, time\n"
        "from farm.simulation.mqttd import EmbeddedBroker\n"
        "broker = EmbeddedBroker(durable=False)\n"
        "broker.start()\n"
        "print(broker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed parent can't remove its directory
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not is_running(pid))


def test_a_missing_program_is_told_with_its_cure(monkeypatch):
    monkeypatch.setattr(mqttd, "find_mosquitto", lambda: None)
    assert EmbeddedBroker(Engine.AUTO).engine is Engine.AMQTT
    with pytest.raises(MqttError, match="apt install mosquitto"):
        EmbeddedBroker(Engine.MOSQUITTO)
    monkeypatch.setattr(mqttd.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MqttError, match=r"neither .* pip install amqtt"):
        EmbeddedBroker(Engine.AUTO)


def test_a_broker_that_can_not_start_says_why(monkeypatch):
    monkeypatch.setattr(mqttd, "_MOSQUITTO_CONF", "no_such_option {port}\n")
    with (
        pytest.raises(MqttError, match=r"did not start: .*no_such_option"),
        EmbeddedBroker(Engine.MOSQUITTO),
    ):
        pytest.fail("it started")


def test_nobody_listening_is_told_at_once():
    with pytest.raises(MqttError, match=r"127\.0\.0\.1:\d+: can't connect"):
        MqttLink(BrokerAddress("127.0.0.1", free_port()), name="x").connect()


def test_refused_messages_are_counted_by_reason(tmp_path):
    # Under MQTT 3.1.1 a refused message is acknowledged like any other: MQTT 5 must be tried first.
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite open/#\n")
    conf = mqttd._MOSQUITTO_CONF
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mqttd, "_MOSQUITTO_CONF", conf + f"acl_file {rules}\n")
        with EmbeddedBroker(Engine.MOSQUITTO, durable=False) as broker:
            link = MqttLink(broker.address, name="x")
            link.connect()
            link.publish("open/a", b"")
            link.publish("closed/a", b"")
            count = link.drain(5.0)
            link.close()
    assert (count.acknowledged, count.refused) == (1, {"Not authorized": 1})


def test_units_publish_every_hole_and_the_listener_hears_the_answers():
    recipes = [Recipe("V6-V7", "2024-12"), Recipe("V6-V7", "2025-03")]
    benches = [[HoleTemplate(drill(recipe, seed=1).messages)] for recipe in recipes]
    topics = AnswerTopics()
    with EmbeddedBroker(durable=False) as broker:
        answerer = MqttLink(broker.address, name="answerer")

        def answer(topic: str, payload: bytes) -> None:
            source = "/".join(topic.split("/")[:3])
            found = payload.split(b'StepResultId":{"Value":', 1)[1].split(b",", 1)[0]
            for tail in (topics.keypoints, topics.depth):
                answerer.publish(f"{source}/{tail}", b'{"ResultId": "%s"}' % found)

        trace_filter = ("OPCPUBSUB/+/+/ResultManagement/Trace",)
        hearer = MqttLink(broker.address, name="hear", filters=trace_filter, on_message=answer)
        listener = AnswerListener(broker.address)
        fleet = simulated_fleet(benches, tools=4)
        plan = Plan(200, 60, shuffle=True, skew_s=0.02)
        units = DrillingUnits(broker.address, fleet.next_hole, plan)
        for party in (answerer, hearer, listener, units):
            party.connect()
        report = units.run()
        assert listener.wait_for(60, DEADLINE_S)
        for party in (units, listener, hearer, answerer):
            party.close()
    assert report.holes == 60
    assert report.messages.sent == report.messages.acknowledged == 30 * 2 + 30 * 3
    assert set(listener.answers()) == set(report.sent_s)
    # The last part may be another than the Trace that is answered here, so not all are later.
    assert all(answer.complete and not answer.repeated for answer in listener.answers().values())


def test_units_can_be_stopped_without_cutting_a_hole():
    template = HoleTemplate(drill(Recipe("V6-V7", "2025-03"), seed=1).messages)
    with EmbeddedBroker(durable=False) as broker:
        fleet = simulated_fleet([[template]], tools=1)
        units = DrillingUnits(broker.address, fleet.next_hole, Plan(200, skew_s=0.1))
        units.connect()
        sender = threading.Thread(target=units.run)
        sender.start()
        assert until(lambda: units.report().holes >= 20)
        units.stop()
        sender.join(DEADLINE_S)
        assert not sender.is_alive()
        report = units.report()
        units.close()
    assert report.messages.sent == report.messages.acknowledged == 3 * report.holes
