"""The `MqttLink`: one MQTT connection, its thread, its reconnects. Decides nothing about holes.

It subscribes with a persistent session, hands arrivals to the `Intake`, publishes, reports what
happened as events, and acknowledges what the loop has taken over. paho holds each connection, with
a client of its own; messages and their confirmations pass by it, on the `Lane`. Traps it knows:

* an acknowledgement must carry the connection's epoch: mids are reused after a reconnect;
* arrivals are only enqueued; what the intake can't hold stays unacknowledged, and the link
  reconnects when there is room again, since redelivery happens only then;
* what was published and not confirmed is sent again on the next connection, under the same mid;
* without TCP_NODELAY the median answer takes 40 ms longer.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from farm import log
from farm.broker.exchange import CLIENTS_OWN, FIRST_FAILURE, Exchange
from farm.broker.lane import Lane, LanePoll
from farm.broker.mqtt_client import CONNECT_TIMEOUT_S, MqttClient
from farm.broker.mqtt_version import MqttVersion
from farm.broker.packets import MAX_REMAINING_LENGTH
from farm.broker.tenancy import Tenancy
from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

    from farm.broker import packets
    from farm.broker.intake import Intake
    from farm.config import BrokerConfig

LOOP_TIMEOUT_S = 0.5  # how late a stop or a reconnect request is noticed at worst
CARE_EVERY_S = 0.5  # how often paho looks at its keepalive
CONFIRM_TIMEOUT_S = 2.0  # for what is on its way, before a reconnect of our own
KEPT_CONNECTION_S = 10.0  # a connection that lived this long resets the back-off
SESSION_TAKEN_OVER = 0x8E
UNSUPPORTED_PROTOCOL = (0x84, 0x01)  # MQTT 5, and how a 3.1.1 broker says it
MAX_REASON_CHARS = 200  # of what a broker says in its own words, up to 64 kB of them


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and subscribed."""

    protocol: str
    session_present: bool
    max_packet_bytes: int | None
    most_inflight: int | None  # publications of ours that the MQTT broker takes at once
    is_wanted: bool = False  # we had ended the connection before, to be sent again what did not fit


@dataclass(frozen=True, slots=True)
class Down:
    """The connection is gone, or an attempt failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Evicted:
    """Another client connected with our client id: going on would evict it in turn, for ever."""


LinkEvent = Up | Down | Evicted


class Private(NamedTuple):
    """Topics that are no traffic: they are heard at QoS 0 and pass by the intake."""

    prefix: str  # ends with a slash
    on_said: Callable[[packets.Publish], None]  # on the connection's thread; must be quick


class MqttLink:
    """See the module. `poll_event` is for the loop's thread, as is the `exchange`'s own side."""

    def __init__(
        self,
        settings: BrokerConfig,
        *,
        client_id: str,
        filters: tuple[str, ...],
        status_topic: str,
        intake: Intake,
        wake: Callable[[], None],
        max_payload_bytes: int = MAX_REMAINING_LENGTH,
        private: Private | None = None,
    ) -> None:
        self._max_payload_bytes = max_payload_bytes  # of more only the begin is kept in memory
        self._settings = settings
        self._client_id = client_id
        self._filters = filters
        self._private = private
        self._status_topic = status_topic
        self._tenancy = Tenancy(client_id)
        self._intake = intake
        self._wake = wake
        self._events: deque[LinkEvent] = deque()
        self.exchange = Exchange(
            intake,
            wake,
            private_topic=self._tenancy.topic,
            private_prefix=private.prefix if private else "",
            on_private=self._on_private,
        )
        self._may_reconnect = False
        self._reconnect_by_s: float | None = None
        self._reconnects_itself = False  # the connection ended because we wanted it to
        self._stopping = threading.Event()
        self._waker = Waker()  # of the thread
        self._evicted = False
        self._version = MqttVersion(settings.protocol)
        self._refusal = ""  # what the broker answered instead of letting us in
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._log = log.get()

    # ---- for the loop ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Say offline, disconnect and end the thread."""
        if self.connected:
            told = (
                self._client.publish(self._status_topic, _status("offline"), qos=1, retain=True),
                # takes our mark away
                self._client.publish(self._tenancy.topic, b"", qos=1, retain=True),
            )
            # Both: a connection that is closed with a confirmation unread is reset, and the MQTT
            # broker may take the end for a crash, DISCONNECT or not.
            for info in told:
                with contextlib.suppress(RuntimeError, ValueError):  # the connection went just now
                    info.wait_for_publish(timeout_s / 4)
            self._client.disconnect()
        self._stopping.set()
        self._waker.wake()
        self._thread.join(timeout_s)

    def hold(self) -> None:
        """Take in nothing more; what arrives stays unacknowledged for the next session."""
        self.exchange.is_holding = True

    def poll_event(self) -> LinkEvent | None:
        """What happened to the connection next, oldest first."""
        return self._events.popleft() if self._events else None

    @property
    def connected(self) -> bool:
        """Whether messages can arrive now."""
        return self.exchange.is_open

    # ---- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        delay_s = self._settings.reconnect_min_s
        while not self._stopping.is_set():
            started_s = time.monotonic()
            reason = self._hold_connection()
            self._lose(reason)
            if self._stopping.is_set() or self._evicted:
                return
            if self._reconnects_itself or time.monotonic() - started_s > KEPT_CONNECTION_S:
                delay_s = self._settings.reconnect_min_s
            self._stopping.wait(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, self._settings.reconnect_max_s)

    def _hold_connection(self) -> str:
        """Connect and serve the connection until it ends; returns why it ended."""
        self._version.begin()
        self._refusal = ""
        self._may_reconnect = False
        self._reconnect_by_s = None
        self.exchange.begin()
        try:
            self._client = self._make_client()
            self._client.open()
            return self._serve(self._client)
        # whatever a broken peer makes paho raise must end this connection, never the thread
        except Exception as error:  # noqa: BLE001
            return self._after_failure(f"{type(error).__name__}: {error}")
        finally:
            if lane := self._client.lane:
                lane.close()

    def _serve(self, client: MqttClient) -> str:
        """Carry what goes over the connection, until it ends; returns why it ended."""
        lane = client.lane
        assert lane is not None  # it is connected
        answer_by_s = time.monotonic() + CONNECT_TIMEOUT_S
        poll, next_care_s = LanePoll(lane, self._waker.fd), 0.0
        while not self._stopping.is_set() and not self._is_to_reconnect:
            is_readable = poll.wait(LOOP_TIMEOUT_S)
            self._waker.clear()
            code = self._read(client, lane, is_readable=is_readable)
            if client.want_write() and not code:
                code = client.loop_write()
            now_s = time.monotonic()
            if now_s >= next_care_s and not code:
                next_care_s = now_s + CARE_EVERY_S
                code = client.loop_misc()
            if code:
                return self._after_failure(self._refusal or paho.error_string(code))
            if not lane.is_open:  # paho closes it behind a DISCONNECT
                break
            lane.flush()
            if not self.connected and now_s > answer_by_s:
                self._say_goodbye(client)
                self._version.unanswered()
                return self._after_failure(f"no answer to CONNECT in {CONNECT_TIMEOUT_S:g} s")
        if self._is_to_reconnect:
            self._say_goodbye(client)
            self._reconnects_itself = True
            return "arrivals outran the intake queue: taking them again"
        if client.want_write():
            client.loop_write()  # DISCONNECT, after which our last will is not published
        return "stopped"

    def _read(self, client: MqttClient, lane: Lane, *, is_readable: bool) -> MQTTErrorCode:
        """Take what has come; returns paho's verdict on its part of it."""
        if is_readable:
            lane.fill()
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while lane.has_packets_for_client and not code:
            code = client.loop_read()
            lane.cut()  # what came behind CONNACK
        self.exchange.tell()
        return code

    @staticmethod
    def _say_goodbye(client: MqttClient) -> None:
        client.disconnect()
        client.loop_write()

    def _after_failure(self, reason: str) -> str:
        self._version.failed()
        return reason

    @property
    def wants_to_reconnect(self) -> bool:
        """Whether the MQTT broker is to send again what did not fit, now that there is room.

        Not before: the confirmations of answers come on this connection, and without them a farm
        whose holes are all answered and unconfirmed would never have room again.
        """
        exchange = self.exchange
        return exchange.is_overrun and not exchange.is_holding and self._intake.has_room()

    def let_reconnect(self) -> None:
        """Nothing that was published waits for its confirmation now: none will come twice."""
        self._may_reconnect = True

    @property
    def _is_to_reconnect(self) -> bool:
        if not self.wants_to_reconnect:
            return False
        now_s = time.monotonic()
        if self._reconnect_by_s is None:
            self._reconnect_by_s = now_s + CONFIRM_TIMEOUT_S
        return self._may_reconnect or now_s > self._reconnect_by_s

    def _lose(self, reason: str) -> None:
        self.exchange.close()
        self._emit(Down(reason))

    def _emit(self, event: LinkEvent) -> None:
        self._events.append(event)
        self._wake()

    # ---- paho's callbacks, on the thread ----------------------------------------------------

    def _on_socket_open(self, _client: paho.Client, _userdata: Any, _sock: Any) -> None:
        self._version.reached()

    def _on_want_write(self, _client: paho.Client, _userdata: Any, _sock: Any) -> None:
        self._waker.wake()

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value >= FIRST_FAILURE or (not self._version.is_5 and reason.is_failure):
            self._version.refused(for_its_version=reason.value in UNSUPPORTED_PROTOCOL)
            self._refusal = f"refused: {_worded(reason, properties)}"
            return
        self._version.accepted()
        if flags.session_present and self._reconnects_itself:
            # not after a loss: a broker that crashed may have lost what is still here
            self._intake.drop_what_comes_again()
        is_wanted, self._reconnects_itself = self._reconnects_itself, False
        self._tenancy.connected()
        # the mark goes last: its refusal costs nothing but the detection of a rival
        aside = [(f"{self._private.prefix}#", 0)] if self._private else []
        client.subscribe([*((f, 1) for f in self._filters), *aside, (self._tenancy.topic, 0)])
        client.publish(self._tenancy.topic, self._tenancy.mark, qos=1, retain=True)
        client.publish(self._status_topic, _status("online"), qos=1, retain=True)
        assert self._client.lane is not None  # it has just spoken
        most_inflight = getattr(properties, "ReceiveMaximum", None)
        if most_inflight is not None:
            most_inflight = max(1, most_inflight - CLIENTS_OWN)
        self.exchange.open(
            self._client.lane,
            v5=self._version.is_5,
            wake_connection=self._waker.wake,
            most_inflight=most_inflight,
        )
        self._emit(
            Up(
                self._version.name,
                flags.session_present,
                getattr(properties, "MaximumPacketSize", None),
                most_inflight,
                is_wanted,
            )
        )

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._refusal = f"ended by the MQTT broker: {_worded(reason, properties)}"
        if reason.value == SESSION_TAKEN_OVER:
            self._note_eviction()

    def _note_eviction(self) -> None:
        self._evicted = True
        self._emit(Evicted())

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _p: Any
    ) -> None:
        for topic_filter, reason in zip(self._filters, reasons, strict=False):
            if reason.is_failure:
                self._log.error(
                    "mqtt_subscription_refused",
                    topic_filter=topic_filter,
                    reason=str(reason),
                    cure="allow it in the MQTT broker's access list",
                )

    def _on_private(self, packet: packets.Publish) -> None:
        if self._private is not None and packet.topic.startswith(self._private.prefix.encode()):
            self._private.on_said(packet)
            self._wake()
        else:
            self._on_mark(packet)

    def _on_mark(self, packet: packets.Publish) -> None:
        """Somebody left a mark under our client id."""
        if packet.is_retained and self._tenancy.has_rival(packet.payload, time.monotonic()):
            self._client.publish(self._tenancy.topic, packet.payload, qos=1, retain=True)
            self._note_eviction()

    # ---- making a client --------------------------------------------------------------------

    def _make_client(self) -> MqttClient:
        client = MqttClient(
            self._settings,
            self.exchange,
            v5=self._version.is_5,
            client_id=self._client_id,
            max_payload_bytes=self._max_payload_bytes,
        )
        client.will_set(self._status_topic, _status("offline"), qos=1, retain=True)
        client.on_socket_open = self._on_socket_open
        client.on_socket_register_write = self._on_want_write
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        return client


def _worded(reason: ReasonCode, properties: Properties | None) -> str:
    """A reason as the standard words it, and what the MQTT broker itself says of it."""
    said = str(getattr(properties, "ReasonString", ""))[:MAX_REASON_CHARS]
    return f"{reason} ({said})" if said else str(reason)


def _status(state: str) -> bytes:
    return json.dumps({"state": state}).encode()
