"""The lean MQTT client against a real mosquitto, where paho is the judge of what it says."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from farm.errors import MqttError
from farm.simulation.lean import LeanClient, publish_packet
from farm.simulation.mqtt import BrokerAddress, MqttLink
from farm.simulation.mqttd import EmbeddedBroker, Engine
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig import Mosquitto

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("has_mosquitto")]

DEADLINE_S = 20.0


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(Engine.MOSQUITTO, durable=False) as running:
        yield running


def publish(client: LeanClient, topic: str, payloads: list[bytes]) -> None:
    packets = []
    for payload in payloads:
        packet, at = publish_packet(topic, payload, version=client.version)
        packet[at : at + 2] = client.next_message_id()
        packets.append(packet)
    client.write(packets)
    for packet in packets:  # what was handed over must not depend on it any more
        packet[:] = b"\xff" * len(packet)


def hear(client: LeanClient, until: Callable[[list[bytes]], bool]) -> list[bytes]:
    """Read and acknowledge until it is enough, or far too late."""
    heard: list[bytes] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while not until(heard) and time.monotonic() < deadline_s:
        batch = client.read(0.1)
        for message in batch.messages if batch else ():
            heard.append(message.payload)
            client.acknowledge(message.message_id)
        client.write(())
    return heard


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_go_both_ways_with_every_byte_and_are_acknowledged(broker, protocol):
    address = BrokerAddress("127.0.0.1", broker.port, protocol=protocol)
    got, all_there = Counter(), threading.Event()

    def record(topic: str, payload: bytes) -> None:
        got[topic, payload] += 1
        if len(got) == 40:
            all_there.set()

    judge = MqttLink(address, name="judge", filters=("out/#",), on_message=record)
    judge.connect()
    client = LeanClient(address, name="lean", filters=["in/#"])
    client.connect()
    try:
        # 12 MB at once, far beyond what the kernel buffers: the rest must follow by itself
        payloads = [bytes([n]) * 300_000 for n in range(40)]
        publish(client, "out/a", payloads)
        hear(client, lambda _: client.acknowledged == 40 and client.is_writable)
        assert all_there.wait(DEADLINE_S)
        assert got == Counter({("out/a", payload): 1 for payload in payloads})
        assert (client.sent, client.acknowledged, client.in_flight) == (40, 40, 0)
        for n in range(500):
            judge.publish("in/b", b"%d" % n)
        heard = hear(client, lambda so_far: len(so_far) >= 500)
        assert heard == [b"%d" % n for n in range(500)]  # each once, in order
        assert judge.drain(DEADLINE_S).acknowledged == 500
    finally:
        client.close()
        judge.close()


def test_mosquitto_sends_on_only_what_we_acknowledge(make_mosquitto: Callable[..., Mosquitto]):
    # prevents: acknowledgements that are written wrongly, which stalls a broker with a small window
    server = make_mosquitto(extra="allow_anonymous true\nmax_inflight_messages 2")
    address = BrokerAddress("127.0.0.1", server.port)
    client = LeanClient(address, name="lean", filters=["t"])
    judge = MqttLink(address, name="judge")
    client.connect()
    judge.connect()
    try:
        for n in range(50):
            judge.publish("t", b"%d" % n)
        heard = hear(client, lambda so_far: len(so_far) >= 50)
        assert len(heard) == 50
    finally:
        client.close()
        judge.close()


def test_a_refused_publication_is_not_counted_as_taken(make_mosquitto, tmp_path):
    rules = tmp_path / "acl"
    rules.write_text("topic read #\ntopic write allowed\n")
    server = make_mosquitto(extra=f"allow_anonymous true\nacl_file {rules}")
    client = LeanClient(BrokerAddress("127.0.0.1", server.port), name="lean")
    client.connect()
    try:
        publish(client, "forbidden", [b"x"])
        # 2.0 answers with a reason and some of its versions hang up as well
        try:
            hear(client, lambda _: bool(client.refused) or client.acknowledged > 0)
        except MqttError as error:
            assert "lost" in str(error)  # noqa: PT017 - either of both is right
        assert client.acknowledged == 0
    finally:
        client.close()


def test_where_nobody_listens_it_says_so():
    client = LeanClient(BrokerAddress("127.0.0.1", free_port()), name="lean")
    with pytest.raises(MqttError, match="can't connect"):
        client.connect()


def test_a_broker_that_dies_is_noticed(broker):
    client = LeanClient(broker.address, name="lean", filters=["t"])
    client.connect()
    broker.kill()
    with pytest.raises(MqttError, match="connection is lost"):
        hear(client, lambda _: False)
    client.close()
