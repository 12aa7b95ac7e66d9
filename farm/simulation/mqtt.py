"""One MQTT connection of a simulated outside party: connects, subscribes, publishes, counts.

Owns the paho client and its traps. Tries MQTT 5 first, since only its acknowledgements tell
whether the broker took a message, and falls back to 3.1.1.
"""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from farm.errors import MqttError

if TYPE_CHECKING:
    from pathlib import Path

    from paho.mqtt.reasoncodes import ReasonCode

QOS = 1
KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 10.0
# Long enough for a restart of the broker under test, short enough to leave nothing behind.
SESSION_EXPIRY_S = 600
# Message ids are 16 bits; the rest of the range is paho's room for the ids of subscriptions.
MAX_IN_FLIGHT = 60_000
# How brokers of 3.1.1 alone turn down MQTT 5: in words, by hanging up, or (amqtt, which can't
# parse a CONNECT with properties) by no answer at all.
UNSUPPORTED = "Unsupported protocol version"
SILENT = "no answer to CONNECT; is it an MQTT broker?"
SILENCE_S = 3.0
HUNG_UP = "it closed the connection without a word; is it an MQTT broker, and without TLS?"

_V5, _V311 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
PROTOCOLS = {"auto": (_V5, _V311), "5": (_V5,), "3.1.1": (_V311,)}

Received = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came."""

    topic: str
    payload: bytes
    is_redelivered: bool  # the broker may have sent it on an earlier connection
    heard_s: float  # monotonic


@dataclass(frozen=True, slots=True)
class Outage:
    """A time without a connection; monotonic."""

    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where an MQTT broker listens, and who we are to it."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None  # connect with TLS, trusting these certificates
    protocol: Literal["auto", "5", "3.1.1"] = "auto"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class PublishCount:
    """What became of the messages given to a connection."""

    sent: int
    acknowledged: int
    refused: dict[str, int]  # by the broker's reason

    @property
    def open(self) -> int:
        """Messages without any word from the broker."""
        return self.sent - self.acknowledged - sum(self.refused.values())


class MqttLink:
    """A connection that lives in a thread of its own from `connect` to `close`.

    Args:
        address: the broker.
        name: begins the client id; the rest is random.
        filters: topics to subscribe to. With any, the session survives a lost connection.
        on_message: called with topic and payload in the connection's thread; must be quick.
        on_delivery: the same, for who needs to know more of it.
        on_acknowledged: called with the token of a publication that the broker has taken.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        name: str,
        filters: tuple[str, ...] = (),
        on_message: Received | None = None,
        on_delivery: Callable[[Delivery], None] | None = None,
        on_acknowledged: Callable[[Any], None] | None = None,
    ) -> None:
        self._address = address
        self._client_id = f"{name}-{uuid.uuid4().hex[:12]}"
        self._filters = filters
        self._on_message = on_message
        self._on_delivery = on_delivery
        self._on_acknowledged = on_acknowledged
        self._changed = threading.Condition()
        self._outcome: str | None = None  # of the first CONNACK; "" is success
        self._subscribed = not filters
        self._sent = self._acknowledged = self._in_flight = 0
        self._limit = MAX_IN_FLIGHT
        self._refused: Counter[str] = Counter()
        self._held: deque[tuple[str, bytes, Any]] = deque()
        self._tokens: dict[int, Any] = {}  # of the messages in flight, by message id
        self._early: set[int] = set()  # acknowledged before `publish` told us their id
        self._outages: list[Outage] = []
        self._down_since_s: float | None = None
        self._client: paho.Client | None = None

    def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect, subscribe, and return once the broker has confirmed both.

        Raises:
            MqttError: nothing listens there, it refuses us, or it is silent for `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        outcome = ""
        for protocol in PROTOCOLS[self._address.protocol]:
            outcome = self._attempt(protocol, deadline_s)
            if not outcome:
                return
            self.close()
            if outcome not in {UNSUPPORTED, HUNG_UP, SILENT}:
                break
        raise MqttError(f"MQTT broker {self._address}: {outcome}")

    def publish(self, topic: str, payload: bytes, token: Any = None) -> None:
        """Send a message with QoS 1, or keep it until the broker has room. Never waits.

        Args:
            topic: where to.
            payload: what.
            token: given to `on_acknowledged` once the broker has taken it; None: don't tell.
        """
        with self._changed:
            self._sent += 1
            if self._in_flight >= self._limit:
                self._held.append((topic, payload, token))
                return
            self._in_flight += 1
        self._hand_over(topic, payload, token)

    def counts(self) -> PublishCount:
        """What became of the messages so far."""
        with self._changed:
            return PublishCount(self._sent, self._acknowledged, dict(self._refused))

    @property
    def is_refused(self) -> bool:
        """The broker has turned down a message of ours."""
        return bool(self._refused)

    def outages(self) -> list[Outage]:
        """The times without a connection that are over, oldest first."""
        with self._changed:
            return list(self._outages)

    def drain(self, stall_s: float) -> PublishCount:
        """Wait until every message has its answer, or no answer has come for `stall_s`.

        Also ends with the first refusal: it is a matter of rights, so more would follow, and
        mosquitto 2.0 closes the connection with each.
        """
        with self._changed:
            while (left := self._left()) and not self._refused:
                if not self._changed.wait_for(partial(self._is_below, left), stall_s):
                    break
        return self.counts()

    def close(self) -> None:
        """Disconnect and end the session. May be called again."""
        client, self._client = self._client, None
        if client is None:
            return
        properties = None
        if client.protocol == _V5:
            properties = _properties(PacketTypes.DISCONNECT, 0)
        client.disconnect(properties=properties)
        client.loop_stop()

    def _left(self) -> int:
        return self._in_flight + len(self._held)

    def _is_below(self, left: int) -> bool:
        return self._left() < left or bool(self._refused)

    def _attempt(self, protocol: MQTTProtocolVersion, deadline_s: float) -> str:
        """Connect with one protocol; "" or why not."""
        self._outcome = None
        self._client = client = self._new_client(protocol)
        options: dict[str, Any] = {}
        if protocol == _V5 and self._filters:
            properties = _properties(PacketTypes.CONNECT, SESSION_EXPIRY_S)
            # Never a clean start, though our id is new: mosquitto 2.0 does not save a session
            # that began with one, however long it is to live.
            options = {"clean_start": False, "properties": properties}
        try:
            client.connect(self._address.host, self._address.port, KEEPALIVE_S, **options)
        except OSError as error:
            return f"can't connect: {error}; is it running there?"
        client.loop_start()
        with self._changed:
            self._changed.wait_for(
                lambda: self._outcome or (self._outcome == "" and self._subscribed),
                min(SILENCE_S, deadline_s - time.monotonic()),
            )
            if self._outcome is None:
                return SILENT
            if not self._outcome and not self._subscribed:
                return f"no answer to SUBSCRIBE to {', '.join(self._filters)}"
            return self._outcome

    def _new_client(self, protocol: MQTTProtocolVersion) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=protocol,
            clean_session=None if protocol == _V5 else not self._filters,
        )
        # 0: paho would look through all messages in flight at each acknowledgement.
        client.max_inflight_messages_set(0)
        client.reconnect_delay_set(min_delay=1, max_delay=2)
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._address.username:
            client.username_pw_set(self._address.username, self._address.password or None)
        if self._address.ca_file:
            client.tls_set(ca_certs=str(self._address.ca_file))
        client.on_socket_open = _no_delay
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_subscribe = self._on_subscribed
        client.on_publish = self._published
        client.on_message = self._received
        return client

    def _hand_over(self, topic: str, payload: bytes, token: Any) -> None:
        client = self._client
        if client is None:
            return
        mid = client.publish(topic, payload, qos=QOS).mid
        if self._on_acknowledged is None:
            return
        # paho tells the id late, and the acknowledgement comes on its own thread; a lock around
        # both would be taken in the other order there
        with self._changed:
            if mid not in self._early:
                self._tokens[mid] = token
                return
            self._early.remove(mid)
        if token is not None:
            self._on_acknowledged(token)

    def _connected(
        self,
        client: paho.Client,
        _userdata: Any,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if not reason.is_failure and self._filters:
            client.subscribe([(topic_filter, QOS) for topic_filter in self._filters])
        with self._changed:
            if self._outcome is None:
                self._outcome = str(reason) if reason.is_failure else ""
            if self._down_since_s is not None:
                self._outages.append(Outage(self._down_since_s, time.monotonic()))
                self._down_since_s = None
            announced = getattr(properties, "ReceiveMaximum", MAX_IN_FLIGHT)
            self._limit = min(MAX_IN_FLIGHT, announced)
            self._changed.notify_all()

    def _disconnected(self, *_details: Any) -> None:
        with self._changed:
            if self._down_since_s is None:
                self._down_since_s = time.monotonic()
            if self._outcome is None:
                self._outcome = HUNG_UP
                self._changed.notify_all()

    def _on_subscribed(
        self,
        _client: paho.Client,
        _userdata: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        with self._changed:
            refused = [str(reason) for reason in reasons if reason.is_failure]
            if refused:
                self._outcome = f"it refuses our subscription: {refused[0]}"
            self._subscribed = True
            self._changed.notify_all()

    def _published(
        self,
        _client: paho.Client,
        _userdata: Any,
        mid: int,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        token = None
        with self._changed:
            if reason.is_failure:
                self._refused[str(reason)] += 1
                self._tokens.pop(mid, None)
            else:
                self._acknowledged += 1
                token = self._take_token(mid)
            following = self._held.popleft() if self._held else None
            if following is None:
                self._in_flight -= 1
            self._changed.notify_all()
        if token is not None and self._on_acknowledged is not None:
            self._on_acknowledged(token)
        if following is not None:
            self._hand_over(*following)

    def _take_token(self, mid: int) -> Any:
        if self._on_acknowledged is None:
            return None
        if mid not in self._tokens:
            self._early.add(mid)
        return self._tokens.pop(mid, None)

    def _received(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if self._on_delivery is not None:
            payload = bytes(message.payload)
            self._on_delivery(Delivery(message.topic, payload, message.dup, time.monotonic()))
        if self._on_message is not None:
            self._on_message(message.topic, bytes(message.payload))


def _properties(packet: int, session_expiry_s: int) -> Properties:
    made = Properties(packet)  # type: ignore[no-untyped-call]
    made.SessionExpiryInterval = session_expiry_s
    return made


def _no_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    """Send small packets at once: with Nagle's algorithm an answer takes 40 ms more."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
