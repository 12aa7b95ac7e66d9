"""A lean MQTT client to measure with: QoS 1 over a plain socket, a few microseconds a message.

Owns the packets and one connection; no thread, no reconnecting, no TLS, no queue. Who measures on
the cores that it loads must cost little: many publications go in one system call, many
acknowledgements in the next one, and of what is received nothing is looked at but the headers.
MQTT 5 (OASIS, sections 2 and 3), and 3.1.1 for brokers that know no more.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farm.broker.packets import variable_int
from farm.errors import MqttError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.simulation.mqtt import BrokerAddress

CONNECT_TIMEOUT_S: Final = 10.0
READ_BYTES: Final = 262_144
BUFFER_BYTES: Final = 4_194_304  # asked for; the kernel gives what it allows
MAX_MESSAGE_ID: Final = 65_535
# Ids of messages come round again: with fewer in flight none is given out twice at a time.
MAX_IN_FLIGHT: Final = 60_000
MAX_IOV: Final = 1024  # buffers that one sendmsg takes (IOV_MAX of Linux)
FAILED_FROM: Final = 0x80  # reason codes of MQTT 5 from here on are refusals
V5: Final = "5"

_CONNACK, _PUBLISH, _PUBACK, _SUBACK, _DISCONNECT = 0x20, 0x30, 0x40, 0x90, 0xE0
_RECEIVE_MAXIMUM = 0x21
# Of the properties of a CONNACK (section 3.2.2.3), how long each is; the others are texts.
_PROPERTY_BYTES = {
    0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1
}  # fmt: skip
_TEXT_PAIR = 0x26  # a user property: two texts


class Incoming(NamedTuple):
    """One message as received; the id has to be acknowledged where it is not empty."""

    topic: bytes
    payload: bytes
    message_id: bytes  # two bytes; empty at QoS 0


@dataclass(slots=True)
class Batch:
    """What was in the bytes that came together.

    Attributes:
        acknowledged: publications that the broker has taken.
        refused: reason codes of those that it has not.
        messages: publications for us.
        others: type byte and body of all other packets.
    """

    acknowledged: int = 0
    refused: list[int] = field(default_factory=list)
    messages: list[Incoming] = field(default_factory=list)
    others: list[tuple[int, bytes]] = field(default_factory=list)


def text(value: str) -> bytes:
    """A string with its length in two bytes."""
    encoded = value.encode()
    return len(encoded).to_bytes(2, "big") + encoded


def connect_packet(
    client_id: str, *, version: str, username: str = "", password: str = ""
) -> bytes:
    """A CONNECT with a clean start, and without keep alive: whoever measures may be silent."""
    flags = 0x02 | (0x80 if username else 0) | (0x40 if password else 0)
    level = 5 if version == V5 else 4
    properties = b"\x00" if version == V5 else b""
    body = text("MQTT") + bytes([level, flags]) + b"\x00\x00" + properties + text(client_id)
    body += (text(username) if username else b"") + (text(password) if password else b"")
    return b"\x10" + variable_int(len(body)) + body


def subscribe_packet(filters: Sequence[str], *, version: str, message_id: int = 1) -> bytes:
    """A SUBSCRIBE to all of the filters with QoS 1."""
    properties = b"\x00" if version == V5 else b""
    body = message_id.to_bytes(2, "big") + properties
    body += b"".join(text(each) + b"\x01" for each in filters)
    return b"\x82" + variable_int(len(body)) + body


def publish_packet(topic: str, payload: bytes, *, version: str) -> tuple[bytearray, int]:
    """A PUBLISH with QoS 1, and where in it the two bytes of the message id stand."""
    properties = b"\x00" if version == V5 else b""
    named = text(topic)
    head = b"\x32" + variable_int(len(named) + 2 + len(properties) + len(payload)) + named
    return bytearray(b"".join((head, b"\x00\x00", properties, payload))), len(head)


class Parser:
    """Cuts the bytes of a connection into packets, wherever they were cut on their way."""

    def __init__(self, *, version: str) -> None:
        self._has_properties = version == V5
        self._rest = b""

    def feed(self, chunk: bytes) -> Batch:
        """What these bytes complete; an unfinished packet waits for the next ones.

        Raises:
            MqttError: they are no MQTT.
        """
        data = self._rest + chunk if self._rest else chunk
        batch = Batch()
        position, end = 0, len(data)
        while end - position >= 2:
            length, body = data[position + 1], position + 2
            if length >= 0x80:
                length, body = _long_length(data, body)
                if length < 0:
                    break
            stop = body + length
            if stop > end:
                break
            kind = data[position]
            if kind == _PUBACK:
                # two bytes: success, said shortly; else the reason follows the id
                code = data[body + 2] if length > 2 else 0
                if code < FAILED_FROM:
                    batch.acknowledged += 1
                else:
                    batch.refused.append(code)
            elif kind & 0xF0 == _PUBLISH:
                batch.messages.append(self._message(data, kind, body, stop))
            else:
                batch.others.append((kind, data[body:stop]))
            position = stop
        self._rest = data[position:]
        return batch

    def _message(self, data: bytes, kind: int, body: int, stop: int) -> Incoming:
        try:
            return self._cut_message(data, kind, body, stop)
        except IndexError:
            raise MqttError("the MQTT broker sent a message that ends within its header") from None

    def _cut_message(self, data: bytes, kind: int, body: int, stop: int) -> Incoming:
        at = body + 2 + (data[body] << 8 | data[body + 1])
        topic = data[body + 2 : at]
        message_id = b""
        if kind & 0x06:
            message_id = data[at : at + 2]
            at += 2
        if self._has_properties:
            skipped = data[at]
            at += 1
            if skipped >= 0x80:
                skipped, at = _long_length(data, at)
            at += skipped
        if at > stop:
            raise MqttError("the MQTT broker sent a message that ends within its header")
        return Incoming(topic, data[at:stop], message_id)


def _long_length(data: bytes, at: int) -> tuple[int, int]:
    """A length whose first byte, before `at`, says that more follow; -1 where they are missing."""
    length = data[at - 1] & 0x7F
    for shift in (7, 14, 21):
        if at >= len(data):
            return -1, at
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, at
    raise MqttError("the MQTT broker sent a packet whose length takes more than 4 bytes")


class LeanClient:
    """One connection. Not for more than one thread.

    Args:
        address: the broker; "auto" means MQTT 5 here.
        name: begins the client id; the rest is random.
        filters: topics to subscribe to.

    Attributes:
        version: "5" or "3.1.1".
        in_flight: publications without an answer of the broker.
        acknowledged: publications that the broker has taken.
        refused: how many it has not, by reason code.
        sent: publications in all.
        limit: how many may be in flight.
    """

    def __init__(self, address: BrokerAddress, *, name: str, filters: Sequence[str] = ()) -> None:
        self.version = "3.1.1" if address.protocol == "3.1.1" else V5
        self.sent = self.acknowledged = self.in_flight = 0
        self.refused: dict[int, int] = {}
        self.limit = MAX_IN_FLIGHT
        self._address = address
        self._client_id = f"{name}-{uuid.uuid4().hex[:12]}"
        self._filters = tuple(filters)
        self._parser = Parser(version=self.version)
        self._socket: socket.socket | None = None
        self._poll = select.poll()
        self._wanted = select.POLLIN
        self._unsent = b""  # of a packet that the kernel took in part, and what is to follow it
        self._answers = bytearray()  # PUBACKs that go with the next write
        self._message_id = 0
        self._early: list[Incoming] = []  # what came before or with the answer to our SUBSCRIBE

    def connect(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Connect and subscribe; returns once the broker has confirmed both.

        Raises:
            MqttError: nothing listens there, it refuses us, or it is silent.
        """
        where = self._address
        deadline_s = time.monotonic() + timeout_s
        try:
            made = socket.create_connection((where.host, where.port), timeout_s)
        except OSError as error:
            raise MqttError(f"MQTT broker {where}: can't connect: {error}") from error
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            made.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        made.setblocking(False)
        self._socket = made
        self._poll.register(made, select.POLLIN)
        self._unsent = connect_packet(
            self._client_id, version=self.version, username=where.username, password=where.password
        )
        self._take_connack(self._wait_for(_CONNACK, "CONNECT", deadline_s))
        if self._filters:
            self._unsent = subscribe_packet(self._filters, version=self.version)
            codes = self._wait_for(_SUBACK, "SUBSCRIBE", deadline_s)[-len(self._filters) :]
            if bad := [code for code in codes if code >= FAILED_FROM]:
                raise MqttError(f"MQTT broker {where}: it refuses our subscription ({bad[0]:#04x})")

    def close(self) -> None:
        """Say goodbye and close; may be called again."""
        made, self._socket = self._socket, None
        if made is None:
            return
        self._poll.unregister(made)
        with contextlib.suppress(OSError):  # gone, or full: it learns of our end all the same
            made.send(b"\xe0\x00")
        made.close()

    @property
    def is_writable(self) -> bool:
        """Everything handed over so far is with the kernel."""
        return not self._unsent

    def next_message_id(self) -> bytes:
        """The id of the next publication, to be written into its packet."""
        self._message_id = self._message_id % MAX_MESSAGE_ID + 1
        return self._message_id.to_bytes(2, "big")

    def acknowledge(self, message_id: bytes) -> None:
        """Tell the broker, with the next write, that we have a message."""
        self._answers += b"\x40\x02" + message_id

    def write(self, packets: Sequence[bytes | bytearray]) -> None:
        """Send publications, and the acknowledgements that wait, in one system call.

        What the kernel has no room for is copied, so the packets may be changed afterwards. To be
        called with packets only while `is_writable`.

        Raises:
            MqttError: the connection is lost.
        """
        assert self._socket is not None
        self.sent += len(packets)
        self.in_flight += len(packets)
        if self._unsent:
            assert not packets
            packets = (self._unsent,)
        if self._answers:
            # behind what is unsent: that may begin in the middle of a packet
            packets = (*packets, bytes(self._answers))
            self._answers.clear()
        if not packets:
            return
        assert len(packets) <= MAX_IOV
        try:
            taken = self._socket.sendmsg(packets)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            raise self._lost(error) from error
        self._unsent = _rest_of(packets, taken)

    def read(self, timeout_s: float) -> Batch | None:
        """What has come, after waiting for it, or for room to write, at most so long.

        Returns:
            None when nothing came.

        Raises:
            MqttError: the connection is lost.
        """
        if self._early:
            batch, self._early = Batch(messages=self._early), []
            return batch
        chunk = self._receive(timeout_s)
        if chunk is None:
            return None
        batch = self._parser.feed(chunk)
        self.acknowledged += batch.acknowledged
        self.in_flight -= batch.acknowledged + len(batch.refused)
        for code in batch.refused:
            self.refused[code] = self.refused.get(code, 0) + 1
        for kind, body in batch.others:
            if kind == _DISCONNECT:
                raise self._lost(f"it sent DISCONNECT, reason {body[:1].hex() or '00'}")
        return batch

    def _receive(self, timeout_s: float) -> bytes | None:
        assert self._socket is not None
        wanted = select.POLLIN | (select.POLLOUT if self._unsent else 0)
        if wanted != self._wanted:
            self._wanted = wanted
            self._poll.modify(self._socket, wanted)
        events = self._poll.poll(1000 * timeout_s)
        if not events:
            return None
        if events[0][1] & select.POLLOUT:
            self.write(())
        if not events[0][1] & ~select.POLLOUT:
            return None
        try:
            chunk = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._lost(error) from error
        if not chunk:
            raise self._lost("it closed the connection")
        return chunk

    def _lost(self, cause: Any) -> MqttError:
        return MqttError(f"MQTT broker {self._address}: the connection is lost: {cause}")

    def _wait_for(self, kind: int, asked: str, deadline_s: float) -> bytes:
        self.write(())
        early: list[Incoming] = []
        while (left_s := deadline_s - time.monotonic()) > 0:
            batch = self.read(left_s) or Batch()
            early += batch.messages
            found = [body for got, body in batch.others if got == kind]
            if found:
                self._early = early
                return found[0]
        raise MqttError(f"MQTT broker {self._address}: no answer to {asked}; is it an MQTT broker?")

    def _take_connack(self, body: bytes) -> None:
        if len(body) < 2 or body[1]:
            code = body[1:2].hex() or "none"
            raise MqttError(f"MQTT broker {self._address}: it refuses us, reason code {code}")
        if self.version == V5:
            self.limit = min(MAX_IN_FLIGHT, receive_maximum(body[2:]))


def receive_maximum(properties: bytes) -> int:
    """How many unacknowledged publications a broker allows, from its CONNACK (section 3.2.2.3.3).

    Args:
        properties: of the CONNACK, with their length before them.
    """
    at = 1 if properties[:1] < b"\x80" else 2
    while at < len(properties):
        name, at = properties[at], at + 1
        if name == _RECEIVE_MAXIMUM:
            return int.from_bytes(properties[at : at + 2], "big")
        texts = 0 if name in _PROPERTY_BYTES else 2 if name == _TEXT_PAIR else 1
        at += _PROPERTY_BYTES.get(name, 0)
        for _ in range(texts):
            at += 2 + int.from_bytes(properties[at : at + 2], "big")
    return MAX_MESSAGE_ID


def _rest_of(packets: Sequence[bytes | bytearray], taken: int) -> bytes:
    """What of the packets is left after so many bytes."""
    left: list[bytes | bytearray] = []
    for packet in packets:
        if taken >= len(packet):
            taken -= len(packet)
            continue
        left.append(packet[taken:])
        taken = 0
    return b"".join(left)
