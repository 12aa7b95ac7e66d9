"""How a recorder hears: against a broker that is played, and breaks off where it hurts."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from itertools import count
from typing import TYPE_CHECKING

import pytest

from farm.config import BrokerConfig
from farm.recording.record import Gap, Message
from farm.recording.subscription import Subscription
from farm.simulation.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_S = 20.0
CONNECT, SUBSCRIBE = 1, 8
WELCOME, WELCOME_BACK = (b"\x20\x03" + flags + b"\x00\x00" for flags in (b"\x00", b"\x01"))
PUBLISHED = b"\x30\x08\x00\x03s/a\x00[1"  # QoS 0, no properties, 2 bytes


class PlayedBroker:
    """Answers as each connection's script says: packets by the kind that is answered.

    Attributes:
        heard: the kinds of the packets, and for CONNECT the version of MQTT, by connection.
    """

    def __init__(self, *scripts: dict[int, bytes | None]) -> None:
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self._listener.getsockname()[1]
        self.heard: list[list[bytes]] = []
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self.heard.append([])
            with contextlib.suppress(OSError), connection:
                self._talk(connection, script, self.heard[-1])

    def _talk(
        self, connection: socket.socket, script: dict[int, bytes | None], heard: list[bytes]
    ) -> None:
        while packet := connection.recv(65_536):  # each packet of a handshake comes alone
            heard.append(packet)
            said = script.get(packet[0] >> 4, b"")
            if said is None:
                return
            if packet[0] >> 4 == SUBSCRIBE:
                said = said.replace(b"MID", packet[2:4])
            connection.sendall(said)

    def close(self) -> None:
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT_S)


GRANTED = b"\x90\x04MID\x00\x01"


@contextlib.contextmanager
def heard(*scripts: dict[int, bytes | None]) -> Iterator[tuple[PlayedBroker, Subscription]]:
    broker = PlayedBroker(*scripts)
    times = count(1000)
    subscription = Subscription(
        BrokerConfig(host="127.0.0.1", port=broker.port, reconnect_min_s=0.1, reconnect_max_s=0.1),
        filters=("s/a",),
        is_answer=lambda _: False,
        now_ns=lambda: next(times),
    )
    try:
        yield broker, subscription
    finally:
        subscription.close()
        broker.close()


def poll(subscription: Subscription, done: Callable[[list[Message | Gap]], bool]) -> list:
    came: list[Message | Gap] = []
    deadline_s = time.monotonic() + WAIT_S
    while not done(came):
        assert time.monotonic() < deadline_s, (came, subscription.problem)
        came += subscription.poll(0.05)
    return came


def kinds(packets: list[bytes]) -> list[int]:
    return [packet[0] >> 4 for packet in packets]


def test_a_session_that_never_got_its_subscription_is_subscribed_again():
    """Prevents a recorder that says "listening" all night and hears nothing."""
    broken = {CONNECT: WELCOME, SUBSCRIBE: None}
    whole = {CONNECT: WELCOME_BACK, SUBSCRIBE: GRANTED + PUBLISHED}
    with heard(broken, whole) as (broker, subscription):
        [message] = poll(subscription, bool)
        assert (message.topic, message.payload) == ("s/a", b"[1")
        assert kinds(broker.heard[1])[:2] == [CONNECT, SUBSCRIBE]


def test_a_broker_that_has_let_us_in_is_not_spoken_to_in_an_older_mqtt():
    """Prevents outages that lose all that is sent, since one connection broke at its begin."""
    broken = {CONNECT: WELCOME, SUBSCRIBE: None}
    whole = {CONNECT: WELCOME_BACK, SUBSCRIBE: GRANTED}
    with heard(broken, whole) as (broker, subscription):
        poll(subscription, lambda _: not subscription.problem)
        versions = [packets[0][8] for packets in broker.heard]  # MQTT 5, section 3.1.2.2
        assert versions == [5, 5]


@pytest.mark.parametrize(
    ("welcome", "words"),
    [(WELCOME_BACK, "kept what its limits allow"), (WELCOME, "is missing")],
)
def test_a_gap_begins_with_the_last_packet_and_promises_nothing(welcome, words):
    """Prevents a gap that is shorter than the silence was, and one that calls the lost kept."""
    first = {CONNECT: WELCOME, SUBSCRIBE: GRANTED + PUBLISHED}
    second = {CONNECT: welcome, SUBSCRIBE: GRANTED + PUBLISHED}
    with heard(first, second) as (broker, subscription):
        [message] = poll(subscription, bool)
        last_ns = subscription._now_ns()
        broker.connections[0].shutdown(socket.SHUT_RDWR)
        gap, *_ = poll(subscription, bool)
        assert isinstance(gap, Gap)
        assert message.at_ns <= gap.at_ns < last_ns < gap.to_ns
        assert words in gap.note
        assert ("may be missing" in gap.note) == (welcome is WELCOME_BACK)


def test_what_comes_before_the_subscription_is_granted_stands_behind_the_gap():
    """Prevents a recording in which messages that a broker had kept come before the outage ends."""
    first = {CONNECT: WELCOME, SUBSCRIBE: GRANTED}
    second = {CONNECT: WELCOME_BACK + PUBLISHED, SUBSCRIBE: GRANTED}
    with heard(first, second) as (broker, subscription):
        poll(subscription, lambda _: not subscription.problem)
        broker.connections[0].shutdown(socket.SHUT_RDWR)
        gap, message = poll(subscription, lambda came: len(came) == 2)
        assert isinstance(gap, Gap)
        assert isinstance(message, Message)
        assert gap.to_ns <= message.at_ns
