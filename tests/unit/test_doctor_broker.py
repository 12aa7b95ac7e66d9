"""The doctor's verdicts on MQTT brokers that need no broker: what it announces, figures, rights."""

from pathlib import Path
from typing import ClassVar

import pytest

from farm.config import Config, Loaded
from farm.doctor import mqtt, mqtt_load, mqtt_rights
from farm.doctor.finding import Verdict
from farm.doctor.patient import Patient
from farm.doctor.probe import Heard, Welcome

OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def patient(**settings):
    config = Config.model_validate(settings)
    return Patient(Loaded(config, {}, ()), Path("/nowhere"), None)


class Told:
    """Properties of a CONNACK."""

    def __init__(self, **told):
        self.__dict__.update(told)


@pytest.mark.parametrize(
    ("told", "check", "verdict"),
    [
        ({}, "mqtt.abilities", OK),
        ({"SessionExpiryInterval": 3600}, "mqtt.session", WARN),
        ({"SessionExpiryInterval": 0}, "mqtt.session", FAIL),
        ({"MaximumQoS": 0}, "mqtt.qos", FAIL),
        ({"WildcardSubscriptionAvailable": 0}, "mqtt.wildcards", FAIL),
        ({"RetainAvailable": 0}, "mqtt.retained", FAIL),
    ],
)
def test_what_a_broker_announces(told, check, verdict):
    # prevents: limits that the broker tells and nobody listens to
    welcome = Welcome("5", 0.01, False, Told(**told))
    settings = patient().config.mqtt.broker
    found = mqtt._announced(welcome, settings, ("a/+",))
    assert {one.check: one.verdict for one in found} == {check: verdict}


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        (mqtt_load.judge_delay([0.044] * 5, 0.002), WARN),
        (mqtt_load.judge_delay([0.044] * 5, 0.120), OK),  # far away
        (mqtt_load.judge_delay([0.001] * 4 + [0.5], 0.002), OK),
        (mqtt_load.judge_delay([], 0.002), WARN),
        (mqtt_load.judge_size(4_000_000, 4_000_000, ""), OK),
        (mqtt_load.judge_size(1_000_000, 4_000_000, "too large"), WARN),
        (mqtt_load.judge_size(100_000, 4_000_000, "too large"), FAIL),
        (mqtt_load.judge_queue(is_kept=False, taken=2000, came=0), FAIL),
        (mqtt_load.judge_queue(is_kept=True, taken=2000, came=1020), WARN),
        (mqtt_load.judge_queue(is_kept=True, taken=900, came=900), WARN),
        (mqtt_load.judge_queue(is_kept=True, taken=2000, came=2000), OK),
        (mqtt.judge_certificate(3 * 86_400), WARN),
        (mqtt.judge_certificate(300 * 86_400), OK),
    ],
)
def test_figures_of_a_broker(finding, verdict):
    # prevents: verdicts the wrong way round
    assert finding.verdict is verdict
    assert bool(finding.cure) == (verdict is not OK)


def test_what_leaves_the_machine_unencrypted():
    # prevents: passwords in clear over a plant's network
    def judged(**broker):
        [finding] = mqtt._way(patient(mqtt={"broker": broker}).config.mqtt.broker)
        return finding

    assert judged(host="localhost").verdict is OK
    assert judged(host="127.0.0.9").verdict is OK
    assert judged(host="plant").verdict is WARN
    assert "password" in judged(host="plant", username="driller").said
    assert judged(host="plant", tls={"enabled": True}).verdict is OK
    assert judged(host="plant", tls={"enabled": True, "insecure": True}).verdict is WARN


class HastyProbe:
    """A broker that hands on a message at QoS 2 with its first half, as the standard lets it."""

    held: ClassVar[list[str]] = []

    def __init__(self, *_args, **_options):
        self.heard = Heard()
        self.lost = ""
        self.has_room = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def connect(self):
        pass

    def subscribe(self, _filters, **_options):
        return [Told(is_failure=False)]

    def hold(self, topic):
        self.held.append(topic)
        self.heard.payloads.append((topic, b""))
        return 1

    def verdict(self, _mid):
        return Told(is_failure=False)

    def publish_unconfirmed(self, topic, payload):
        self.heard.payloads.append((topic, payload))

    def wait_until(self, condition, _timeout_s):
        return condition()


def test_no_right_is_probed_where_consumers_would_hear_of_it(monkeypatch):
    # prevents: an answer without a hole at a consumer, from a broker that does not wait
    monkeypatch.setattr(mqtt_rights, "Probe", HastyProbe)
    monkeypatch.setattr(HastyProbe, "held", [])
    [finding] = mqtt_rights._publishing(patient().config.mqtt.broker, "5", ("an/answer",))
    assert finding.verdict is WARN
    assert HastyProbe.held
    assert all(topic.startswith("farm/doctor/") for topic in HastyProbe.held)


def test_output_topics_are_those_of_the_adapter():
    # prevents: rights that are looked at for topics which nobody publishes to
    who = patient(
        instance="here",
        mqtt={"listener": {"toolboxid": "BOX"}, "estimation": {"keypoints": "K", "errors": "E"}},
    )
    adapter = mqtt._adapter(who)
    own = {"farm/here/status", "farm/here/dead", "farm/here/dead/count"}
    assert set(mqtt_rights.own_topics(who)) == own
    answers = set(mqtt_rights.answer_topics(adapter))
    assert {"OPCPUBSUB/BOX/farm-doctor/K", "OPCPUBSUB/BOX/farm-doctor/E"} <= answers


def test_an_adapter_that_can_not_word_an_answer_is_told_of(monkeypatch):
    # prevents: topics that are left out of the examination without a word
    looked: list[tuple[str, ...]] = []
    monkeypatch.setattr(mqtt_rights, "_subscribing", lambda *_: iter(()))
    monkeypatch.setattr(
        mqtt_rights, "_publishing", lambda _s, _p, topics: looked.append(topics) or iter(())
    )
    who = patient(instance="here")
    adapter = mqtt._adapter(who)

    def fail():
        raise RuntimeError("broken")

    monkeypatch.setattr(adapter, "answerer", fail)
    [finding] = mqtt_rights.examine_rights(who, "5", adapter)
    assert finding.verdict is WARN
    assert "broken" in finding.said
    [topics] = looked
    assert "farm/here/status" in topics
