"""The MQTT broker: whether it is reached, lets us in, and can do what a farm needs of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from farm.adapter import load_adapter
from farm.config.listening import is_loopback
from farm.doctor import causes
from farm.doctor.finding import Finding, fail, ok, warn
from farm.doctor.mqtt_load import examine_load
from farm.doctor.mqtt_rights import examine_rights
from farm.doctor.probe import Probe, RefusedError, SilentError, Welcome
from farm.errors import ConfigError, MqttError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.adapter import Adapter
    from farm.config import BrokerConfig
    from farm.doctor.patient import Patient

EXPIRES_SOON_DAYS: Final = 21
_DAY_S: Final = 86_400
_UNSUPPORTED: Final = (0x84, 0x01)  # MQTT 5, and how a 3.1.1 broker says it


def examine(patient: Patient) -> Iterator[Finding]:
    """See the module."""
    settings = patient.config.mqtt.broker
    yield from _way(settings)
    try:
        welcome, ends_s = _arrive(settings)
    except _NotReachedError as error:
        yield error.finding
        return
    yield ok(
        causes.CHECK,
        f"{settings.host}:{settings.port} lets us in with MQTT {welcome.protocol}"
        f" after {welcome.took_s * 1000:.0f} ms",
    )
    if ends_s is not None:
        yield judge_certificate(ends_s - time.time())
    adapter = _adapter(patient)
    yield from _announced(welcome, settings, adapter.topic_filters() if adapter else ())
    try:
        if adapter is not None:
            yield from examine_rights(patient, welcome.protocol, adapter)
        yield from examine_load(patient.config, welcome)
    except (OSError, RefusedError, SilentError) as error:
        yield warn(
            "mqtt.stability",
            f"a later connection failed: {error}",
            "look at the broker's log and its limits of connections, then look again",
        )


class _NotReachedError(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.said)
        self.finding = finding


def _arrive(settings: BrokerConfig) -> tuple[Welcome, float | None]:
    """The broker's welcome, and when its certificate ends; tries the versions as a farm does."""
    versions = ("5", "3.1.1") if settings.protocol == "auto" else (settings.protocol,)
    first: Finding | None = None
    for version in versions:
        try:
            asks_for = settings.session_expiry_s if version == "5" else 0
            with Probe(settings, protocol=version, keep_s=asks_for) as probe:
                return probe.connect(), probe.certificate_ends_s()
        except RefusedError as error:
            first = first or causes.of_refusal(settings, error)
            if error.code not in _UNSUPPORTED:
                break
        except SilentError as error:
            first = first or causes.of_silence(settings, str(error))
        except OSError as error:
            raise _NotReachedError(first or causes.of_error(settings, error)) from error
        except (ConfigError, MqttError) as error:
            cure = "correct the file that it names"
            raise _NotReachedError(fail(causes.CHECK, str(error), cure)) from error
    assert first is not None
    raise _NotReachedError(first)


def _adapter(patient: Patient) -> Adapter | None:
    """The adapter, which knows the topics; None where it can't be loaded, as is told elsewhere."""
    try:
        return load_adapter(patient.config)
    # it may be the user's own: the examination of the model says what is wrong with it
    except Exception:  # noqa: BLE001
        return None


def _way(settings: BrokerConfig) -> Iterator[Finding]:
    """Who can listen in on the way, or pretend to be the broker."""
    check = "mqtt.secrecy"
    if settings.tls.enabled and settings.tls.insecure:
        yield warn(
            check,
            "mqtt.broker.tls.insecure is set: any host with a trusted certificate can play the"
            " broker",
            "set it to false, and name the broker as its certificate does",
        )
    elif settings.tls.enabled:
        yield ok(check, "the connection is encrypted, and the broker must show its certificate")
    elif is_loopback(settings.host):
        yield ok(check, "not encrypted, and it does not leave this machine")
    else:
        what = "holes and the password go" if _has_login(settings) else "holes go"
        yield warn(
            check,
            f"{what} over the network as they are",
            "set mqtt.broker.tls.enabled and the broker's TLS port, unless the network is yours"
            " alone",
        )


def _has_login(settings: BrokerConfig) -> bool:
    return bool(settings.username or settings.username_file)


def judge_certificate(left_s: float) -> Finding:
    """How long the broker's certificate is still good."""
    check = "mqtt.certificate"
    days = left_s / _DAY_S
    if days < EXPIRES_SOON_DAYS:
        return warn(
            check,
            f"the broker's certificate ends in {days:.0f} days: nobody gets in any more then",
            "renew it",
        )
    return ok(check, f"the broker's certificate is good for {days:.0f} days more")


def _announced(
    welcome: Welcome, settings: BrokerConfig, filters: tuple[str, ...]
) -> Iterator[Finding]:
    """What the broker says in its CONNACK (MQTT 5.0, 3.2.2.3) that a farm can't do with."""
    check = "mqtt.abilities"
    if welcome.protocol != "5":
        yield warn(
            check,
            "MQTT 3.1.1: the broker tells neither its limits nor why it refuses an answer",
            "use a broker with MQTT 5 (mosquitto 2), and mqtt.broker.protocol: auto",
        )
        return
    lacks = list(_lacks(welcome, settings, filters))
    yield from lacks
    if lacks:
        return
    packet = welcome.told("MaximumPacketSize")
    inflight = welcome.told("ReceiveMaximum")
    keepalive = welcome.told("ServerKeepAlive")
    told = [
        f"sessions kept for {settings.session_expiry_s} s",
        "packets of any size" if packet is None else f"packets of up to {packet} bytes",
        f"{inflight or 65_535} answers under way at once",
        "retained messages",
    ]
    if keepalive is not None:
        told.append(f"a sign of life every {keepalive} s")
    yield ok(check, "it announces " + ", ".join(told))


def _lacks(welcome: Welcome, settings: BrokerConfig, filters: tuple[str, ...]) -> Iterator[Finding]:
    granted_s = welcome.told("SessionExpiryInterval")
    if granted_s is not None and granted_s < settings.session_expiry_s:
        judged = warn if granted_s else fail
        yield judged(
            "mqtt.session",
            f"it keeps our session for {granted_s} s, not for mqtt.broker.session_expiry_s"
            f" ({settings.session_expiry_s}): what comes in a longer outage is lost",
            "raise the broker's limit (EMQX: session_expiry_interval; mosquitto:"
            " persistent_client_expiration)",
        )
    if welcome.told("MaximumQoS") == 0:
        yield fail(
            "mqtt.qos",
            "it has QoS 0 only: messages are lost whenever a connection ends",
            "use a broker, or a plan of it, with QoS 1",
        )
    if welcome.told("WildcardSubscriptionAvailable") == 0 and any(
        "+" in one or "#" in one for one in filters
    ):
        yield fail(
            "mqtt.wildcards",
            "it has no wildcards, and the farm subscribes with some",
            "allow them at the broker",
        )
    if welcome.told("RetainAvailable") == 0:
        yield fail(
            "mqtt.retained",
            "it keeps no retained messages, and closes the connection over the farm's status",
            "allow them at the broker (mosquitto: retain_available true)",
        )
