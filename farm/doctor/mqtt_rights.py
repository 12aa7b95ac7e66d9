"""Our rights on topics: those that the farm listens to, and those that it publishes to.

The right to publish is found out without publishing anything: the broker judges the first half of a
message at QoS 2 (its PUBREC has a reason code in MQTT 5), and the second half, with which it would
go to subscribers, is never sent. A broker may also hand it on with the first half (MQTT 5.0, 4.3.3
leaves that open), so one on a topic of our own comes first: where it arrives, no other is sent.
"""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING, Final

from farm.adapter import Finished, Status
from farm.broker.tenancy import Tenancy
from farm.doctor.finding import Finding, fail, ok, warn
from farm.doctor.probe import PRIVATE, Probe
from farm.state_dir import CLIENT_ID_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.adapter import Adapter
    from farm.config import BrokerConfig
    from farm.doctor.patient import Patient

LISTEN_S: Final = 1.0  # a site with holes to tell sends some in it
LEVEL: Final = "farm-doctor"  # in place of a wildcard
_MARKER: Final = b"marker"
_MARKER_S: Final = 3.0


def examine_rights(patient: Patient, protocol: str, adapter: Adapter) -> Iterator[Finding]:
    """The rights to subscribe, then those to publish.

    Raises:
        OSError, RefusedError, SilentError: a connection failed.
    """
    settings = patient.config.mqtt.broker
    marks = Tenancy(_client_id(patient)).topic
    yield from _subscribing(settings, protocol, adapter.topic_filters(), marks)
    topics = own_topics(patient)
    try:
        topics += answer_topics(adapter)
    # an adapter of the user's may raise anything, and the other topics are to be seen
    except Exception as error:  # noqa: BLE001
        yield warn(
            "mqtt.answers",
            f"the adapter can't word an answer to try ({type(error).__name__}: {error}): the right "
            "to publish answers was not looked at",
            "have its answerer answer a hole that failed, as it must in any case",
        )
    yield from _publishing(settings, protocol, (*dict.fromkeys(topics), marks))


def _client_id(patient: Patient) -> str:
    """The farm's, where it has one already."""
    if configured := patient.config.mqtt.broker.client_id:
        return configured
    try:
        return (patient.state_dir / CLIENT_ID_NAME).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return LEVEL


def _subscribing(
    settings: BrokerConfig, protocol: str, filters: tuple[str, ...], marks: str
) -> Iterator[Finding]:
    check = "mqtt.subscribing"
    wanted = (*filters, marks)
    with Probe(settings, protocol=protocol) as probe:
        probe.connect()
        reasons = probe.subscribe(wanted)
        if reasons is None:
            yield fail(
                check,
                f"no answer to SUBSCRIBE: {probe.lost or 'silence'}",
                "look at the broker's log",
            )
            return
        refused = [(f, r) for f, r in zip(wanted, reasons, strict=False) if r.is_failure]
        lowered = [f for f, r in zip(filters, reasons, strict=False) if r.value == 0]
        if refused:
            # without its marks it only does not notice another farm of the same client id
            judged = warn if [name for name, _ in refused] == [marks] else fail
            yield judged(
                check,
                f"we may not subscribe to {len(refused)} of {len(wanted)} topics:"
                + "".join(f"\n{name} ({reason})" for name, reason in refused),
                "allow this user to read them in the broker's access list",
            )
        if lowered:
            yield fail(
                check,
                "granted at QoS 0 only, so that messages are lost with each connection: "
                + ", ".join(lowered),
                "allow QoS 1 at the broker",
            )
        if refused or lowered:
            return
        probe.wait_until(lambda: False, LISTEN_S)
        came = sum(probe.heard.topics.values())
    told = f"all {len(wanted)} subscriptions are granted"
    if came:
        yield ok(check, f"{told}, and {came} messages came in {LISTEN_S:g} s")
    else:
        yield ok(
            check,
            f"{told}; nothing came in {LISTEN_S:g} s, so whether it delivers is open (mosquitto's"
            " acl_file grants every subscription, and delivers what is allowed)",
        )


def _publishing(
    settings: BrokerConfig, protocol: str, topics: tuple[str, ...]
) -> Iterator[Finding]:
    check = "mqtt.publishing"
    if protocol != "5":
        yield warn(
            check,
            "with MQTT 3.1.1 a broker does not say whether we may publish",
            "let the farm answer a hole, and see that the answer comes: `farm replay samples`",
        )
        return
    if not _holds_back(settings, protocol):
        yield warn(
            check,
            "whether we may publish answers can't be told without publishing one: this broker"
            f" hands on what is not finished, or we may not use {PRIVATE}#",
            f"allow this user {PRIVATE}#; then let the farm answer a hole: `farm replay samples`",
        )
        return
    refused = list(_refused(settings, protocol, topics))
    if refused:
        yield fail(
            check,
            f"we may not publish to {len(refused)} of {len(topics)} kinds of topic:"
            + "".join(f"\n{topic} ({reason})" for topic, reason in refused),
            f"allow this user to write them in the broker's access list ({LEVEL} stands for any"
            " toolbox and tool)",
        )
        return
    yield ok(check, f"all {len(topics)} kinds of topic are granted (nothing was published)")


def _holds_back(settings: BrokerConfig, protocol: str) -> bool:
    """Whether the broker gives a message at QoS 2 to nobody before its second half."""
    topic = f"{PRIVATE}{secrets.token_hex(8)}"
    with Probe(settings, protocol=protocol) as probe:
        probe.connect()
        reasons = probe.subscribe([topic], qos=2)
        if reasons is None or reasons[0].is_failure:
            return False
        verdict = probe.verdict(probe.hold(topic))
        if verdict is None or verdict.is_failure:
            return False
        probe.publish_unconfirmed(topic, _MARKER)  # what was handed on before it comes before it
        probe.wait_until(lambda: (topic, _MARKER) in probe.heard.payloads, _MARKER_S)
        return probe.heard.payloads == [(topic, _MARKER)]


def _refused(
    settings: BrokerConfig, protocol: str, topics: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """The topics to which we may not publish, and why."""
    left = list(topics)
    while left:
        with Probe(settings, protocol=protocol) as probe:
            probe.connect()
            # some brokers close the connection with a refusal, some take few messages at once
            while left and not probe.lost and probe.has_room:
                topic = left.pop(0)
                verdict = probe.verdict(probe.hold(topic))
                if verdict is None:
                    yield topic, probe.lost or "no answer"
                elif verdict.is_failure:
                    yield topic, str(verdict)


def own_topics(patient: Patient) -> list[str]:
    """The topics on which the farm speaks of itself."""
    config = patient.config
    instance = config.instance or socket.gethostname()
    topics = [f"farm/{instance}/status"]
    if config.dead_letters.publish:
        topics += [f"farm/{instance}/dead", f"farm/{instance}/dead/count"]
    return topics


def answer_topics(adapter: Adapter) -> list[str]:
    """Those of an answer and of a rejection, as the answerer words them, with `LEVEL` for any."""
    for topic_filter in adapter.topic_filters():
        levels = (LEVEL if level in ("+", "#") else level for level in topic_filter.split("/"))
        route = adapter.route("/".join(levels))
        if route is None:
            continue
        answerer = adapter.answerer()
        finished = Finished(route.source, "0", Status.FAILED, None, "none", {}, "", "")
        sent = (*answerer.answer(finished, 0.0).publications, *answerer.reject(route, "none"))
        return [publication.topic for publication in sent]
    return []
