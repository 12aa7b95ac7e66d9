"""Which connections to MQTT are a sign of trouble, and which the farm made anew itself."""

from __future__ import annotations

import socket
import time
from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fakes import make_flow

from farm.broker.ending import Ending
from farm.broker.intake import Intake, IntakeClock
from farm.broker.mqtt import Down, MqttLink, Up
from farm.broker.traffic import Traffic
from farm.config import Config
from farm.gathering import Gathering

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE_S = 10.0
WELCOME = b"\x20\x03\x00\x00\x00"  # CONNACK, MQTT 5, section 3.2


def publish(mid: int) -> bytes:
    """A message at QoS 1 on the topic "t", MQTT 5, section 3.3."""
    body = b"\x00\x01t" + mid.to_bytes(2, "big") + b"\x00" + b"x"
    return bytes([0x32, len(body)]) + body


def news_of(link: MqttLink) -> Iterator[Up | Down]:
    """What the link tells, as it comes."""
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if isinstance(event := link.poll_event(), Up | Down):
            yield event
        time.sleep(0.005)
    raise AssertionError("the link told nothing more")


def test_the_link_says_which_connection_it_wanted() -> None:
    """Prevents: a flood that reads as a network that fails, since the farm takes messages again."""
    intake = Intake(max_messages=1, max_bytes=1000)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE_S)
        broker = {
            "host": "127.0.0.1",
            "port": server.getsockname()[1],
            "protocol": "5",
            "reconnect_min_s": 0.1,
        }
        link = MqttLink(
            Config.model_validate({"mqtt": {"broker": broker}}).mqtt.broker,
            client_id="reconnects",
            filters=("t",),
            status_topic="farm/reconnects/status",
            intake=intake,
            wake=lambda: None,
        )
        news = news_of(link)
        link.start()
        try:
            first, _ = server.accept()
            with first:
                assert first.recv(4096)
                first.sendall(WELCOME + publish(1) + publish(2))
                assert next(news) == Up("5", False, None, None, is_wanted=False)
                deadline_s = time.monotonic() + DEADLINE_S
                while not link.exchange.is_overrun and time.monotonic() < deadline_s:
                    time.sleep(0.005)
                assert intake.take() is not None  # now there is room again
                assert link.wants_to_reconnect
                link.let_reconnect()
                assert isinstance(next(news), Down)
            for is_wanted in (True, False):
                again, _ = server.accept()
                with again:  # the second time it is the MQTT broker who ends it
                    assert again.recv(4096)
                    again.sendall(WELCOME)
                    assert next(news) == Up("5", False, None, None, is_wanted=is_wanted)
                if is_wanted:
                    assert isinstance(next(news), Down)
        finally:
            link.stop(DEADLINE_S)


def test_they_are_counted_apart() -> None:
    """Prevents: an alert about a network that is well, because much came at once."""
    events: deque[Any] = deque()
    link = SimpleNamespace(
        poll_event=lambda: events.popleft() if events else None,
        exchange=SimpleNamespace(poll=lambda: None),
        connected=False,
    )
    parts: Any = SimpleNamespace(
        config=Config(),
        flow=make_flow(Config()),
        journal=None,
        link=link,
        intake=SimpleNamespace(take=lambda: None),
        clock=IntakeClock(),
        wall=None,
        waker=SimpleNamespace(wake=lambda: None),
        group=None,
        said=deque(),
    )
    traffic = Traffic(parts, ending=Ending(), gathering=Gathering(busy_hz=1.0, gap_s=0.0))
    up, wanted = Up("5", True, None, None), Up("MQTT 5", True, None, None, is_wanted=True)
    for event in (up, wanted, wanted, up, wanted):
        events += [event, Down("it ended")]
    traffic.take()
    found = traffic.mqtt()
    assert (found["reconnects"], found["retakes"]) == (1, 3)
