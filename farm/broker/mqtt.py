"""The `MqttLink`: one MQTT connection, its thread, its reconnects. Decides nothing about holes.

It subscribes with a persistent session, hands arrivals to the `Intake`, publishes, reports what
happened as events, and acknowledges what the loop has taken over. Traps it knows:

* an acknowledgement must carry the connection's epoch: mids are reused after a reconnect;
* `on_message` only enqueues; what the intake can't hold stays unacknowledged, and the link
  reconnects when there is room again, since redelivery happens only then;
* without TCP_NODELAY the median answer takes 40 ms longer.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from farm import log
from farm.broker.intake import Arrival, Intake
from farm.broker.tenancy import Tenancy
from farm.config.credentials import read_credentials
from farm.errors import MqttError

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.reasoncodes import ReasonCode

    from farm.adapter import Publication
    from farm.config import BrokerConfig

LOOP_TIMEOUT_S = 0.5  # how late a stop or a reconnect request is noticed at worst
CONFIRM_TIMEOUT_S = 2.0  # for what is on its way, before a reconnect of our own
CONNECT_TIMEOUT_S = 5.0  # for TCP and TLS, and again for the answer to CONNECT
KEPT_CONNECTION_S = 10.0  # a connection that lived this long resets the back-off
SESSION_TAKEN_OVER = 0x8E
UNSUPPORTED_PROTOCOL = (0x84, 0x01)  # MQTT 5, and how a 3.1.1 broker says it
FIRST_FAILURE = 0x80
CUTS_THAT_REFUSE = 2


@dataclass(frozen=True, slots=True)
class Up:
    """Connected and subscribed."""

    protocol: str
    session_present: bool
    max_packet_bytes: int | None
    receive_maximum: int | None


@dataclass(frozen=True, slots=True)
class Down:
    """The connection is gone, or an attempt failed."""

    reason: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The MQTT broker answered a publication; `refusal` is its reason, None when it took it."""

    mid: int
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Evicted:
    """Another client connected with our client id: going on would evict it in turn, for ever."""


LinkEvent = Up | Down | Confirmed | Evicted


class MqttLink:
    """See the module. `poll_event` and `acknowledge` are for the loop's thread."""

    def __init__(
        self,
        settings: BrokerConfig,
        *,
        client_id: str,
        filters: tuple[str, ...],
        status_topic: str,
        intake: Intake,
        wake: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._client_id = client_id
        self._filters = filters
        self._status_topic = status_topic
        self._tenancy = Tenancy(client_id)
        self._intake = intake
        self._wake = wake
        self._events: deque[LinkEvent] = deque()
        self._lock = threading.Lock()  # guards epoch and its use in acknowledge
        self._epoch = 0
        self._live_epoch: int | None = None
        self._overrun = False
        self._may_reconnect = False
        self._reconnect_by_s: float | None = None
        self._reconnects_itself = False  # the connection ended because we wanted it to
        self._holding = False
        self._stopping = threading.Event()
        self._evicted = False
        self._version = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self._reached = False  # TCP is open, and the broker has not let us in
        self._is_answered = False  # it said, or showed by silence, that it won't with this version
        self._cuts = 0  # connections in a row that it closed without an answer
        self._refusal = ""  # what the broker answered instead of letting us in
        self._settled = settings.protocol != "auto"  # the MQTT version needs no guess any more
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._log = log.get()
        self.overruns = 0
        self.lost_qos0 = 0  # messages that no redelivery brings back: their sender chose QoS 0

    # ---- for the loop ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Say offline, disconnect and end the thread."""
        if self._live_epoch is not None:
            info = self._client.publish(self._status_topic, _status("offline"), 1, retain=True)
            with contextlib.suppress(RuntimeError, ValueError):  # the connection went just now
                info.wait_for_publish(timeout_s / 2)
            self._client.publish(
                self._tenancy.topic, b"", qos=1, retain=True
            )  # takes our mark away
            self._client.disconnect()
        self._stopping.set()
        self._thread.join(timeout_s)

    def hold(self) -> None:
        """Take in nothing more; what arrives stays unacknowledged for the next session."""
        self._holding = True

    def poll_event(self) -> LinkEvent | None:
        """What happened next, oldest first."""
        return self._events.popleft() if self._events else None

    @property
    def connected(self) -> bool:
        """Whether messages can arrive now."""
        return self._live_epoch is not None

    def acknowledge(self, arrival: Arrival) -> None:
        """Tell the MQTT broker that this arrival is ours; on another connection it will resend."""
        if arrival.qos == 0:
            return
        with self._lock:
            if arrival.epoch == self._live_epoch:
                self._client.ack(arrival.mid, arrival.qos)

    def publish(self, publication: Publication) -> int:
        """Hand a publication over; a `Confirmed` with the returned mid follows."""
        info = self._client.publish(
            publication.topic, publication.payload, qos=1, retain=publication.retain
        )
        return info.mid

    # ---- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        delay_s = self._settings.reconnect_min_s
        while not self._stopping.is_set():
            started_s = time.monotonic()
            reason = self._hold_connection()
            self._lose(reason)
            if self._stopping.is_set() or self._evicted:
                return
            if time.monotonic() - started_s > KEPT_CONNECTION_S:
                delay_s = self._settings.reconnect_min_s
            self._stopping.wait(delay_s * random.uniform(0.5, 1.0))
            delay_s = min(delay_s * 2, self._settings.reconnect_max_s)

    def _hold_connection(self) -> str:
        """Connect and serve the connection until it ends; returns why it ended."""
        self._reached = False
        self._is_answered = False
        self._refusal = ""
        self._overrun = self._may_reconnect = False
        self._reconnect_by_s = None
        try:
            self._connect()
            answer_by_s = time.monotonic() + CONNECT_TIMEOUT_S
            while not self._stopping.is_set() and not self._is_to_reconnect:
                code = self._client.loop(LOOP_TIMEOUT_S)
                if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return self._after_failure(self._refusal or paho.error_string(code))
                if self._live_epoch is None and time.monotonic() > answer_by_s:
                    # some brokers of MQTT 3.1.1 are silent when they are asked for MQTT 5
                    self._client.disconnect()
                    self._is_answered = True
                    return self._after_failure(f"no answer to CONNECT in {CONNECT_TIMEOUT_S:g} s")
            if self._is_to_reconnect:
                self._client.disconnect()
                self._reconnects_itself = True
                return "arrivals outran the intake queue: taking them again"
        # whatever a broken peer makes paho raise must end this connection, never the thread
        except Exception as error:  # noqa: BLE001
            return self._after_failure(f"{type(error).__name__}: {error}")
        return "stopped"

    def _connect(self) -> None:
        settings = self._settings
        login = read_credentials(settings)
        if login.username:
            self._client.username_pw_set(login.username, login.password or None)
        if self._version == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = settings.session_expiry_s
            properties.ReceiveMaximum = settings.receive_maximum
            self._client.connect(
                settings.host,
                settings.port,
                settings.keepalive,
                clean_start=False,
                properties=properties,
            )
        else:
            self._client.connect(settings.host, settings.port, settings.keepalive)

    def _after_failure(self, reason: str) -> str:
        """Try the other MQTT version when the broker was reached and did not accept this one.

        A connection that is cut once may be a broker that just died: a farm that settles on 3.1.1
        for that would miss a receive maximum for the rest of its life.
        """
        if self._reached and not self._settled:
            self._cuts += 1
            if self._is_answered or self._cuts >= CUTS_THAT_REFUSE:
                self._switch_version()
        return reason

    def _switch_version(self) -> None:
        self._version = "3.1.1" if self._version == "5" else "5"
        self._client = self._make_client()
        self._cuts = 0

    @property
    def wants_to_reconnect(self) -> bool:
        """Whether the MQTT broker is to send again what did not fit, now that there is room.

        Not before: the confirmations of answers come on this connection, and without them a farm
        whose holes are all answered and unconfirmed would never have room again.
        """
        return self._overrun and not self._holding and self._intake.has_room()

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
        with self._lock:
            self._live_epoch = None
            self._epoch += 1
        self._emit(Down(reason))

    def _emit(self, event: LinkEvent) -> None:
        self._events.append(event)
        self._wake()

    # ---- paho's callbacks, on the thread ----------------------------------------------------

    def _on_socket_open(self, _client: paho.Client, _userdata: Any, sock: Any) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reached = True

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value >= FIRST_FAILURE or (self._version != "5" and reason.is_failure):
            self._reached = self._is_answered = reason.value in UNSUPPORTED_PROTOCOL
            self._refusal = f"refused: {reason}"
            return
        self._settled = True
        if flags.session_present and self._reconnects_itself:
            # not after a loss: a broker that crashed may have lost what is still here
            self._intake.drop_what_comes_again()
        self._reconnects_itself = False
        self._tenancy.connected()
        # the mark goes last: its refusal costs nothing but the detection of a rival
        client.subscribe([*((f, 1) for f in self._filters), (self._tenancy.topic, 0)])
        client.publish(self._tenancy.topic, self._tenancy.mark, qos=1, retain=True)
        client.publish(self._status_topic, _status("online"), qos=1, retain=True)
        with self._lock:
            self._live_epoch = self._epoch
        self._emit(
            Up(
                self._version,
                flags.session_present,
                getattr(properties, "MaximumPacketSize", None),
                getattr(properties, "ReceiveMaximum", None),
            )
        )

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        _flags: Any,
        reason: ReasonCode,
        _properties: Any,
    ) -> None:
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

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        if message.topic == self._tenancy.topic:
            if message.retain and self._tenancy.has_rival(bytes(message.payload), time.monotonic()):
                client.publish(message.topic, message.payload, qos=1, retain=True)
                self._note_eviction()
            return
        if self._overrun or self._holding:
            # unacknowledged: it comes again after the reconnect, unless it was sent with QoS 0
            self.lost_qos0 += message.qos == 0
            return
        payload = bytes(message.payload)  # of bytes, no copy is made
        arrival = Arrival(
            topic=message.topic,
            payload=payload,
            mid=message.mid,
            qos=message.qos,
            epoch=self._epoch,
            arrived_s=time.monotonic(),
            is_redelivered=message.dup,
        )
        if self._intake.put(arrival):
            self._wake()
        else:
            self._overrun = True
            self.overruns += 1
            self.lost_qos0 += message.qos == 0

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any
    ) -> None:
        self._emit(Confirmed(mid, str(reason) if reason.value >= FIRST_FAILURE else None))

    # ---- making a client --------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        version = paho.MQTTv5 if self._version == "5" else paho.MQTTv311
        clean = {} if self._version == "5" else {"clean_session": False}
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=version,
            manual_ack=True,
            **clean,  # type: ignore[arg-type] # one bool, for MQTT 3.1.1 only
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # the outbox bounds what is in flight
        client.will_set(self._status_topic, _status("offline"), qos=1, retain=True)
        if self._settings.tls.enabled:
            _use_tls(client, self._settings)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        return client


def _use_tls(client: paho.Client, settings: BrokerConfig) -> None:
    tls = settings.tls
    try:
        client.tls_set(
            ca_certs=str(tls.ca_file) if tls.ca_file else None,
            certfile=str(tls.cert_file) if tls.cert_file else None,
            keyfile=str(tls.key_file) if tls.key_file else None,
        )
    except (OSError, ValueError) as error:
        raise MqttError(f"mqtt.broker.tls: can't use the given files: {error}") from error
    client.tls_insecure_set(tls.insecure)


def _status(state: str) -> bytes:
    return json.dumps({"state": state}).encode()
