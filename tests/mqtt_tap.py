"""What the MQTT tests stand between client and broker: a tap that records packets, and a judge."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from rig import eventually

from farm.broker import packets
from farm.broker.intake import Arrival, Intake
from farm.broker.mqtt import LinkEvent, MqttLink, Up
from farm.config import BrokerConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.adapter import Publication
    from farm.broker.exchange import Confirmed

WAIT_S = 20.0
CHUNK_BYTES = 65_536


def is_wanted(topic: str, filters: tuple[str, ...]) -> bool:
    """Whether it was asked for: amqtt hands a new client the retained messages of all topics."""
    return any(paho.topic_matches_sub(each, topic) for each in filters)


class Packet(NamedTuple):
    """One whole packet on its way."""

    is_ours: bool  # from the client; else from the broker
    first_byte: int
    body: bytes

    @property
    def kind(self) -> int:
        return self.first_byte & packets.TYPE_MASK

    def publish(self, *, v5: bool) -> packets.Publish:
        view = memoryview(self.body)
        return packets.read_publish(self.first_byte, view, 0, len(view), v5=v5)


class Tap:
    """Passes connections on to an MQTT broker, records every packet in its order, and can cut.

    Attributes:
        port: where it listens.
        is_deaf: while True, what the broker sends is not passed on, and lost with the connection.
        is_shut: while True, new connections end at once.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self._packets: list[Packet] = []
        self._sockets: list[socket.socket] = []
        self.is_deaf = self.is_shut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def packets(self, kind: int | None = None, *, is_ours: bool | None = None) -> list[Packet]:
        """What was sent so far, over all connections."""
        with self._lock:
            return [
                packet
                for packet in self._packets
                if kind in (None, packet.kind) and is_ours in (None, packet.is_ours)
            ]

    def cut(self) -> None:
        """End all connections without a DISCONNECT; what was passed on arrives first."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near, _ = self._server.accept()
                if self.is_shut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                with self._lock:
                    self._sockets += [near, far]
                for one, other, is_ours in ((near, far, True), (far, near, False)):
                    threading.Thread(
                        target=self._pass_on, args=(one, other, is_ours), daemon=True
                    ).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, is_ours: bool) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                # Recorded first: else an answer might be recorded before what it answers. And in
                # one with its passing on: what is recorded was sent when `cut` comes.
                with self._lock:
                    rest = self._record(rest + chunk, is_ours=is_ours)
                    if is_ours or not self.is_deaf:
                        sink.sendall(chunk)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _record(self, data: bytes, *, is_ours: bool) -> bytes:
        view, at = memoryview(data), 0
        while (span := packets.frame(view, at, len(data))) and span[1] <= len(data):
            self._packets.append(Packet(is_ours, data[at], data[span[0] : span[1]]))
            at = span[1]
        return data[at:]


class Linked:
    """The farm's link to an MQTT broker, with all that it brought."""

    def __init__(self, port: int, *, protocol: str, filters: tuple[str, ...], **more: Any) -> None:
        self.name = f"link-{uuid.uuid4().hex[:8]}"
        self.status_topic = f"{self.name}/status"
        self.intake = Intake(max_messages=1000, max_bytes=100_000_000)
        self.events: list[LinkEvent] = []
        self._arrivals: list[Arrival] = []
        self._filters = filters
        self._confirmed: list[Confirmed] = []
        settings = BrokerConfig(
            host="127.0.0.1",
            port=port,
            protocol=protocol,  # type: ignore[arg-type] # one of its words
            reconnect_min_s=0.05,
            reconnect_max_s=0.2,
            **more,
        )
        self.link = MqttLink(
            settings,
            client_id=self.name,
            filters=filters,
            status_topic=self.status_topic,
            intake=self.intake,
            wake=lambda: None,
        )

    def __enter__(self) -> Self:
        self.link.start()
        self.wait_up(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.link.stop(5.0)

    def ups(self) -> list[Up]:
        """The connections so far."""
        while (event := self.link.poll_event()) is not None:
            self.events.append(event)
        return [event for event in self.events if isinstance(event, Up)]

    def wait_up(self, count: int) -> Up:
        """The last of so many connections."""
        eventually(lambda: len(self.ups()) >= count, WAIT_S, lambda: f"it connects: {self.events}")
        return self.ups()[-1]

    def arrivals(self) -> list[Arrival]:
        while (arrival := self.intake.take()) is not None:
            if is_wanted(arrival.topic, self._filters):
                self._arrivals.append(arrival)
        return self._arrivals

    def wait_arrivals(self, count: int) -> list[Arrival]:
        eventually(
            lambda: len(self.arrivals()) >= count, WAIT_S, lambda: f"{count} come: {self._told()}"
        )
        return self.arrivals()

    def acknowledge(self, arrivals: list[Arrival]) -> None:
        self.link.exchange.acknowledge(arrivals)
        self.link.exchange.flush()

    def publish(self, *publications: Publication) -> list[int]:
        mids = [self.link.exchange.publish(each) for each in publications]
        self.link.exchange.flush()
        return mids

    def confirmed(self) -> list[Confirmed]:
        while (found := self.link.exchange.poll()) is not None:
            self._confirmed.append(found)
        return self._confirmed

    def wait_confirmed(self, count: int) -> list[Confirmed]:
        eventually(
            lambda: len(self.confirmed()) >= count, WAIT_S, lambda: f"{count}: {self._confirmed}"
        )
        return self.confirmed()

    def _told(self) -> list[tuple[str, bytes]]:
        return [(each.topic, each.payload[:20]) for each in self._arrivals]


class Judge:
    """A client of paho's: it publishes to ours, and hears what they publish."""

    def __init__(self, port: int, *, protocol: str, filters: tuple[str, ...] = ()) -> None:
        self.heard: list[paho.MQTTMessage] = []
        self._ready, self._filters = threading.Event(), filters
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"judge-{uuid.uuid4().hex[:8]}",
            protocol=paho.MQTTv5 if protocol == "5" else paho.MQTTv311,
        )
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_connect = lambda client, *_: (
            client.subscribe([(each, 1) for each in filters]) if filters else self._ready.set()
        )
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Self:
        self._client.loop_start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if is_wanted(message.topic, self._filters):
            self.heard.append(message)

    def publish(self, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish, and wait until the broker has them all."""
        sent = [self._client.publish(topic, each, qos, retain) for each in payloads]
        for each in sent:
            each.wait_for_publish(WAIT_S)
            assert each.is_published()

    def wait_heard(self, count: int, check: Callable[[bytes], bool] = bool) -> list[bytes]:
        """The payloads so far, of which so many fit."""

        def fitting() -> list[bytes]:
            return [bytes(each.payload) for each in list(self.heard) if check(each.payload)]

        eventually(lambda: len(fitting()) >= count, WAIT_S, lambda: f"{count}: {fitting()!r:.500}")
        return fitting()
