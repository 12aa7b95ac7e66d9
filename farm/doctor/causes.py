"""Why an MQTT broker can't be reached, or won't have us: from an error to a sentence and a cure."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from farm.doctor.finding import Finding, fail

if TYPE_CHECKING:
    from farm.config import BrokerConfig
    from farm.doctor.probe import RefusedError

CHECK: Final = "mqtt.connection"
_TIMEOUT_S: Final = 3.0
# MQTT 3.1.1 CONNECT, clean session, keep alive 10 s; whoever speaks MQTT answers it.
_CONNECT: Final = b"\x10\x18\x00\x04MQTT\x04\x02\x00\x0a\x00\x0cfarm-doctor0"
_CONNACK: Final = 0x20
_TLS_ALERT: Final = 0x15

_UNREACHABLE: Final = {
    errno.EHOSTUNREACH: "no way leads there",
    errno.ENETUNREACH: "no way leads to its network",
    errno.ECONNRESET: "it cut the connection",
}

# Reason codes of MQTT 5.0, 3.2.2.2, and return codes of 3.1.1, which paho words as those of 5.
_REFUSALS: Final = {
    0x84: ("it does not speak this version of MQTT", "set mqtt.broker.protocol to auto"),
    0x85: ("it does not like our client id", "allow client ids that begin with farm-"),
    0x86: (
        "user name or password is wrong",
        "correct mqtt.broker.username and password (or their files)",
    ),
    0x87: (
        "we are not allowed to connect",
        "give mqtt.broker.username and password, or allow this user at the broker",
    ),
    0x88: ("it is not ready to serve", "look at the broker's own log"),
    0x89: ("it is busy", "look at the broker's load, then try again"),
    0x8A: ("we are banned", "lift the ban at the broker"),
    0x97: ("a quota is used up", "raise the broker's limit of connections"),
    0x9F: ("connections come too fast for it", "raise the broker's limit of the rate"),
}

_CERTIFICATES: Final = {  # how OpenSSL's verdicts begin
    "Hostname mismatch": "name the broker in mqtt.broker.host as its certificate does",
    "IP address mismatch": "name the broker in mqtt.broker.host as its certificate does",
    "certificate has expired": "renew the broker's certificate, or set this machine's clock",
    "certificate is not yet valid": "set this machine's clock",
}


def of_refusal(settings: BrokerConfig, refusal: RefusedError) -> Finding:
    """The broker answered CONNECT with a reason."""
    said, cure = _REFUSALS.get(
        refusal.code, ("it refuses us", "look for this reason in the broker's log")
    )
    if refusal.code == 0x87 and (settings.username or settings.username_file):
        # mosquitto's word for a wrong password, too
        cure = _REFUSALS[0x86][1] + ", or allow this user at the broker"
    return fail(CHECK, f"{_place(settings)}: {said} ({refusal})", cure)


def of_error(settings: BrokerConfig, error: OSError) -> Finding:
    """No connection came about."""
    place = _place(settings)
    if isinstance(error, ssl.SSLError) or (
        settings.tls.enabled and isinstance(error, ConnectionResetError)
    ):
        return _of_tls(settings, error)
    if isinstance(error, socket.gaierror):
        return fail(
            CHECK,
            f"there is no host {settings.host} ({error.strerror})",
            "correct mqtt.broker.host, or the name server of this machine",
        )
    if isinstance(error, ConnectionRefusedError):
        return fail(
            CHECK,
            f"nobody listens at {place}",
            "start the MQTT broker, or correct mqtt.broker.host and port; mosquitto listens on"
            " loopback alone unless it is told otherwise",
        )
    if isinstance(error, TimeoutError):
        return fail(
            CHECK,
            f"{place} does not answer",
            "correct mqtt.broker.host, see that the machine is up, and that no firewall is between",
        )
    why = _UNREACHABLE.get(error.errno or 0, error.strerror or str(error))
    return fail(CHECK, f"{place} can't be reached: {why}", "see `ip route`, cables and firewalls")


def of_silence(settings: BrokerConfig, said: str) -> Finding:
    """A connection came about, and no answer to CONNECT: finds out who is there."""
    place = _place(settings)
    if settings.tls.enabled:
        return fail(CHECK, f"{place} speaks TLS and no MQTT: {said}", "correct mqtt.broker.port")
    first = _first_words(settings)
    if first[:1] == bytes([_TLS_ALERT]):
        return fail(
            CHECK, f"{place} speaks TLS", "set mqtt.broker.tls.enabled to true, or correct the port"
        )
    if first[:1] == bytes([_CONNACK]):
        return fail(
            CHECK,
            f"{place} speaks MQTT, but gave us no answer: {said}",
            "set mqtt.broker.protocol to 3.1.1; look at the broker's log",
        )
    if words := "".join(c for c in first[:40].decode("ascii", "replace") if c.isprintable()):
        return fail(CHECK, f"{place} speaks no MQTT: it says {words!r}", "correct mqtt.broker.port")
    return fail(
        CHECK,
        f"{place} accepts connections and speaks no MQTT: {said}",
        "correct mqtt.broker.port; if it wants TLS, set mqtt.broker.tls.enabled to true",
    )


def _of_tls(settings: BrokerConfig, error: OSError) -> Finding:
    place = _place(settings)
    if isinstance(error, ssl.SSLCertVerificationError):
        told = error.verify_message
        cures = (cure for begin, cure in _CERTIFICATES.items() if told.startswith(begin))
        return fail(
            CHECK,
            f"{place}: its certificate is not trusted: {told}",
            next(cures, "name the certificate of its authority in mqtt.broker.tls.ca_file"),
        )
    if _first_words(settings)[:1] == bytes([_CONNACK]):
        return fail(
            CHECK,
            f"{place} speaks MQTT without TLS",
            "correct mqtt.broker.port (8883 as a rule), or set mqtt.broker.tls.enabled to false",
        )
    why = getattr(error, "reason", None) or error.strerror or error
    return fail(
        CHECK,
        f"{place}: TLS fails: {why}",
        "correct mqtt.broker.port; the broker may also want a certificate of ours"
        " (mqtt.broker.tls.cert_file and key_file)",
    )


def _first_words(settings: BrokerConfig) -> bytes:
    """What a server says to a plain MQTT CONNECT, or by itself; b"" for nothing."""
    with (
        suppress(OSError),
        socket.create_connection((settings.host, settings.port), _TIMEOUT_S) as probe,
    ):
        probe.settimeout(_TIMEOUT_S)
        probe.sendall(_CONNECT)
        return probe.recv(64)
    return b""


def _place(settings: BrokerConfig) -> str:
    return f"{settings.host}:{settings.port}"
