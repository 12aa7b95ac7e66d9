"""Why an MQTT broker ends or refuses a connection, in its words: a broker that is played."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from farm.broker.intake import Intake
from farm.broker.mqtt import MAX_REASON_CHARS, Down, MqttLink
from farm.config import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 10.0
WELCOME = b"\x20\x03\x00\x00\x00"  # CONNACK, MQTT 5, section 3.2


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(DEADLINE_S)
        yield made


@pytest.fixture
def news() -> threading.Event:
    return threading.Event()


@pytest.fixture
def link(server: socket.socket, news: threading.Event) -> Iterator[MqttLink]:
    broker = {"host": "127.0.0.1", "port": server.getsockname()[1], "protocol": "5"}
    made = MqttLink(
        Config.model_validate({"mqtt": {"broker": broker}}).mqtt.broker,
        client_id="reasons",
        filters=("box/#",),
        status_topic="farm/reasons/status",
        intake=Intake(max_messages=10, max_bytes=1000),
        wake=news.set,
    )
    made.start()
    yield made
    made.stop(DEADLINE_S)


@pytest.fixture
def told(server: socket.socket, link: MqttLink, news: threading.Event) -> Callable[..., str]:
    """What the link says when a broker answers CONNECT with some packets."""
    return lambda *packets: _told(server, link, news, *packets)


def _told(server: socket.socket, link: MqttLink, news: threading.Event, *packets: bytes) -> str:
    connection, _ = server.accept()
    with connection:
        connection.settimeout(DEADLINE_S)
        assert connection.recv(4096)
        for packet in packets:
            connection.sendall(packet)
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            news.wait(DEADLINE_S)
            news.clear()
            while event := link.poll_event():
                if isinstance(event, Down):
                    return event.reason
    raise AssertionError("the link did not notice")


def disconnect(code: int, said: str) -> bytes:
    """DISCONNECT with a reason string, MQTT 5, section 3.14."""
    text = said.encode()
    properties = b"\x1f" + len(text).to_bytes(2, "big") + text
    length = len(properties)
    assert length < 128 - 2
    return bytes([0xE0, length + 2, code, length]) + properties


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"\xe0\x00", "Normal disconnection"),
        (b"\xe0\x01\x8b", "Server shutting down"),
        (b"\xe0\x02\x98\x00", "Administrative action"),
        (disconnect(0x97, "4 MB a day"), "Quota exceeded (4 MB a day)"),
    ],
)
def test_the_reason_of_an_end_is_told_in_words(
    told: Callable[..., str], packet: bytes, words: str
) -> None:
    # prevents: an operator who reads of a lost connection, and never that his broker has a reason
    assert told(WELCOME, packet) == f"ended by the MQTT broker: {words}"


def test_the_reason_of_a_refusal_is_told_in_words(told: Callable[..., str]) -> None:
    # prevents: "not authorized", and the broker's own word on what is missing thrown away
    refusal = b"\x20\x0f\x00\x87\x0c\x1f\x00\x09no rights"
    assert told(refusal) == "refused: Not authorized (no rights)"


def test_a_long_reason_is_cut(told: Callable[..., str]) -> None:
    # prevents: 64 kB in the log with each attempt
    said = b"x" * 10_000
    length = len(said) + 3
    varint = bytes([length & 0x7F | 0x80, length >> 7])
    whole = length + 1 + len(varint)
    head = bytes([0xE0, whole & 0x7F | 0x80, whole >> 7, 0x97])
    packet = head + varint + b"\x1f\x27\x10" + said
    words = told(WELCOME, packet)
    assert words.endswith(f"Quota exceeded ({'x' * MAX_REASON_CHARS})")
