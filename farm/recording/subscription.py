"""The `Subscription`: hears what a farm hears, beside it, and never in its place.

One MQTT connection with a client id of its own. It has no thread: whoever records serves it, so
that nothing is queued here. It comes back by itself after an outage and tells of the gap.
"""

from __future__ import annotations

import secrets
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from farm.broker.mqtt_client import use_tls
from farm.config.credentials import read_credentials
from farm.errors import MqttError
from farm.recording.record import Gap, Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from paho.mqtt.reasoncodes import ReasonCode

    from farm.config import BrokerConfig

QOS: Final = 1
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 10.0  # for SUBACK
GOODBYE_S: Final = 2.0
# Long enough for a restart of the MQTT broker, short enough to leave no heap of messages behind.
SESSION_EXPIRY_S: Final = 300
_UNSUPPORTED: Final = (0x84, 0x01)  # MQTT 5, and how a 3.1.1 broker says it
_NOT_LET_IN: Final = frozenset({0x86, 0x87, 0x8C, 4, 5})  # user name, password, rights
_KEPT: Final = (
    "the MQTT broker kept what its limits allow of what was sent meanwhile, and sent it later; "
    "some may be missing (mosquitto: max_queued_messages, and QoS 0 is never kept)"
)
# Retained messages come with a subscription that is new, and not again with one that is renewed.
_RETAINED_ONCE: Final = 1  # MQTT 5, section 3.8.3.1
_LOST: Final = "what was sent meanwhile is missing"


class Subscription:
    """See the module.

    Args:
        settings: of the MQTT broker.
        filters: for what the units send.
        answer_filters: for what the farm answers; may be empty.
        is_answer: whether a topic is one of an answer.
        now_ns: UTC.

    Attributes:
        problem: why there is no connection; "" while there is one.
        unreadable: messages whose topic is no text.
        waited_s: for how long there was nothing to do.
    """

    def __init__(
        self,
        settings: BrokerConfig,
        *,
        filters: tuple[str, ...],
        answer_filters: tuple[str, ...] = (),
        is_answer: Callable[[str], bool],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.client_id = f"farm-record-{secrets.token_hex(6)}"
        self.problem = "no connection yet"
        self.unreadable = 0
        self.waited_s = 0.0
        self._settings = settings
        self._filters = (*filters, *answer_filters)
        self._is_answer = is_answer
        self._now_ns = now_ns
        self._version = "3.1.1" if settings.protocol == "3.1.1" else "5"
        self._is_settled = settings.protocol != "auto"
        self._was_up = False
        self._is_subscribed = False  # in the session that the broker may have kept
        self._heard_ns = 0  # when the last packet came
        self._down_since_ns: int | None = None
        self._wait_s = 0.0
        self._next_try_s = 0.0
        self._client: paho.Client | None = None
        self._welcome: tuple[bool, ReasonCode] | None = None
        self._granted: list[ReasonCode] | None = None
        self._heard: list[Message | Gap] = []

    def poll(self, timeout_s: float) -> list[Message | Gap]:
        """Serve the connection for a while; what came in it.

        Raises:
            MqttError: the broker does not let us in, or refuses a subscription.
            ConfigError: a file of the credentials can't be read.
        """
        if self._client is None:
            left_s = self._next_try_s - time.monotonic()
            if left_s > 0:
                time.sleep(pause_s := min(left_s, timeout_s))
                self.waited_s += pause_s
                return self._take()
            self._connect()
            return self._take()
        is_readable = self._wait(self._client, timeout_s)
        code = self._client.loop(0.0)
        if code is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._lose(paho.error_string(code))
        elif is_readable:
            self._heard_ns = self._now_ns()
        return self._take()

    def close(self) -> None:
        """Disconnect, and end the session. Doing it twice does no harm."""
        client, self._client = self._client, None
        if client is None:
            return
        properties = None
        if self._version == "5":
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        client.on_message = None
        client.disconnect(properties=properties)
        deadline_s = time.monotonic() + GOODBYE_S
        while client.loop(0.1) is MQTTErrorCode.MQTT_ERR_SUCCESS and time.monotonic() < deadline_s:
            pass
        _close(client)

    def _wait(self, client: paho.Client, timeout_s: float) -> bool:
        """Until there is something to do, and not as a part of the work: see `waited_s`.

        Returns:
            Whether something has come, if only the end of the connection.
        """
        sock = client.socket()
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():  # not in the kernel any more
            return True
        begin_s = time.monotonic()
        readable, _, _ = select.select([sock], [], [], 0.0 if client.want_write() else timeout_s)
        self.waited_s += time.monotonic() - begin_s
        return bool(readable)

    def _take(self) -> list[Message | Gap]:
        taken, self._heard = self._heard, []
        return taken

    # ---- connecting ---------------------------------------------------------------------------

    def _connect(self) -> None:
        client = self._make_client()
        self._welcome = self._granted = None
        is_reached = False
        try:
            self._open(client)
            is_reached = True
            if not self._serve(client, lambda: self._welcome is not None, CONNECT_TIMEOUT_S):
                raise OSError("no answer to CONNECT; is it an MQTT broker?")  # noqa: TRY301
            assert self._welcome is not None
            session_present, reason = self._welcome
            self._check(reason)
            self._is_settled = (
                True  # it speaks this version: what fails from now on has other causes
            )
            is_kept = session_present and self._is_subscribed
            place, welcome_ns = len(self._heard), self._now_ns()
            # a kept session may lack what we ask for: its connection broke before it was granted
            self._subscribe(client)
        except OSError as error:
            _close(client)
            if is_reached and not self._is_settled:
                self._version = "3.1.1" if self._version == "5" else "5"
            self._lose(str(error) or type(error).__name__)
            return
        except BaseException:
            _close(client)
            raise
        self._was_up = self._is_subscribed = True
        self._heard_ns = self._now_ns()
        self._client, self.problem, self._wait_s = client, "", 0.0
        if self._down_since_ns is not None:
            end_ns = welcome_ns if is_kept else self._heard_ns
            gap = Gap(self._down_since_ns, end_ns, _KEPT if is_kept else _LOST)
            self._heard.insert(place, gap)  # before what came with the old subscription
            self._down_since_ns = None

    def _open(self, client: paho.Client) -> None:
        settings = self._settings
        login = read_credentials(settings)
        if login.username:
            client.username_pw_set(login.username, login.password or None)
        address = (settings.host, settings.port, settings.keepalive)
        if self._version != "5":
            client.connect(*address)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        # never a clean start: mosquitto 2.0 does not save a session that began with one
        client.connect(*address, clean_start=False, properties=properties)

    def _check(self, reason: ReasonCode) -> None:
        """Whether we were let in.

        Raises:
            MqttError: no, and trying again won't help.
            OSError: no, not now, or not with this version of MQTT.
        """
        if not reason.is_failure:
            return
        if reason.value in _NOT_LET_IN and not self._was_up:
            raise MqttError(
                f"the MQTT broker {self._address} refuses us ({reason}): see mqtt.broker.username "
                "and password_file in the configuration"
            )
        if reason.value not in _UNSUPPORTED:
            self._is_settled = True
        raise OSError(f"refused: {reason}")

    def _subscribe(self, client: paho.Client) -> None:
        if self._version == "5":
            options = SubscribeOptions(qos=QOS, retainHandling=_RETAINED_ONCE)
            client.subscribe([(each, options) for each in self._filters])
        else:
            client.subscribe([(each, QOS) for each in self._filters])
        if not self._serve(client, lambda: self._granted is not None, ANSWER_TIMEOUT_S):
            raise OSError("no answer to SUBSCRIBE")
        assert self._granted is not None
        for topic_filter, reason in zip(self._filters, self._granted, strict=False):
            if reason.is_failure:
                raise MqttError(
                    f"the MQTT broker {self._address} refuses the subscription to {topic_filter} "
                    f"({reason}): allow this user to read it in the broker's access list"
                )

    def _serve(self, client: paho.Client, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not condition() and time.monotonic() < deadline_s:
            code = client.loop(0.1)
            if code is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                return condition()
        return condition()

    def _lose(self, problem: str) -> None:
        if self._client is not None:
            _close(self._client)
            self._client = None
        if self._was_up and self._down_since_ns is None:
            # the connection may have been dead for as long as its keepalive before we noticed
            self._down_since_ns = self._heard_ns
        self.problem = problem
        least_s, most_s = self._settings.reconnect_min_s, self._settings.reconnect_max_s
        self._wait_s = min(most_s, max(least_s, 2 * self._wait_s))
        self._next_try_s = time.monotonic() + self._wait_s

    @property
    def _address(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"

    # ---- paho ---------------------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=paho.MQTTv5 if self._version == "5" else paho.MQTTv311,
            # 3.1.1 knows no expiry: a session would outlive a recorder that was killed for ever
            clean_session=None if self._version == "5" else True,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        if self._settings.tls.enabled:
            use_tls(client, self._settings.tls)
        client.on_socket_open = _no_delay
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: Any,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._welcome = (flags.session_present, reason)

    def _on_subscribe(
        self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _p: Any
    ) -> None:
        self._granted = reasons

    def _on_message(self, _client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self.unreadable += 1
            return
        self._heard.append(
            Message(
                self._now_ns(),
                topic,
                bytes(message.payload),
                message.qos,
                message.retain,
                self._is_answer(topic),
            )
        )


def _no_delay(_client: paho.Client, _userdata: Any, sock: Any) -> None:
    """Acknowledge at once: some brokers send no more before."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _close(client: paho.Client) -> None:
    sock = client.socket()
    if isinstance(sock, socket.socket):
        sock.close()
