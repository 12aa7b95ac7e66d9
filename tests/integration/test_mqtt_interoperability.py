"""Our MQTT clients against two MQTT brokers: the farm's link, and the bench's lean client.

What a kind of broker, or the older version of MQTT, does not have is skipped with the reason.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest
from mqtt_tap import WAIT_S, Judge, Linked, Tap
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from rig import eventually

from farm.adapter import Publication
from farm.broker import packets
from farm.broker.exchange import CLIENTS_OWN, FIRST_MID, Confirmed
from farm.broker.mqtt import Down
from farm.broker.outbox import defect
from farm.simulation.lean import Incoming, LeanClient, publish_packet
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.mqttd import EmbeddedBroker, Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig import Mosquitto

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("has_mosquitto")]

LARGE_BYTES = 6_000_000
CONNECT, PUBLISH, PUBACK, PINGREQ, PINGRESP, CONNACK = 0x10, 0x30, 0x40, 0xC0, 0xD0, 0x20
KINDS = [(Engine.MOSQUITTO, "5"), (Engine.MOSQUITTO, "3.1.1"), (Engine.AMQTT, "3.1.1")]


class Server(NamedTuple):
    """An MQTT broker, and the version that is spoken with it."""

    engine: Engine
    protocol: str
    port: int

    @property
    def address(self) -> BrokerAddress:
        return BrokerAddress("127.0.0.1", self.port, protocol=self.protocol)

    @property
    def qos_of_0(self) -> int:
        """At which QoS a message of QoS 0 arrives: amqtt takes that of the subscription."""
        return 1 if self.engine is Engine.AMQTT else 0

    def link(self, filters: tuple[str, ...], *, port: int | None = None, **more: object) -> Linked:
        return Linked(port or self.port, protocol=self.protocol, filters=filters, **more)

    def judge(self, *filters: str) -> Judge:
        return Judge(self.port, protocol=self.protocol, filters=filters)


@pytest.fixture(scope="module")
def running() -> Iterator[dict[Engine, EmbeddedBroker]]:
    """One broker of each kind for all tests: their topics keep them apart."""
    pytest.importorskip("amqtt")
    with (
        EmbeddedBroker(Engine.MOSQUITTO, durable=False) as mosquitto,
        EmbeddedBroker(Engine.AMQTT) as amqtt,
    ):
        yield {Engine.MOSQUITTO: mosquitto, Engine.AMQTT: amqtt}


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0].value}-{kind[1]}")
def server(request: pytest.FixtureRequest, running: dict[Engine, EmbeddedBroker]) -> Server:
    engine, protocol = request.param
    return Server(engine, protocol, running[engine].port)


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def numbered(count: int, start: int = 0) -> list[bytes]:
    return [b"%d" % number for number in range(start, start + count)]


# ---- the farm's link -----------------------------------------------------------------------------


def test_messages_of_both_qualities_go_both_ways(server: Server, topic: str) -> None:
    # prevents: a QoS that is read wrongly, so that an acknowledgement is missing or one too many
    with server.link((f"{topic}/in/+",)) as link, server.judge(f"{topic}/out") as judge:
        judge.publish(f"{topic}/in/a", *numbered(5), qos=1)
        judge.publish(f"{topic}/in/b", *numbered(5), qos=0)
        arrivals = link.wait_arrivals(10)
        assert Counter((each.topic, each.qos) for each in arrivals) == {
            (f"{topic}/in/a", 1): 5,
            (f"{topic}/in/b", server.qos_of_0): 5,
        }
        at_1 = [each for each in arrivals if each.topic == f"{topic}/in/a"]
        assert [each.payload for each in at_1] == numbered(5)
        assert all(bool(each.mid) == bool(each.qos) for each in arrivals)
        link.acknowledge(arrivals)
        mids = link.publish(*(Publication(f"{topic}/out", each) for each in numbered(50)))
        assert link.wait_confirmed(50) == [Confirmed(mid, None) for mid in mids]
        assert judge.wait_heard(50) == numbered(50)
        assert {message.qos for message in judge.heard} == {1}


def test_what_was_not_acknowledged_comes_again_and_only_that(server: Server, topic: str) -> None:
    # prevents: a message lost in a session's resume, or a hole that is computed twice
    if server.engine is Engine.AMQTT:
        pytest.skip("amqtt keeps nothing for a client without a user: what was in flight is gone")
    with (
        Tap(server.port) as tap,
        server.link((topic,), port=tap.port) as link,
        server.judge() as judge,
    ):
        judge.publish(topic, *numbered(10))
        arrivals = link.wait_arrivals(10)
        link.acknowledge(arrivals[:6])
        eventually(lambda: len(tap.packets(PUBACK, is_ours=True)) >= 6, WAIT_S, "they have left")
        tap.cut()
        up = link.wait_up(2)
        assert up.session_present
        judge.publish(topic, b"new")
        again = link.wait_arrivals(10 + 4 + 1)[10:]
        assert sorted(each.payload for each in again) == sorted([*numbered(4, 6), b"new"])
        assert {e.payload for e in again if e.is_redelivered} == set(numbered(4, 6))
        link.acknowledge(again)
        eventually(lambda: len(tap.packets(PUBACK, is_ours=True)) >= 11, WAIT_S, "they have left")
        tap.cut()
        link.wait_up(3)
        judge.publish(topic, b"last")
        eventually(lambda: link.arrivals()[-1].payload == b"last", WAIT_S, "the last comes")
        assert len(link.arrivals()) == 10 + 5 + 1


def test_what_was_not_confirmed_is_published_again_under_its_id(server: Server, topic: str) -> None:
    # prevents: an answer lost with the connection; or a second id, which makes two of it
    with (
        Tap(server.port) as tap,
        server.link((f"{topic}/in",), port=tap.port) as link,
        server.judge(topic) as judge,
    ):
        tap.is_deaf = True
        mids = link.publish(*(Publication(topic, each) for each in numbered(3)))
        judge.wait_heard(3)
        assert not link.confirmed()
        tap.is_deaf = False
        tap.cut()
        link.wait_up(2)
        assert sorted(link.wait_confirmed(3)) == [Confirmed(mid, None) for mid in mids]
        v5 = server.protocol == "5"
        sent = [each.publish(v5=v5) for each in tap.packets(PUBLISH, is_ours=True)]
        ours = [each for each in sent if each.mid >= FIRST_MID]
        assert [(each.mid, each.is_dup) for each in ours] == [
            *((mid, False) for mid in mids),
            *((mid, True) for mid in mids),
        ]


def test_the_broker_sends_no_more_than_our_receive_maximum(server: Server, topic: str) -> None:
    # prevents: a setting that is read and never said, and a backlog that is all in our memory
    if server.protocol != "5":
        pytest.skip("MQTT 3.1.1 has no receive maximum")
    with server.link((topic,), receive_maximum=5) as link, server.judge() as judge:
        judge.publish(topic, *numbered(20))
        judge.publish(topic, b"behind them", qos=0)  # which no window holds up
        assert [each.payload for each in link.wait_arrivals(6)] == [*numbered(5), b"behind them"]
        # How far the window moves is the broker's: mosquitto 2.0.11 sends five more for each
        # acknowledgement, beyond what it was told. The intake is bounded by itself.
        acknowledged = 0
        while acknowledged < 20:
            link.wait_arrivals(acknowledged + 1 + 1)  # with that of QoS 0
            at_1 = [each for each in link.arrivals() if each.qos]
            link.acknowledge(at_1[acknowledged:])
            acknowledged = len(at_1)
        assert [each.payload for each in link.arrivals() if each.qos] == numbered(20)


def test_we_send_no_more_at_once_than_the_broker_takes(
    make_mosquitto: Callable[..., Mosquitto], topic: str
) -> None:
    # prevents: a mosquitto that hangs up on "Receive Maximum exceeded" after each reconnect
    window = 6
    mosquitto = make_mosquitto(extra=f"allow_anonymous true\nmax_inflight_messages {window}")
    with (
        Tap(mosquitto.port) as tap,
        Linked(tap.port, protocol="5", filters=("x",)) as link,
    ):
        up = link.wait_up(1)
        assert up.most_inflight == window - CLIENTS_OWN
        tap.is_deaf = tap.is_shut = True  # no confirmation comes
        link.publish(*(Publication(topic, each) for each in numbered(up.most_inflight)))
        tap.cut()
        eventually(lambda: not link.link.connected, WAIT_S, "the link is down")
        link.publish(*(Publication(topic, each) for each in numbered(30, up.most_inflight)))
        tap.is_deaf = tap.is_shut = False
        link.wait_up(2)
        assert {each.refusal for each in link.wait_confirmed(30 + up.most_inflight)} == {None}
        assert _most_unconfirmed(tap) <= window
    client = LeanClient(BrokerAddress("127.0.0.1", mosquitto.port, protocol="5"), name="lean")
    client.connect()
    assert client.limit == window
    client.close()


def _most_unconfirmed(tap: Tap) -> int:
    """How many publications were on the way at once, at most, on the last connection."""
    since_connect = tap.packets()
    last = max(n for n, each in enumerate(since_connect) if each.kind == CONNECT)
    waiting = most = 0
    for each in since_connect[last:]:
        waiting += (each.kind == PUBLISH and each.is_ours) - (
            each.kind == PUBACK and not each.is_ours
        )
        most = max(most, waiting)
    return most


def test_messages_of_megabytes_arrive_whole(server: Server, topic: str) -> None:
    # prevents: a buffer that is too small for one message, which then comes again for ever
    large = bytes(range(256)) * (LARGE_BYTES // 256)
    with server.link((f"{topic}/in",)) as link, server.judge(f"{topic}/out") as judge:
        judge.publish(f"{topic}/in", large, b"small")
        assert [each.payload for each in link.wait_arrivals(2)] == [large, b"small"]
        link.acknowledge(link.arrivals())
        link.publish(Publication(f"{topic}/out", large), Publication(f"{topic}/out", b"small"))
        assert [each.refusal for each in link.wait_confirmed(2)] == [None, None]
        assert judge.wait_heard(2) == [large, b"small"]
        assert not [event for event in link.events if isinstance(event, Down)]


def test_the_largest_packet_that_is_announced_is_taken_and_no_larger_one_sent(
    make_mosquitto: Callable[..., Mosquitto], topic: str
) -> None:
    # prevents: an answer refused that fits; or one sent that ends the connection, again and again
    most = 50_000
    mosquitto = make_mosquitto(extra=f"allow_anonymous true\nmax_packet_size {most}")
    with Linked(mosquitto.port, protocol="5", filters=("x",)) as link:
        up = link.wait_up(1)
        assert up.max_packet_bytes == most
        empty = len(packets.publish(topic, bytes(20_000), 1, is_retained=False, v5=True)) - 20_000
        fits = Publication(topic, bytes(most - empty))
        assert len(packets.publish(*fits[:2], 1, is_retained=False, v5=True)) == most
        link.publish(fits)
        assert [each.refusal for each in link.wait_confirmed(1)] == [None]
        assert not [event for event in link.events if isinstance(event, Down)]
        assert defect(fits._replace(payload=bytes(most)), up.max_packet_bytes)


def test_retained_messages_are_left_and_found(server: Server, topic: str) -> None:
    # prevents: a status that only those hear who are there already
    with server.judge() as judge:
        judge.publish(f"{topic}/in", b"left before", retain=True)
        with server.link((f"{topic}/in",)) as link:
            assert link.wait_arrivals(1)[0].payload == b"left before"
            link.acknowledge(link.arrivals())
            link.publish(
                Publication(f"{topic}/out", b"kept", retain=True),
                Publication(f"{topic}/out", b"gone"),
            )
            link.wait_confirmed(2)
        judge.publish(f"{topic}/in", b"", retain=True)
    with server.judge(f"{topic}/out") as late:
        assert late.wait_heard(1) == [b"kept"]
        assert late.heard[0].retain


def test_the_will_is_told_of_an_unclean_end_alone(server: Server, topic: str) -> None:
    # prevents: consumers that wait for a farm that is gone, or take a planned stop for a crash
    with Tap(server.port) as tap:
        link = server.link((topic,), port=tap.port)
        with server.judge(link.status_topic) as judge:
            with link:
                judge.wait_heard(1)
                tap.cut()
                link.wait_up(2)
                judge.wait_heard(3)
            judge.wait_heard(4)
            judge.publish(link.status_topic, b'{"state": "end"}')
            told = [json.loads(payload)["state"] for payload in judge.wait_heard(5)]
        assert told == ["online", "offline", "online", "offline", "end"]


def test_a_silent_link_lives_and_a_dead_one_is_found_out(server: Server, topic: str) -> None:
    # prevents: a broker that hangs up on a quiet site; a half-open connection that is kept for ever
    with Tap(server.port) as tap, server.link((topic,), port=tap.port, keepalive=1) as link:
        eventually(lambda: len(tap.packets(PINGRESP)) >= 2, WAIT_S, "signs of life")
        assert len(link.ups()) == 1
        tap.is_deaf = True
        eventually(
            lambda: link.ups() and any(isinstance(event, Down) for event in link.events),
            WAIT_S,
            "the silence is noticed",
        )
        tap.is_deaf = False
        link.wait_up(2)


def test_a_publication_that_nobody_wants_is_a_success_and_a_forbidden_one_is_not(
    make_mosquitto: Callable[..., Mosquitto], tmp_path_factory: pytest.TempPathFactory, topic: str
) -> None:
    # prevents: reason code 0x10 taken for a refusal, and 0x87 for a success
    rules = tmp_path_factory.mktemp("acl") / "acl"
    rules.write_text("topic readwrite #\ntopic deny forbidden\n")
    mosquitto = make_mosquitto(extra=f"allow_anonymous true\nacl_file {rules}")
    with (
        Tap(mosquitto.port) as tap,
        Linked(tap.port, protocol="5", filters=("x",)) as link,
    ):
        unwanted, forbidden = link.publish(
            Publication(topic, b"nobody listens"), Publication("forbidden", b"")
        )
        assert sorted(link.wait_confirmed(2)) == [
            Confirmed(unwanted, None),
            Confirmed(forbidden, "Not authorized"),
        ]
        reasons = {
            packets.read_puback(memoryview(each.body), 0, len(each.body))
            for each in tap.packets(PUBACK, is_ours=False)
        }
        assert {(unwanted, 0x10), (forbidden, 0x87)} <= reasons


def test_neither_side_uses_topic_aliases(server: Server, topic: str) -> None:
    # prevents: an answer on no topic at all; we can't read aliases, so none may be allowed
    if server.protocol != "5":
        pytest.skip("MQTT 3.1.1 has no topic aliases")
    with (
        Tap(server.port) as tap,
        server.link((f"{topic}/in",), port=tap.port) as link,
        server.judge() as judge,
    ):
        judge.publish(f"{topic}/in", *numbered(5))
        link.acknowledge(link.wait_arrivals(5))
        link.publish(*(Publication(topic, each) for each in numbered(5)))
        link.wait_confirmed(5)
        client = LeanClient(BrokerAddress("127.0.0.1", tap.port, protocol="5"), name="lean")
        client.connect()
        client.close()
        allowed, _ = Properties(PacketTypes.CONNACK).unpack(tap.packets(CONNACK)[0].body[2:])
        assert allowed.TopicAliasMaximum > 0  # else nothing is shown here
        asked = [each.body for each in tap.packets(CONNECT)]
        assert len(asked) == 2
        for body in asked:  # protocol name and level, flags, keepalive; then the properties
            found, _ = Properties(PacketTypes.CONNECT).unpack(body[10:])
            assert not hasattr(found, "TopicAliasMaximum")
        for each in tap.packets(PUBLISH):
            assert each.publish(v5=True).topic
            if each.is_ours:
                at = 2 + int.from_bytes(each.body[:2], "big") + 2
                found, _ = Properties(PacketTypes.PUBLISH).unpack(each.body[at:])
                assert not hasattr(found, "TopicAlias")


# ---- the bench's lean client ---------------------------------------------------------------------


def hear(client: LeanClient, topic: str, count: int) -> list[Incoming]:
    """Read and acknowledge until so many have come on this topic."""
    heard: list[Incoming] = []

    def is_enough() -> bool:
        batch = client.read(0.05)
        for message in batch.messages if batch else ():
            if message.topic == topic.encode():
                heard.append(message)
            if message.message_id:
                client.acknowledge(message.message_id)
        client.write(())
        return len(heard) >= count and client.is_writable

    eventually(is_enough, WAIT_S, lambda: f"{count}: {len(heard)}")
    return heard


def send(client: LeanClient, topic: str, *payloads: bytes) -> None:
    """Publish, and wait until the broker has them all."""
    wanted = client.acknowledged + len(payloads)
    for payload in payloads:
        packet, at = publish_packet(topic, payload, version=client.version)
        packet[at : at + 2] = client.next_message_id()
        client.write([packet])
        eventually(lambda: (client.read(0.05), client.is_writable)[1], WAIT_S, "it is written")
    eventually(lambda: (client.read(0.05), client.acknowledged == wanted)[1], WAIT_S, "it is taken")


@pytest.fixture
def lean(server: Server, topic: str) -> Iterator[LeanClient]:
    client = LeanClient(server.address, name="lean", filters=[f"{topic}/in"])
    client.connect()
    yield client
    client.close()


def test_lean_messages_of_both_qualities_and_of_megabytes(
    server: Server, topic: str, lean: LeanClient
) -> None:
    # prevents: a rival that is measured with half of its messages
    large = bytes(range(256)) * (LARGE_BYTES // 256)
    with server.judge(f"{topic}/out") as judge:
        judge.publish(f"{topic}/in", b"once", qos=0)
        (once,) = hear(lean, f"{topic}/in", 1)
        assert once.payload == b"once"
        assert bool(once.message_id) == bool(server.qos_of_0)
        judge.publish(f"{topic}/in", large, b"small")
        heard = hear(lean, f"{topic}/in", 2)
        assert [each.payload for each in heard] == [large, b"small"]
        assert all(each.message_id for each in heard)
        send(lean, f"{topic}/out", large, b"small")
        assert judge.wait_heard(2) == [large, b"small"]
        assert lean.in_flight == 0
        assert not lean.refused


def test_lean_begins_anew_each_time(server: Server, topic: str) -> None:
    # prevents: a round of the bench that begins with what the last one left
    name, filters = f"lean-{topic}", [f"{topic}/in"]
    first = LeanClient(server.address, name=name, filters=filters)
    first.connect()
    first.close()
    with server.judge() as judge:
        judge.publish(f"{topic}/in", b"while it was away")
        judge.publish(f"{topic}/in", b"kept", retain=True)
        second = LeanClient(server.address, name=name, filters=filters)
        second.connect()
        try:
            # amqtt may send it twice
            assert {each.payload for each in hear(second, f"{topic}/in", 1)} == {b"kept"}
        finally:
            second.close()
            judge.publish(f"{topic}/in", b"", retain=True)
