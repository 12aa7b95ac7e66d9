"""The `MqttClient`: paho's client with a `Lane` in place of its socket, connected as configured."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from farm.broker.lane import Lane
from farm.broker.packets import MAX_REMAINING_LENGTH
from farm.config.credentials import read_credentials
from farm.errors import MqttError

if TYPE_CHECKING:
    from farm.broker.lane import Receiver
    from farm.config import BrokerConfig
    from farm.config.mqtt import TlsConfig

CONNECT_TIMEOUT_S = 5.0  # for TCP and TLS, and again for the answer to CONNECT


class MqttClient(paho.Client):
    """See the module. One for each connection.

    Raises:
        MqttError: the TLS files can't be used.
    """

    def __init__(
        self,
        settings: BrokerConfig,
        receiver: Receiver,
        *,
        v5: bool,
        client_id: str,
        max_payload_bytes: int = MAX_REMAINING_LENGTH,
    ) -> None:
        self._max_payload_bytes = max_payload_bytes
        clean = {} if v5 else {"clean_session": False}
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
            manual_ack=True,
            **clean,  # type: ignore[arg-type] # one bool, for MQTT 3.1.1 only
        )
        self._settings = settings
        self._receiver = receiver
        self._has_v5 = v5
        self.lane: Lane | None = None
        self.connect_timeout = CONNECT_TIMEOUT_S
        if settings.tls.enabled:
            use_tls(self, settings.tls)

    def _create_socket(self) -> Lane:  # type: ignore[override] # of what paho needs it has all
        # Where paho itself plugs in another kind of socket, for WebSockets. It is no public method:
        # a test holds paho to it.
        sock = cast("socket.socket", super()._create_socket())
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lane = Lane(
            sock, self._receiver, v5=self._has_v5, max_payload_bytes=self._max_payload_bytes
        )
        return self.lane

    def open(self) -> None:
        """Connect, and send CONNECT.

        Raises:
            OSError: the broker can't be reached.
        """
        settings = self._settings
        login = read_credentials(settings)
        if login.username:
            self.username_pw_set(login.username, login.password or None)
        address = (settings.host, settings.port, settings.keepalive)
        if not self._has_v5:
            self.connect(*address)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = settings.session_expiry_s
        properties.ReceiveMaximum = settings.receive_maximum
        self.connect(*address, clean_start=False, properties=properties)


def use_tls(client: paho.Client, tls: TlsConfig) -> None:
    """Have a client that is not connected yet connect with TLS, as configured.

    Raises:
        MqttError: the TLS files can't be used.
    """
    try:
        client.tls_set(
            ca_certs=str(tls.ca_file) if tls.ca_file else None,
            certfile=str(tls.cert_file) if tls.cert_file else None,
            keyfile=str(tls.key_file) if tls.key_file else None,
        )
    except (OSError, ValueError) as error:
        raise MqttError(f"mqtt.broker.tls: can't use the given files: {error}") from error
    client.tls_insecure_set(tls.insecure)
