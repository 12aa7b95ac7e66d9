"""`farm doctor` against real MQTT brokers: healthy ones, and each kind of bad one."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import eventually, run_farm, settings_for, short_directory

from farm.config import Config, Loaded
from farm.doctor import mqtt
from farm.doctor.finding import Finding, Verdict
from farm.doctor.patient import Patient
from farm.doctor.probe import PRIVATE, Probe
from farm.doors.keyring import Keyring
from farm.simulation.mqtt import BrokerAddress, MqttLink
from farm.simulation.mqttd import EmbeddedBroker, Engine
from farm.simulation.ports import free_port, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rig import Farm, Mosquitto, Site

pytestmark = pytest.mark.integration
OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL
DYNAMIC_SECURITY = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)


@pytest.fixture
def short_home() -> Iterator[Path]:
    """A directory with a path short enough for sockets."""
    made = short_directory()
    yield made
    shutil.rmtree(made, ignore_errors=True)


def patient(port: int, **above: Any) -> Patient:
    config = Config.model_validate(settings_for(port, **above))
    return Patient(Loaded(config, {}, ()), Path("/nowhere"), None)


def found_by_mqtt(who: Patient) -> dict[str, Finding]:
    """The findings about MQTT; each that is not ok must have a cure."""
    findings = list(mqtt.examine(who))
    assert all(one.cure for one in findings if one.verdict is not OK)
    return {one.check: one for one in findings}


@contextmanager
def server(says: bytes) -> Iterator[int]:
    """A TCP server that says something to whoever connects, whatever they say."""
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:  # the test is over
                    return
                held.append(connection)
                connection.sendall(says)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in held:
                connection.close()


# ---- brokers that are as they should be ----------------------------------------------------------


def test_a_mosquitto_as_shipped_is_well(make_mosquitto: Callable[..., Mosquitto]) -> None:
    # prevents: a doctor that cries at what our own etc/mosquitto.conf sets up
    found = found_by_mqtt(patient(make_mosquitto(shipped=True).port))
    delay = found.pop("mqtt.delay")  # a busy machine is slow, and no fault of the broker's
    assert {one.check: one.said for one in found.values() if one.verdict is not OK} == {}
    assert set(found) == {
        *("mqtt.secrecy", "mqtt.connection", "mqtt.abilities", "mqtt.subscribing"),
        *("mqtt.publishing", "mqtt.message_size", "mqtt.queue"),
    }
    assert delay.said


def test_nobody_hears_of_it_and_nothing_stays(
    make_mosquitto: Callable[..., Mosquitto], monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: consumers that get a probe for an answer, and sessions that fill up for ever after
    mosquitto = make_mosquitto(durable=False)
    names: list[str] = []

    def remembered(count: int) -> str:
        names.append(os.urandom(count).hex())
        return names[-1]

    monkeypatch.setattr(secrets, "token_hex", remembered)
    heard: list[str] = []
    everything = MqttLink(
        BrokerAddress("127.0.0.1", mosquitto.port),
        name="everything",
        filters=("#",),
        on_message=lambda topic, _: heard.append(topic),
    )
    everything.connect()
    try:
        found = found_by_mqtt(patient(mosquitto.port))
        assert found["mqtt.publishing"].verdict is OK, found["mqtt.publishing"]
        everything.publish("the/end", b"")
        eventually(lambda: "the/end" in heard, 10, "the last message")
    finally:
        everything.close()
    topics = set(heard)
    assert any(topic.startswith(PRIVATE) for topic in topics)  # it could hear
    assert {topic for topic in topics if not topic.startswith(PRIVATE)} == {"the/end"}

    late: list[str] = []
    newcomer = MqttLink(
        BrokerAddress("127.0.0.1", mosquitto.port),
        name="newcomer",
        filters=("#",),
        on_message=lambda topic, _: late.append(topic),
    )
    newcomer.connect()
    try:
        newcomer.publish("the/end", b"")
        eventually(lambda: "the/end" in late, 10, "the last message")
    finally:
        newcomer.close()
    assert late == ["the/end"]  # nothing is retained
    settings = patient(mosquitto.port).config.mqtt.broker
    assert len(names) > 5
    for name in names:
        with Probe(settings, protocol="5", name=name, keep_s=60) as probe:
            assert not probe.connect().is_session_present, name


def test_a_broker_of_3_1_1_is_looked_at_as_far_as_it_goes() -> None:
    # prevents: a doctor that knows MQTT 5 only
    pytest.importorskip("amqtt")
    with EmbeddedBroker(Engine.AMQTT) as broker:
        found = found_by_mqtt(patient(broker.port))
    assert found["mqtt.connection"].verdict is OK, found
    assert "3.1.1" in found["mqtt.connection"].said
    assert found["mqtt.abilities"].verdict is WARN
    assert found["mqtt.publishing"].verdict is WARN
    assert found["mqtt.subscribing"].verdict is OK


# ---- brokers that are not ------------------------------------------------------------------------


def test_a_wrong_password_is_named(
    make_mosquitto: Callable[..., Mosquitto], password_file: str
) -> None:
    # prevents: "connection failed", and a search in firewalls for a typing mistake
    port = make_mosquitto(extra=password_file, durable=False, login=("driller", "s3cret")).port
    login = {"username": "driller", "password": "wrong"}
    found = found_by_mqtt(patient(port, mqtt={"broker": login}))["mqtt.connection"]
    assert found.verdict is FAIL
    assert "password" in found.cure
    found = found_by_mqtt(patient(port, mqtt={"broker": {}}))["mqtt.connection"]
    assert found.verdict is FAIL
    assert "give mqtt.broker.username and password" in found.cure


def test_topics_that_an_access_list_forbids_are_named(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    # prevents: a farm that computes for weeks and may publish none of it
    rules = tmp_path / "acl"
    rules.write_text(
        "topic readwrite farm/#\n"
        "topic write OPCPUBSUB/+/+/ResultManagement.Results.0.ResultContent.DepthEstimation."
        "KeyPoints\n"
    )
    rules.chmod(0o700)
    port = make_mosquitto(durable=False, extra=f"allow_anonymous true\nacl_file {rules}").port
    found = found_by_mqtt(patient(port))["mqtt.publishing"]
    assert found.verdict is FAIL
    assert "DepthEstimation.DepthEstimation (Not authorized)" in found.said
    assert "DepthEstimation.Errors (Not authorized)" in found.said
    assert "KeyPoints" not in found.said
    assert "status" not in found.said


def test_without_topics_of_its_own_it_says_what_it_could_not_do(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    # prevents: "ok" for what was never looked at
    rules = tmp_path / "acl"
    rules.write_text("topic readwrite OPCPUBSUB/#\n")
    rules.chmod(0o700)
    port = make_mosquitto(durable=False, extra=f"allow_anonymous true\nacl_file {rules}").port
    found = found_by_mqtt(patient(port))
    assert found["mqtt.private"].verdict is WARN
    assert found["mqtt.publishing"].verdict is WARN
    assert "farm/doctor/#" in found["mqtt.private"].cure
    assert "mqtt.queue" not in found


@pytest.mark.skipif(DYNAMIC_SECURITY is None, reason="mosquitto has no dynamic security here")
def test_subscriptions_that_are_refused_are_named(
    make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    # prevents: a farm that waits for holes that it may not see
    rules = tmp_path / "rules.json"
    subprocess.run(
        ["mosquitto_ctrl", "dynsec", "init", str(rules), "driller", "s3cret"],
        check=True,
        capture_output=True,
    )
    told = json.loads(rules.read_text())  # its one role may subscribe to everything
    for rule in told["roles"][0]["acls"]:
        if (rule["acltype"], rule["topic"]) == ("subscribePattern", "#"):
            rule["topic"] = "farm/#"
    rules.write_text(json.dumps(told))
    extra = f"plugin {DYNAMIC_SECURITY}\nplugin_opt_config_file {rules}"
    port = make_mosquitto(extra=extra, durable=False, login=("driller", "s3cret")).port
    login = {"username": "driller", "password": "s3cret"}
    found = found_by_mqtt(patient(port, mqtt={"broker": login}))
    assert found["mqtt.subscribing"].verdict is FAIL
    assert "OPCPUBSUB/+/+/ResultManagement/Trace (Not authorized)" in found["mqtt.subscribing"].said
    assert "farm/" not in found["mqtt.subscribing"].said


@pytest.mark.parametrize(
    ("line", "verdict", "passed"),
    [
        ("message_size_limit 500000", WARN, 300_000),
        ("max_packet_size 150000", FAIL, 100_000),
    ],
)
def test_a_limit_of_the_size_is_found(
    make_mosquitto: Callable[..., Mosquitto], line: str, verdict: Verdict, passed: int
) -> None:
    # prevents: long traces that vanish while short ones come
    port = make_mosquitto(durable=False, extra=f"allow_anonymous true\n{line}").port
    found = found_by_mqtt(patient(port))["mqtt.message_size"]
    assert found.verdict is verdict
    assert f"a message of {passed} bytes comes through" in found.said


def test_a_short_queue_is_found(make_mosquitto: Callable[..., Mosquitto]) -> None:
    # prevents: a night's outage of which a thousand messages are left
    extra = "allow_anonymous true\nmax_queued_messages 100\nmax_inflight_messages 20"
    port = make_mosquitto(extra=extra, durable=False).port
    found = found_by_mqtt(patient(port))["mqtt.queue"]
    assert found.verdict is WARN
    assert "max_queued_messages 0" in found.cure


@pytest.mark.parametrize(
    ("says", "word"), [(b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0"), (b"", "speaks no MQTT")]
)
def test_what_is_no_mqtt_broker_is_called_so(says: bytes, word: str) -> None:
    # prevents: a wrong port that looks like a broken broker, and a doctor that waits for ever
    with server(says) as port:
        found = found_by_mqtt(patient(port, mqtt={"broker": {"protocol": "5"}}))
    assert found["mqtt.connection"].verdict is FAIL
    assert word in found["mqtt.connection"].said
    assert "mqtt.broker.port" in found["mqtt.connection"].cure


def test_nobody_there_and_no_such_host_are_told_apart(unused_port: int) -> None:
    # prevents: one sentence for two very different mistakes
    found = found_by_mqtt(patient(unused_port))["mqtt.connection"]
    assert found.verdict is FAIL
    assert "nobody listens" in found.said
    nowhere = {"broker": {"host": "no-such-host.invalid"}}
    found = found_by_mqtt(patient(unused_port, mqtt=nowhere))["mqtt.connection"]
    assert found.verdict is FAIL
    assert "no-such-host.invalid" in found.said
    assert "nobody listens" not in found.said


def test_each_mistake_with_tls_has_its_own_cure(
    make_mosquitto: Callable[..., Mosquitto], certificates: dict[str, str], short_home: Path
) -> None:
    # prevents: certificates switched off because nobody knew what was wrong with them
    for name in ("cert", "key"):  # where any user of mosquitto's can read them
        shutil.copy(certificates[name], short_home / name)
    port = free_port()
    files = f"certfile {short_home}/cert\nkeyfile {short_home}/key"
    extra = f"allow_anonymous true\nlistener {port} 127.0.0.1\n{files}"
    plain = make_mosquitto(extra=extra, durable=False).port  # and the one with TLS beside it

    def judged(port: int, **tls: Any) -> Finding:
        return found_by_mqtt(patient(port, mqtt={"broker": {"tls": tls}}))["mqtt.connection"]

    assert judged(port, enabled=True, ca_file=certificates["ca"]).verdict is OK
    stranger = judged(port, enabled=True, ca_file=certificates["other_ca"])
    assert stranger.verdict is FAIL
    assert "ca_file" in stranger.cure
    unencrypted = judged(plain, enabled=True, ca_file=certificates["ca"])
    assert "without TLS" in unencrypted.said
    wants_tls = judged(port)
    assert wants_tls.verdict is FAIL
    assert "tls.enabled to true" in wants_tls.cure


# ---- beside a farm -------------------------------------------------------------------------------


def test_it_works_beside_a_farm_that_runs(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    short_home: Path,
) -> None:
    # prevents: a doctor that evicts, feeds or locks out its patient
    mosquitto = make_mosquitto(durable=False)
    site = make_site(mosquitto.port)
    state_dir = short_home / "s"
    Keyring(state_dir).add("line-7")
    door = free_ports(3)
    attach = {"listen": f"127.0.0.1:{door}"}
    farm = start_farm(mosquitto.port, state_dir=state_dir, attach=attach)
    before = farm.stats()
    ended = run_farm(
        *("doctor", "--config", farm.config_file, "--state-dir", farm.state_dir),
        *("--workers", 2, "--json"),
        timeout_s=100,
    )
    told = json.loads(ended.stdout)
    found = {one["check"]: one for one in told["findings"]}
    failed = [one for one in told["findings"] if one["verdict"] == "fail"]
    assert not failed
    assert ended.returncode == 0
    assert f"pid {farm.pid}" in found["state.lock"]["said"]
    assert "held by the farm" in found[f"doors.port_{door}"]["said"]
    assert told["counts"]["ok"] == sum(one["verdict"] == "ok" for one in told["findings"])
    after = farm.stats()
    assert farm.is_ready(2)
    assert after["mqtt"]["reconnects"] == before["mqtt"]["reconnects"]
    assert after["counts"] == before["counts"]
    assert not site.answers()


def test_a_failure_is_an_exit_code_and_a_line(unused_port: int, tmp_path: Path) -> None:
    # prevents: a deployment that goes on although the doctor said no
    config = tmp_path / "farm.yaml"
    config.write_text(f"mqtt: {{broker: {{host: 127.0.0.1, port: {unused_port}}}}}\n")
    arguments = ("doctor", "--config", config, "--state-dir", tmp_path / "s", "--only", "mqtt")
    ended = run_farm(*arguments)
    assert ended.returncode == 1
    assert "nobody listens" in ended.stdout
    assert "1 fail" in ended.stdout
    config.write_text("mqtt: {brokr: {}}\n")
    ended = run_farm(*arguments, "--json")
    assert ended.returncode == 1
    [finding] = json.loads(ended.stdout)["findings"]
    assert "brokr" in finding["said"]
