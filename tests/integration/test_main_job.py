"""Messages in, answers out, over a real mosquitto and real worker processes."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
from typing import TYPE_CHECKING

import pytest
from rig import (
    DEPTHS,
    ERRORS,
    KEYPOINTS,
    ODD_MODELS,
    Farm,
    Hole,
    Mosquitto,
    Site,
    Tool,
    assert_depths,
    assert_error,
    assert_gone,
    assert_one_answer_each,
    assert_order_kept,
    eventually,
    settings_for,
    settle,
    shuffled,
    tools_of_all_styles,
)

from farm.simulation.gateway import STYLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.integration

MESSAGE_LIMIT_BYTES = 400_000  # the longest simulated trace has 250 kB
ALL_ORDERS = list(itertools.permutations(range(3)))


@pytest.fixture(scope="module")
def shared(has_mosquitto: None) -> Iterator[tuple[Farm, Site]]:
    """One farm for all tests that need no setting of their own; their tools keep them apart."""
    mosquitto = Mosquitto()
    mosquitto.start()
    site = Site(mosquitto.port)
    farm = Farm(
        settings_for(mosquitto.port, limits={"message_bytes": MESSAGE_LIMIT_BYTES}), workers=2
    )
    try:
        farm.start()
        farm.wait_ready()
        yield farm, site
    finally:
        farm.close()
        site.close()
        mosquitto.close()


# ---- pairing -------------------------------------------------------------------------------------


def test_every_order_of_the_messages_of_every_gateway_gives_one_answer(
    shared: tuple[Farm, Site],
) -> None:
    # prevents: a pairing that works only when Result comes first, or for one gateway's spelling
    farm, site = shared
    holes = []
    for tool in tools_of_all_styles():
        for order in ALL_ORDERS:
            hole = tool.drill()
            site.send(*(hole.parts[i] for i in order if i < len(hole.parts)))
            holes.append(hole)
    site.wait_answered(holes)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    for hole in holes:
        assert_depths(site, hole)


def test_interleaved_tools_and_random_duplicates_change_nothing(
    shared: tuple[Farm, Site],
) -> None:
    # prevents: holes of several tools paired crosswise, and a resend answered twice
    farm, site = shared
    rng = random.Random(5)
    tools = tools_of_all_styles(per_style=2)
    holes, rounds = [], 10
    for _ in range(rounds):
        drilled = [tool.drill() for tool in tools]
        holes += drilled
        parts = [part for hole in drilled for part in shuffled(hole.parts, rng)]
        repeated = [part for part in parts if rng.random() < 0.4]
        site.send(*parts)
        site.send(*shuffled(repeated, rng))
    site.wait_answered(holes)
    settle(site, farm)
    assert_one_answer_each(site, holes)


def test_two_holes_of_one_tool_in_one_window_never_cross(shared: tuple[Farm, Site]) -> None:
    # prevents: Result of hole n joined with Trace of hole n+1, seen in the former system
    farm, site = shared
    tool = Tool("2025-03", program="V8")
    first = tool.drill()
    tool.program = "AL"
    second = tool.drill()
    alone = [Tool("2025-03", program=program).drill() for program in ("V8", "AL")]
    result_1, trace_1, heads_1 = first.parts
    result_2, trace_2, heads_2 = second.parts
    site.send(trace_2, result_1, heads_2, trace_1, result_2, heads_1)
    for hole in alone:
        site.send_hole(hole)
    site.wait_answered([first, second, *alone])
    settle(site, farm)
    assert_one_answer_each(site, [first, second])
    values = [site.answers()[hole.key][KEYPOINTS][0].body["Value"] for hole in alone]
    assert values[0] != values[1]
    for hole, value in zip([first, second], values, strict=True):
        assert_depths(site, hole)
        assert site.answers()[hole.key][KEYPOINTS][0].body["Value"] == value


def test_answers_of_a_tool_come_in_the_order_of_its_holes(shared: tuple[Farm, Site]) -> None:
    # prevents: a quick hole overtaking a slow one of the same tool on another worker
    farm, site = shared
    rng = random.Random(11)
    tools = [Tool("2025-03", program="MQL"), Tool("2025-03"), Tool("2025-06")]
    small = [Tool("2025-03", toolbox=tools[0].toolbox)]
    holes: list[Hole] = []
    for _ in range(15):
        for tool in tools + small:
            hole = tool.drill()
            holes.append(hole)
            site.send(*shuffled(hole.parts, rng))
    site.wait_answered(holes)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    assert_order_kept(site, holes)


def test_order_is_kept_while_a_tool_without_heads_is_found_out(
    shared: tuple[Farm, Site],
) -> None:
    # prevents: a hole overtaking the one before it, which still waits for Heads that never come
    farm, site = shared
    tool, other = Tool("2024-12"), Tool("2025-03")
    seen = other.drill()  # this site has gateways that send Heads
    site.send_hole(seen)
    site.wait_answered([seen])
    holes = []
    for number in range(12):
        hole = tool.drill()
        holes.append(hole)
        site.send_hole(hole)
        target = len(holes) - 8
        if number >= 8:
            site.wait_answered(holes[:target])  # paces the holes by the farm's own answers
    site.wait_answered(holes)
    settle(site, farm)
    assert_order_kept(site, holes)


def test_a_hole_whose_heads_was_lost_is_answered_before_the_next_one(
    shared: tuple[Farm, Site],
) -> None:
    # prevents: hole n+1, complete with Heads, answered before hole n that still waits for its own
    farm, site = shared
    tool = Tool("2025-03")
    known, without, after = tool.drill(), tool.drill(), tool.drill()
    site.send_hole(known)
    site.wait_answered([known])
    site.send(without.part("result"), without.part("trace"))
    site.send_hole(after)
    site.wait_answered([without, after])
    settle(site, farm)
    assert_one_answer_each(site, [known, without, after])
    assert_order_kept(site, [known, without, after])


def test_result_ids_that_start_anew_are_new_holes(shared: tuple[Farm, Site]) -> None:
    # prevents: the hole after a change of head taken for a repeat of one with the same id
    farm, site = shared
    tool = Tool("2025-03")
    first = tool.drill(result_id="1")
    site.send_hole(first)
    site.wait_answered([first])
    # the same id with other content, later than duplicate_time_window
    eventually(lambda: farm.stats()["up_s"] > 0, 5, "stats")
    later_s = farm.stats()["up_s"] + 1.3
    eventually(lambda: farm.stats()["up_s"] > later_s, 5, "duplicate_time_window is over")
    again = tool.drill(result_id="1")
    site.send_hole(again)
    eventually(
        lambda: len(site.answers()[first.key][KEYPOINTS]) == 2, 10, "the second hole is answered"
    )
    settle(site, farm)
    assert [len(m) for m in site.answers()[first.key].values()] == [2, 2]


# ---- broken messages -----------------------------------------------------------------------------


def _cut(payload: bytes) -> bytes:
    return payload[: len(payload) * 2 // 3]


def _with_nan(payload: bytes) -> bytes:
    return re.sub(
        rb'(PositionTrace\.StepTraceContent\[0\]\.Values"[^\[]*\[)[^,]*,', rb"\1NaN,", payload
    )


def _with_text(payload: bytes) -> bytes:
    return re.sub(
        rb'(IntensityTorqueTrace\.StepTraceContent\[0\]\.Values"[^\[]*\[)[^,]*,',
        rb'\1"x",',
        payload,
    )


def _one_sample_less(payload: bytes) -> bytes:
    return re.sub(
        rb'(PositionTrace\.StepTraceContent\[0\]\.Values"[^\[]*\[)[^,]*,', rb"\1", payload
    )


def _too_large(payload: bytes) -> bytes:
    return payload[:-1] + b" " * MESSAGE_LIMIT_BYTES + payload[-1:]


def _without_trace_values(payload: bytes) -> bytes:
    return payload.replace(b"PositionTrace.StepTraceContent", b"PositionTrace.Gone")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_cut, "Trace"),
        (_with_nan, "Trace"),
        (_with_text, "torque"),
        (_one_sample_less, "length"),
        (_without_trace_values, "position"),
    ],
)
def test_a_broken_trace_is_answered_with_its_cause_and_disturbs_no_other(
    shared: tuple[Farm, Site], change: Callable[[bytes], bytes], words: str
) -> None:
    # prevents: silence about a hole that can't be read, or a crash that takes others with it
    farm, site = shared
    tool = Tool("2025-03")
    before, whole, after = tool.drill(), tool.drill(), tool.drill()
    broken = whole.changed("trace", change)
    assert broken.part("trace").payload != whole.part("trace").payload
    for hole in (before, broken, after):
        site.send_hole(hole)
    site.wait_answered([before, broken, after])
    settle(site, farm)
    assert_one_answer_each(site, [before, broken, after])
    assert_error(site, broken, words)
    assert_depths(site, before)
    assert_depths(site, after)
    assert_order_kept(site, [before, broken, after])
    assert site.answers()[broken.key][KEYPOINTS][0].body["MachineId"] == broken.machine_id
    assert not site.heard(ERRORS, tool.source)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("result", b"\x00\xff\xfe garbage"),
        ("result", b""),
        ("result", b"[]"),
        ("trace", b'{"MessageType": "ua-data"}'),
        ("trace", b"[" * 50_000),
        ("trace", b"{" * 1000),
        ("result", b'{"a": "\xed\xa0\x80"}'),
        ("trace", b" " * (MESSAGE_LIMIT_BYTES + 1)),
    ],
)
def test_what_names_no_hole_gives_one_message_on_the_errors_topic(
    shared: tuple[Farm, Site], kind: str, payload: bytes
) -> None:
    # prevents: garbage that is dropped without a word, or that stops the intake
    farm, site = shared
    tool = Tool("2025-03")
    before, after = tool.drill(), tool.drill()
    site.send_hole(before)
    site.publish(before.part(kind).topic, payload)
    site.send_hole(after)
    site.wait_answered([before, after])
    settle(site, farm)
    assert_one_answer_each(site, [before, after])
    assert_depths(site, after)
    [error] = site.heard(ERRORS, tool.source)
    assert error.body["Error"] is True
    assert error.body["Kind"] == kind
    assert error.body["ResultId"] is None
    assert error.body["Value"]


def test_a_message_over_the_limit_gives_an_error_and_nothing_else(
    shared: tuple[Farm, Site],
) -> None:
    # prevents: one giant message that exhausts memory or blocks its tool
    farm, site = shared
    tool = Tool("2025-03")
    hole, after = tool.drill(), tool.drill()
    broken = hole.changed("trace", _too_large)
    site.send(broken.part("trace"))
    site.send_hole(after)
    site.wait_answered([after])
    settle(site, farm)
    [error] = site.heard(ERRORS, tool.source)
    assert str(MESSAGE_LIMIT_BYTES) in error.body["Value"]
    assert_depths(site, after)


@pytest.mark.parametrize("bad_id", ["a/b", "+", "#", "", "x" * 200, "a\\u0000b", "Grüße 7"])
def test_odd_result_ids_never_reach_a_topic_or_stop_the_outbox(
    shared: tuple[Farm, Site], bad_id: str
) -> None:
    # prevents: one unpublishable answer that wedges paho's outbound queue for ever
    farm, site = shared
    tool = Tool("2025-06")  # ids are strings there
    hole, after = tool.drill(result_id=bad_id), tool.drill()
    site.send_hole(hole)
    site.send_hole(after)
    site.wait_answered([after])
    settle(site, farm)
    assert_depths(site, after)
    told = site.heard(source=tool.source)
    about_it = [one for one in told if one.body["ResultId"] != after.result_id]
    assert about_it, "an odd id is answered or refused with a message"


def test_a_single_step_hole_gets_the_sentence_consumers_know(shared: tuple[Farm, Site]) -> None:
    # prevents: a model error, or silence, where scalars stand in the place of lists
    farm, site = shared
    holes = [Tool(style).drill(single_step=True) for style in STYLES]
    for hole in holes:
        site.send_hole(hole)
    site.wait_answered(holes)
    settle(site, farm)
    assert_one_answer_each(site, holes)
    for hole in holes:
        assert assert_error(site, hole) == "Not enough steps to estimate depth"


def test_the_site_stays_healthy_after_all_that(shared: tuple[Farm, Site]) -> None:
    # prevents: counts that drift apart, which would make `unanswered` a lie
    farm, site = shared
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    settle(site, farm)
    shot = farm.stats()
    assert shot["state"] == "HEALTHY", shot["problems"]
    assert shot["jobs"]["unanswered"] == 0
    assert shot["jobs"]["active"] == shot["jobs"]["pending"] == 0
    assert shot["buffers"]["payload_bytes"] >= 0
    ends = sum(shot["holes"][end] for end in ("published", "insufficient", "skipped", "dead"))
    assert shot["holes"]["arrived"] == ends
    assert not farm.events("process_ended")


# ---- settings of their own -----------------------------------------------------------------------


def test_an_unpaired_message_gives_one_error_answer_after_the_time_window(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: holes that vanish because one message was lost on the way
    farm = start_farm(mosquitto.port, mqtt={"listener": {"time_window": 1.0}})
    tool = Tool("2025-03")
    only_result, only_trace, whole = tool.drill(), tool.drill(), tool.drill()
    site.send(only_result.part("result"), only_result.part("heads"))
    site.send(only_trace.part("trace"))
    site.send_hole(whole)
    lonely = Tool("2025-03")
    site.send(lonely.drill().part("heads"))  # Heads alone is no hole
    site.wait_answered([only_result, only_trace, whole])
    settle(site, farm)
    assert_one_answer_each(site, [only_result, only_trace, whole])
    assert_error(site, only_result, "trace", "1 s")
    assert_error(site, only_trace, "result", "1 s")
    assert_depths(site, whole)
    assert not site.heard(source=lonely.source)
    # the partner that comes after the answer is not dropped without a word
    site.send(only_result.part("trace"))
    [late] = eventually(lambda: site.heard(ERRORS, tool.source), 10, "the late one is told")
    assert late.body["Kind"] == "trace"
    assert only_result.result_id in late.body["Value"]
    settle(site, farm)
    assert_one_answer_each(site, [only_result, only_trace, whole])


def test_toolbox_and_tool_filters_really_filter(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: settings that are read and ignored: one farm answering another's tools
    mine, other_tool, other_box = Tool(), Tool(), Tool()
    other_tool.toolbox = mine.toolbox
    other_box.name = mine.name
    listener = {"toolboxid": mine.toolbox, "toolid": mine.name}
    farm = start_farm(mosquitto.port, workers=1, mqtt={"listener": listener})
    wanted = mine.drill()
    for hole in (other_tool.drill(), other_box.drill(), wanted):
        site.send_hole(hole)
    site.wait_answered([wanted])
    settle(site, farm)
    assert_depths(site, wanted)
    assert {one.source for one in site.heard(KEYPOINTS) + site.heard(ERRORS)} == {mine.source}
    assert farm.stats()["counts"]["parts"] == 3


def test_the_error_policy_publishes_each_duplicate_on_the_errors_topic(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a policy that the operator chose and that does nothing
    farm = start_farm(mosquitto.port, workers=1, mqtt={"listener": {"duplicate_handling": "error"}})
    hole = Tool().drill()
    result, trace, heads = hole.parts
    site.send(result, result, trace, heads, trace)
    site.wait_answered([hole])
    eventually(lambda: len(site.heard(ERRORS, hole.source)) == 2, 10, "both repeats are told")
    settle(site, farm)
    errors = site.heard(ERRORS, hole.source)
    assert [one.body["Kind"] for one in errors] == ["result", "trace"]
    assert all(hole.result_id in one.body["Value"] for one in errors)
    assert_one_answer_each(site, [hole])
    assert_depths(site, hole)


def test_negative_depths_are_kept_back_under_skip_and_counted(
    mosquitto: Mosquitto, site: Site, start_farm: Callable[..., Farm]
) -> None:
    # prevents: a hole without a visible end when the operator chose silence
    farm = start_farm(
        mosquitto.port,
        workers=1,
        model="odd_models:NegativeDepths",
        environment=ODD_MODELS,
        mqtt={"depth_validation": {"negative_depth_behavior": "skip", "sequential_threshold": 2}},
    )
    tool = Tool()
    for _ in range(3):
        site.send_hole(tool.drill())
    eventually(lambda: farm.stats()["holes"]["skipped"] == 3, 10, lambda: str(farm.stats()))
    settle(site, farm)
    assert not site.heard(KEYPOINTS)
    assert farm.stats()["counts"]["alerts"] == 1


def test_a_status_topic_tells_online_offline_and_the_last_will(
    mosquitto: Mosquitto,
    site: Site,
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
) -> None:
    # prevents: consumers that wait for answers of a farm that is gone
    def state_of(one: Site) -> str | None:
        told = one.statuses(instance)
        return json.loads(told[-1].payload)["state"] if told else None

    farm = start_farm(mosquitto.port, workers=1, instance="status-test")
    instance = "status-test"
    eventually(lambda: state_of(site) == "online", 5, "online is told")
    late = make_site(mosquitto.port)
    eventually(lambda: state_of(late) == "online", 5, "who comes later hears it too: retained")
    assert late.statuses(instance)[-1].retained
    farm.signal(signal.SIGKILL)
    farm.wait()
    assert_gone(farm.mark)
    eventually(lambda: state_of(site) == "offline", 5, "the last will tells of the kill -9")
    again = start_farm(mosquitto.port, workers=1, instance="status-test")
    eventually(lambda: state_of(site) == "online", 5, "online again")
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
    eventually(lambda: state_of(site) == "offline", 5, "a stop in good order tells it as well")
    newest = make_site(mosquitto.port)
    eventually(lambda: state_of(newest) == "offline", 5, "offline is retained")


# ---- kinds of MQTT brokers -----------------------------------------------------------------------


def test_a_user_and_password_open_a_closed_mosquitto(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    password_file: str,
) -> None:
    # prevents: credentials that are configured and never sent
    login = ("driller", "s3cret")
    mosquitto = make_mosquitto(extra=password_file, login=login)
    site = make_site(mosquitto.port, login=login)
    farm = start_farm(
        mosquitto.port, workers=1, mqtt={"broker": {"username": login[0], "password": login[1]}}
    )
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    assert_depths(site, hole)
    assert login[1] not in farm.log
    assert login[1] not in json.dumps(farm.stats())


def test_a_wrong_password_is_told_in_stats_and_log(
    make_mosquitto: Callable[..., Mosquitto],
    start_farm: Callable[..., Farm],
    password_file: str,
) -> None:
    # prevents: "connection lost" where the cause is a wrong password
    mosquitto = make_mosquitto(extra=password_file, login=("driller", "s3cret"))
    farm = start_farm(
        mosquitto.port,
        workers=1,
        wait=False,
        mqtt={"broker": {"username": "driller", "password": "wr0ng"}},
    )
    eventually(farm.worker_pids, 20, "the worker is READY")
    for _ in range(5):  # the reason must stay, not flicker between attempts
        shot = eventually(farm.stats, 5, "stats")
        assert shot["mqtt"]["state"] == "disconnected"
        assert "authori" in shot["mqtt"]["reason"].lower(), shot["mqtt"]
    lost = eventually(lambda: farm.events("mqtt_disconnected"), 5, "a log line")
    assert "authori" in lost[0]["reason"].lower()
    assert "wr0ng" not in farm.log


def test_a_publication_that_mosquitto_refuses_is_counted_and_not_taken_for_success(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    # prevents: a missing access right that looks like a published answer
    rules = tmp_path_factory.mktemp("acl") / "acl"
    rules.write_text(f"topic readwrite #\ntopic deny OPCPUBSUB/DENIED/UNIT/{DEPTHS}\n")
    mosquitto = make_mosquitto(extra=f"allow_anonymous true\nacl_file {rules}")
    site = make_site(mosquitto.port)
    farm = start_farm(mosquitto.port, workers=1)
    tool, other = Tool(toolbox="DENIED"), Tool()
    tool.name = "UNIT"
    hole, after = tool.drill(), other.drill()
    site.send_hole(hole)
    site.send_hole(after)
    site.wait_answered([after])
    settle(site, farm)
    assert farm.stats()["counts"]["refused_publications"] == 1
    assert farm.stats()["holes"]["dead"] == 1
    assert farm.events("answer_refused")[0]["source"] == hole.source


def test_tls_with_a_ca_of_our_own(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    certificates: dict[str, str],
    unused_port: int,
) -> None:
    # prevents: TLS settings that are accepted and not used
    mosquitto = make_mosquitto(extra=_tls_listener(certificates, unused_port))
    site = make_site(mosquitto.port)
    tls = {"enabled": True, "ca_file": certificates["ca"]}
    start_farm(unused_port, workers=1, mqtt={"broker": {"tls": tls}})
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    assert_depths(site, hole)


def test_a_certificate_of_a_stranger_is_refused_with_the_reason(
    make_mosquitto: Callable[..., Mosquitto],
    start_farm: Callable[..., Farm],
    certificates: dict[str, str],
    unused_port: int,
) -> None:
    # prevents: encryption without authentication, and a reason that nobody can act on
    make_mosquitto(extra=_tls_listener(certificates, unused_port))
    tls = {"enabled": True, "ca_file": certificates["other_ca"]}
    farm = start_farm(unused_port, workers=1, wait=False, mqtt={"broker": {"tls": tls}})
    eventually(lambda: farm.events("mqtt_disconnected"), 20, "the failure is logged")
    shot = eventually(farm.stats, 5, "stats")
    assert shot["mqtt"]["state"] == "disconnected"
    assert "certificate" in shot["mqtt"]["reason"].lower()


def test_an_mqtt_broker_that_asks_for_a_certificate_gets_ours(
    make_mosquitto: Callable[..., Mosquitto],
    make_site: Callable[..., Site],
    start_farm: Callable[..., Farm],
    certificates: dict[str, str],
    unused_port: int,
) -> None:
    # prevents: a client certificate that is configured and never shown
    listener = f"{_tls_listener(certificates, unused_port)}\nrequire_certificate true"
    mosquitto = make_mosquitto(extra=f"{listener}\nuse_identity_as_username true")
    site = make_site(mosquitto.port)
    tls = {"enabled": True, "ca_file": certificates["ca"]}
    ours = {"cert_file": certificates["client_cert"], "key_file": certificates["client_key"]}
    start_farm(unused_port, workers=1, mqtt={"broker": {"tls": tls | ours}})
    assert "u'farm-7'" in mosquitto.log  # by the name in it we are known
    hole = Tool().drill()
    site.send_hole(hole)
    site.wait_answered([hole])
    without = start_farm(unused_port, workers=1, wait=False, mqtt={"broker": {"tls": tls}})
    eventually(lambda: without.events("mqtt_disconnected"), 20, "the failure is logged")
    assert without.stats()["mqtt"]["state"] == "disconnected"


def test_a_broker_of_mqtt_3_1_1_alone_gets_the_fallback(
    make_site: Callable[..., Site], start_farm: Callable[..., Farm]
) -> None:
    # prevents: a farm that never connects to an older broker, or only after its keepalive
    pytest.importorskip("amqtt")
    import paho.mqtt.client as paho  # noqa: PLC0415 - for its constant

    from farm.simulation.mqttd import EmbeddedBroker, Engine  # noqa: PLC0415 - needs amqtt

    with EmbeddedBroker(Engine.AMQTT) as broker:
        site = make_site(broker.port, protocol=paho.MQTTv311)
        farm = start_farm(broker.port, workers=1)
        hole = Tool().drill()
        site.send_hole(hole)
        site.wait_answered([hole])
        assert_depths(site, hole)
        assert farm.stats()["mqtt"]["protocol"] == "3.1.1"
        farm.signal(signal.SIGTERM)
        assert farm.wait() == 0


def _tls_listener(certificates: dict[str, str], port: int) -> str:
    return (
        f"allow_anonymous true\nlistener {port} 127.0.0.1\ncafile {certificates['ca']}\n"
        f"certfile {certificates['cert']}\nkeyfile {certificates['key']}"
    )
