"""The limit of any design with paho: hears the same messages, and publishes two for each hole.

    python -m farm.simulation.bench.bare_mqtt

It joins, computes and keeps nothing.
"""

from __future__ import annotations

import re
import signal
import socket
from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from farm.simulation.bench.child import Parent, as_child
from farm.simulation.gateway import HEADS, RESULT, ROOT, TRACE
from farm.simulation.listener import AnswerTopics

QOS: Final = 1
TOPICS: Final = AnswerTopics()
_ID: Final = re.compile(rb'StepResultId"\s*:\s*\{[^{}]*?"Value"\s*:\s*"?([^",}]+)')
# As long as an answer of the farm.
_BODY: Final = (
    b'{"SourceTimestamp":"2025-03-03T08:02:00Z","MachineId":"25000000","ResultId":"%s",'
    b'"HeadId":"E004010000000000","Value":[1.0,2.0,3.0],"AlgoVersion":"none"}'
)


def received(client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
    """Answer every Trace."""
    if not message.topic.endswith(TRACE):
        return
    found = _ID.search(message.payload)
    if found is None:
        return
    source = message.topic[: -len(TRACE)]
    body = _BODY % found.group(1)
    for tail in (TOPICS.keypoints, TOPICS.depth):
        client.publish(source + tail, body, QOS)


def serve(parent: Parent) -> None:
    """Connect, subscribe, and answer until we are ended."""
    where = parent.orders["address"]
    old = where["protocol"] == "3.1.1"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        protocol=MQTTProtocolVersion.MQTTv311 if old else MQTTProtocolVersion.MQTTv5,
    )
    client.max_inflight_messages_set(0)
    client.on_socket_open = _no_delay
    client.on_connect = lambda connected, *_: connected.subscribe(
        [(f"{ROOT}/+/+/{kind}", QOS) for kind in (RESULT, TRACE, HEADS)]
    )
    client.on_subscribe = lambda *_: parent.say("ready")
    client.on_message = received
    client.connect(where["host"], where["port"])
    client.loop_forever()


def _no_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    as_child(serve)
