"""The `Probe`: one MQTT connection of the doctor's own, which waits for each answer.

Owns the paho client, without a thread: whoever waits for something serves the connection meanwhile.
Its client id is its own, and it leaves no session behind unless it is told to.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from farm.broker.mqtt_client import use_tls
from farm.config.credentials import read_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from farm.config import BrokerConfig

CONNECT_TIMEOUT_S: Final = 5.0  # for TCP and TLS, and again for the answer to CONNECT
ANSWER_TIMEOUT_S: Final = 10.0  # for any other answer
GOODBYE_S: Final = 2.0
MOST_INFLIGHT: Final = 100  # where the broker does not say
PRIVATE: Final = "farm/doctor/"  # begins topics that nobody else has a use for
_LOOK_EVERY_S: Final = 0.1
_NO_RETAINED: Final = 2  # MQTT 5.0, 3.8.3.1: none of what is retained is sent for a subscription


@dataclass(slots=True)
class Welcome:
    """What the broker's CONNACK says; properties are those of MQTT 5.0, 3.2.2.3."""

    protocol: str
    took_s: float  # from CONNECT
    is_session_present: bool
    properties: Properties | None

    def told(self, name: str) -> Any:
        """A property; None where the broker does not say, or speaks 3.1.1."""
        return getattr(self.properties, name, None)


class RefusedError(Exception):
    """The broker said no to CONNECT, with a reason code."""

    def __init__(self, code: int, said: str) -> None:
        super().__init__(said)
        self.code = code


class SilentError(Exception):
    """The broker closed the connection without an answer, or gave none; the message says which."""


@dataclass(slots=True)
class Heard:
    """What came in."""

    topics: Counter[str] = field(default_factory=Counter)
    payloads: list[tuple[str, bytes]] = field(default_factory=list)  # of private topics
    system: str = ""  # the newest of $SYS


class Probe:
    """See the module; a context manager that disconnects.

    Args:
        settings: of the broker.
        protocol: "5" or "3.1.1".
        name: the end of the client id; made up where it is "".
        keep_s: for how long the broker is to keep the session once we are gone; 0: not at all.
    """

    def __init__(
        self, settings: BrokerConfig, *, protocol: str, name: str = "", keep_s: int = 0
    ) -> None:
        self.client_id = f"farm-doctor-{name or secrets.token_hex(4)}"
        self.heard = Heard()
        self.lost = ""  # why the connection ended; "" while it stands
        self._settings = settings
        self._protocol = protocol
        self._keep_s = keep_s
        self._welcome: tuple[bool, ReasonCode, Properties | None] | None = None
        self._granted: dict[int, list[ReasonCode]] = {}
        self._confirmed: dict[int, ReasonCode] = {}
        self._sent = 0  # messages that the broker is to answer
        self._most_inflight = MOST_INFLIGHT
        self._client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5 if protocol == "5" else paho.MQTTv311,
            clean_session=None if protocol == "5" else not keep_s,
            reconnect_on_failure=False,
        )
        self._client.received = self._confirmed
        self._client.max_inflight_messages_set(0)  # no bound of paho's: ours is the broker's
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        if settings.tls.enabled:
            use_tls(self._client, settings.tls)
        self._client.on_socket_open = _no_delay
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def connect(self) -> Welcome:
        """Connect.

        Raises:
            OSError: nobody is reached there; ssl.SSLError is one.
            RefusedError: the broker won't have us.
            SilentError: it does not answer.
            ConfigError: a file with the user name or the password can't be read.
        """
        settings = self._settings
        login = read_credentials(settings)
        if login.username:
            self._client.username_pw_set(login.username, login.password or None)
        started_s = time.monotonic()
        options: dict[str, Any] = {}
        if self._protocol == "5":
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = self._keep_s
            # mosquitto 2.0 does not save a session that began with a clean start
            options = {"clean_start": not self._keep_s, "properties": properties}
        self._client.connect(settings.host, settings.port, settings.keepalive, **options)
        if not self._until(lambda: self._welcome is not None, CONNECT_TIMEOUT_S):
            raise SilentError(self.lost or f"no answer to CONNECT in {CONNECT_TIMEOUT_S:g} s")
        assert self._welcome is not None
        session_present, reason, properties_told = self._welcome
        if reason.is_failure:
            said = str(getattr(properties_told, "ReasonString", "") or reason)[:200]
            raise RefusedError(reason.value, said)
        announced = getattr(properties_told, "ReceiveMaximum", MOST_INFLIGHT)
        self._most_inflight = min(announced, MOST_INFLIGHT)
        took_s = time.monotonic() - started_s
        return Welcome(self._protocol, took_s, session_present, properties_told)

    def certificate_ends_s(self) -> float | None:
        """When the broker's certificate ends, in seconds since 1970; None without TLS."""
        sock = self._client.socket()
        if not isinstance(sock, ssl.SSLSocket):
            return None
        ends = (sock.getpeercert() or {}).get("notAfter")  # {} where it was not verified
        return ssl.cert_time_to_seconds(ends) if isinstance(ends, str) else None

    def subscribe(
        self, filters: Sequence[str], *, qos: int = 1, with_retained: bool = False
    ) -> list[ReasonCode] | None:
        """Subscribe; one reason code for each filter, None without an answer."""
        if self._protocol == "5":
            handling = 0 if with_retained else _NO_RETAINED
            options = SubscribeOptions(qos=qos, retainHandling=handling)
            _, mid = self._client.subscribe([(name, options) for name in filters])
        else:
            _, mid = self._client.subscribe([(name, qos) for name in filters])
        if mid is None or not self._until(lambda: mid in self._granted, ANSWER_TIMEOUT_S):
            return None
        return self._granted[mid]

    def publish(self, topic: str, payload: bytes) -> int:
        """Send a message at QoS 1, once there is room for it; returns its id, for `verdict`."""
        self._until(lambda: self.has_room, ANSWER_TIMEOUT_S)
        self._sent += 1
        return self._client.publish(topic, payload, qos=1).mid

    def publish_unconfirmed(self, topic: str, payload: bytes) -> None:
        """Send a message at QoS 0."""
        self._client.publish(topic, payload, qos=0)

    @property
    def has_room(self) -> bool:
        """Whether the broker takes one more message before it has answered another."""
        return self._sent - len(self._confirmed) < self._most_inflight

    @property
    def confirmed(self) -> int:
        """How many messages the broker has answered."""
        return len(self._confirmed)

    def verdict(self, mid: int, timeout_s: float = ANSWER_TIMEOUT_S) -> ReasonCode | None:
        """What the broker says of a message; None without an answer."""
        self._until(lambda: mid in self._confirmed, timeout_s)
        return self._confirmed.get(mid)

    def hold(self, topic: str) -> int:
        """Send the first half of a message at QoS 2, and never the second; returns its id.

        The broker judges our right to the topic with the first half. Most give the message to
        nobody before the second; `mqtt_rights` finds out beforehand.
        """
        self._sent += 1
        self._most_inflight -= 1  # it stays under way for as long as the connection lives
        return self._client.publish(topic, b"", qos=2).mid

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Serve the connection until something is so; returns whether it came to that."""
        return self._until(condition, timeout_s)

    def leave(self) -> None:
        """Disconnect; the session lives on for as long as it was to be kept."""
        self._disconnect(self._keep_s)

    def close(self) -> None:
        """Disconnect, and with MQTT 5 end the session; doing it twice does no harm."""
        self._disconnect(0)

    def _disconnect(self, keep_s: int) -> None:
        if not self.lost and self._client.socket() is not None:
            properties = None
            if self._protocol == "5":
                properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = keep_s
            self._client.disconnect(properties=properties)
            self._until(lambda: False, GOODBYE_S)
        if (sock := self._client.socket()) is not None:
            sock.close()

    def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or self._client.socket() is None:
                return False
            try:
                code = self._client.loop(min(left_s, _LOOK_EVERY_S))
            # whatever is no MQTT makes paho raise anything
            except Exception as error:  # noqa: BLE001
                self.lost = self.lost or f"what it sends is no MQTT ({type(error).__name__})"
                return condition()
            if code != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self.lost = self.lost or paho.error_string(code)
                return condition()
        return True

    # ---- paho's callbacks -------------------------------------------------------------------

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._welcome = (flags.session_present, reason, properties)

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        who = "the broker ended it" if flags.is_disconnect_packet_from_server else "it ended"
        self.lost = self.lost or f"{who}: {reason}"

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _p: Any
    ) -> None:
        self._granted[mid] = reasons

    def _on_publish(
        self, _client: paho.Client, _userdata: Any, mid: int, reason: ReasonCode, _p: Any
    ) -> None:
        self._confirmed[mid] = reason

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.heard.topics[message.topic] += 1
        if message.topic.startswith(PRIVATE):
            self.heard.payloads.append((message.topic, bytes(message.payload)))
        elif message.topic.startswith("$SYS"):
            self.heard.system = bytes(message.payload).decode("utf-8", "replace")


def _no_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    """Send small packets at once: the delay that is measured must be the broker's."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _Client(paho.Client):
    """paho's client, that keeps a message at QoS 2 back after its first half."""

    received: dict[int, ReasonCode]

    def _handle_pubrec(self) -> MQTTErrorCode:
        # No public method: a test holds paho to it. MQTT 5.0, 3.5: id, reason code unless it is 0.
        packet = self._in_packet["packet"]
        code = packet[2] if len(packet) > 2 else 0
        self.received[int.from_bytes(packet[:2], "big")] = ReasonCode(
            PacketTypes.PUBREC, identifier=code
        )
        return MQTTErrorCode.MQTT_ERR_SUCCESS
