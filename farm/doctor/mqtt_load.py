"""What the MQTT broker carries: how fast, how large, and how much it keeps for who is away.

All of it on topics that begin with farm/doctor/ and end at random; nothing is retained, and the
sessions that are made are removed.
"""

from __future__ import annotations

import os
import secrets
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from farm.doctor.finding import Finding, fail, ok, warn
from farm.doctor.probe import PRIVATE, Probe, SilentError, Welcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sized

    from farm.config import BrokerConfig, Config

ROUND_TRIPS: Final = 20
SMALL_S: Final = 5.0  # for a small message there and back
# Nagle's algorithm at the broker and our own delayed acknowledgement make 40 ms.
DELAY_S: Final = 0.030
LARGEST_PROBED: Final = 32_000_000  # bytes; beyond it the network would be what is measured
LARGEST_REAL: Final = 300_000  # bytes of a Trace
FALL_BACK: Final = (1_000_000, LARGEST_REAL, 100_000, 10_000)  # what is tried where more is refused
HEAD_BYTES: Final = 100  # of a PUBLISH on our topics, at most
LARGE_S: Final = 20.0  # for a large message there and back
QUEUED: Final = 2000  # messages: twice what mosquitto keeps by default, ten seconds of a busy site
QUEUED_BYTES: Final = 64  # of each
QUEUE_KEEP_S: Final = 300  # for which the session lives, should we be killed
SENDING_S: Final = 60.0
QUIET_S: Final = 2.0  # of silence, after which nothing more is expected
SYSTEM_S: Final = 1.0  # mosquitto says at once what it is
_VERSION: Final = "$SYS/broker/version"


def examine_load(config: Config, welcome: Welcome) -> Iterator[Finding]:
    """The delay, the size and the queue.

    Raises:
        OSError, RefusedError, SilentError: a connection failed.
    """
    settings = config.mqtt.broker
    with Probe(settings, protocol=welcome.protocol) as probe:
        took_s = probe.connect().took_s
        topic = _topic()
        # at QoS 0 we send nothing in between with which the acknowledgement of TCP could travel
        reasons = probe.subscribe([topic], qos=0)
        if reasons is None or reasons[0].is_failure or _round_trip(probe, topic, b"0") is None:
            yield warn(
                "mqtt.private",
                f"we may not use {topic}: delay, size and queue of the broker can't be looked at",
                f"allow this user to read and write {PRIVATE}#",
            )
            return
        times_s = [_round_trip(probe, topic, str(n).encode()) for n in range(1, ROUND_TRIPS)]
        yield judge_delay([one for one in times_s if one is not None], took_s)
    yield _size(config, welcome)
    yield _queue(settings, welcome.protocol, _software(settings, welcome.protocol))


def _topic() -> str:
    return f"{PRIVATE}{secrets.token_hex(8)}"


def _round_trip(probe: Probe, topic: str, payload: bytes) -> float | None:
    """Seconds until a message came back and was confirmed; None: it was not."""
    wanted = (topic, payload)
    started_s = time.monotonic()
    mid = probe.publish(topic, payload)
    arrived = probe.wait_until(
        lambda: wanted in probe.heard.payloads and probe.verdict(mid, 0) is not None, SMALL_S
    )
    took_s = time.monotonic() - started_s
    probe.heard.payloads.clear()
    return took_s if arrived else None


def judge_delay(times_s: list[float], connect_s: float) -> Finding:
    """Whether small messages wait for company.

    Args:
        times_s: of small messages there and back.
        connect_s: that TCP and CONNECT took, which is some three times the way there and back.
    """
    check = "mqtt.delay"
    if not times_s:
        return warn(check, "small messages did not come back in time", "look at the broker's load")
    median_s = statistics.median(times_s)
    told = f"a small message is there and back, and confirmed, in {median_s * 1000:.1f} ms"
    if median_s > DELAY_S + connect_s:
        return warn(
            check,
            f"{told}, though connecting takes {connect_s * 1000:.0f} ms: packets wait for company",
            "mosquitto: set_tcp_nodelay true",
        )
    return ok(check, told)


def _size(config: Config, welcome: Welcome) -> Finding:
    """Whether a message as large as the farm takes passes."""
    settings, wanted = config.mqtt.broker, min(config.limits.message_bytes, LARGEST_PROBED)
    announced = welcome.told("MaximumPacketSize")
    sizes = [wanted, *(size for size in FALL_BACK if size < wanted)]
    if announced is not None:
        sizes = [size for size in sizes if size + HEAD_BYTES <= announced]
    passed, why = 0, "" if announced is None else f"it announces {announced} bytes"
    for size in sizes:
        refusal = _passes(settings, welcome.protocol, size)
        if not refusal:
            passed = size
            break
        why = why or refusal
    return judge_size(passed, wanted, why)


def _passes(settings: BrokerConfig, protocol: str, size: int) -> str:
    """Send a message of so many bytes there and back; "" or why it did not come."""
    topic = _topic()
    with Probe(settings, protocol=protocol) as probe:
        probe.connect()
        if probe.subscribe([topic]) is None:
            return probe.lost or "no answer to SUBSCRIBE"
        payload = os.urandom(size)
        mid = probe.publish(topic, payload)
        probe.wait_until(lambda: bool(probe.heard.payloads) or _is_refused(probe, mid), LARGE_S)
        if probe.heard.payloads == [(topic, payload)]:
            return ""
        if _is_refused(probe, mid):
            return str(probe.verdict(mid, 0))
        return probe.lost or f"it did not come back in {LARGE_S:g} s"


def _is_refused(probe: Probe, mid: int) -> bool:
    verdict = probe.verdict(mid, 0)
    return verdict is not None and verdict.is_failure


def judge_size(passed: int, wanted: int, why: str) -> Finding:
    """What is to be thought of the largest message that came through.

    Args:
        passed: bytes of it; 0: none did.
        wanted: bytes that the farm takes.
        why: a larger one did not.
    """
    check = "mqtt.message_size"
    if passed >= wanted:
        return ok(check, f"a message of {wanted} bytes comes through")
    told = f"a message of {passed} bytes comes through, one of {wanted} does not ({why})"
    cure = (
        f"let it take {wanted + HEAD_BYTES} (mosquitto: message_size_limit and max_packet_size;"
        " EMQX: mqtt.max_packet_size)"
    )
    if passed < LARGEST_REAL:
        return fail(check, f"{told}, and traces have up to {LARGEST_REAL}", cure)
    return warn(check, told, f"{cure}, or set limits.message_bytes to {passed}")


def _software(settings: BrokerConfig, protocol: str) -> str:
    """What the broker says it is; "" where it does not."""
    with Probe(settings, protocol=protocol) as probe:
        probe.connect()
        if probe.subscribe([_VERSION], with_retained=True) is not None:
            probe.wait_until(lambda: bool(probe.heard.system), SYSTEM_S)
        return probe.heard.system[:60]


def _queue(settings: BrokerConfig, protocol: str, software: str) -> Finding:
    """How many messages the broker keeps for a session that is away."""
    name, topic = secrets.token_hex(8), _topic()
    try:
        with Probe(settings, protocol=protocol, name=name, keep_s=QUEUE_KEEP_S) as probe:
            probe.connect()
            reasons = probe.subscribe([topic])
            if reasons is None or reasons[0].is_failure:
                return warn("mqtt.queue", "no second subscription was granted", "look again")
            probe.leave()
        taken = _send(settings, protocol, topic)
        with Probe(settings, protocol=protocol, name=name, keep_s=QUEUE_KEEP_S) as probe:
            is_known = probe.connect().is_session_present
            came = _collect(probe)
    finally:
        with Probe(settings, protocol=protocol, name=name) as probe:  # a clean start ends it
            probe.connect()
    is_kept = is_known or came > 0  # some brokers keep one and don't say so
    return judge_queue(is_kept=is_kept, taken=taken, came=came, software=software)


def _send(settings: BrokerConfig, protocol: str, topic: str) -> int:
    """Send the messages; returns how many the broker has taken."""
    with Probe(settings, protocol=protocol) as probe:
        probe.connect()
        mids = [
            probe.publish(topic, number.to_bytes(4, "big").ljust(QUEUED_BYTES, b"."))
            for number in range(QUEUED)
        ]
        probe.wait_until(lambda: probe.confirmed >= QUEUED, SENDING_S)
        verdicts = [probe.verdict(mid, 0) for mid in mids]
        if not any(verdicts):
            raise SilentError(probe.lost or "the broker confirms nothing")
        return sum(verdict is not None and not verdict.is_failure for verdict in verdicts)


def _collect(probe: Probe) -> int:
    """How many different messages come; their number stays the same for a while at the end."""
    heard = probe.heard.payloads
    while len(set(heard)) < QUEUED:
        if not probe.wait_until(partial(_is_longer, heard, len(heard)), QUIET_S):
            break
    return len(set(heard))


def _is_longer(heard: Sized, than: int) -> bool:
    return len(heard) > than


def judge_queue(*, is_kept: bool, taken: int, came: int, software: str = "") -> Finding:
    """What is to be thought of what an absent session has got.

    Args:
        is_kept: the broker kept the session.
        taken: messages that the broker has confirmed meanwhile.
        came: different ones of them that it then sent.
        software: what the broker says it is.
    """
    check = "mqtt.queue"
    who = software or "the broker"
    if not is_kept:
        return fail(
            check,
            f"{who} keeps no session: whatever comes while the farm is away is lost",
            "allow persistent sessions at the broker",
        )
    if taken < QUEUED:
        return warn(
            check,
            f"{who} took {taken} of {QUEUED} messages in {SENDING_S:g} s, and kept {came}",
            "look at its limits of rates and its disk; with mosquitto: autosave_on_changes false",
        )
    if came < QUEUED:
        return warn(
            check,
            f"of {QUEUED} messages that came for an absent farm {who} kept {came}, and confirmed"
            " all: the rest would be lost",
            "raise its queue (mosquitto: max_queued_messages 0; EMQX: mqtt.max_mqueue_len)",
        )
    return ok(
        check,
        f"{who} keeps at least {QUEUED} messages for an absent farm; whether it keeps them through"
        " a crash of its own no client can see (etc/mosquitto.conf)",
    )
