"""The plan of faults, what is wrong with the messages, the poison: all made from a seed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from farm.config import Config
from farm.drilling.adapter import OpcUaAdapter
from farm.errors import ConfigError, ReadError
from farm.simulation.chaos.faults import (
    DURATIONS_S,
    SHARES,
    WEIGHTS,
    Fault,
    Struck,
    choose,
    plan,
)
from farm.simulation.chaos.history import Fate
from farm.simulation.chaos.poison import EXIT_CODE, Poison, poisoned
from farm.simulation.chaos.traffic import Twister
from farm.simulation.drilled import Recipe, drill
from farm.simulation.gateway import STYLES
from farm.simulation.restamp import HoleTemplate
from farm.simulation.units import simulated_fleet

ALL = frozenset(Fault)


# ---- when what strikes --------------------------------------------------------------------------


def test_every_fault_is_either_struck_or_a_share_of_the_holes():
    # prevents: a new fault that is announced and never happens
    assert WEIGHTS.keys() | SHARES.keys() == ALL
    assert not WEIGHTS.keys() & SHARES.keys()


def test_equal_seeds_give_equal_plans_at_the_wanted_rate():
    first, again = (plan(ALL, rate_hz=2, duration_s=1000, rng=Random("s")) for _ in range(2))
    assert first == again
    assert len(first) == pytest.approx(2000, rel=0.1)
    assert [s.at_s for s in first] == sorted(s.at_s for s in first)
    assert {s.fault for s in first} == set(WEIGHTS)
    for strike in first:
        least_s, most_s = DURATIONS_S.get(strike.fault, (0.0, 0.0))
        assert least_s <= strike.lasts_s <= most_s
        assert 0 <= strike.pick < 1
    counts = Counter(s.fault for s in first)
    assert counts[Fault.WORKER_KILL] > 4 * counts[Fault.FARM_KILL]


def test_without_a_fault_of_processes_or_a_rate_nothing_strikes():
    assert plan({Fault.POISON}, rate_hz=1, duration_s=100, rng=Random(1)) == []
    assert plan(ALL, rate_hz=0, duration_s=100, rng=Random(1)) == []


def test_faults_are_chosen_by_name():
    assert choose(["poison", "link-cut"], []) == {Fault.POISON, Fault.LINK_CUT}
    assert choose(["poison", "link-cut"], ["poison"]) == {Fault.LINK_CUT}
    assert choose([], []) == ALL - {Fault.MOSQUITTO_KILL}
    assert choose([], [], is_durable=True) == ALL


@pytest.mark.parametrize(
    ("only", "without", "words"),
    [
        (["worker-murder"], [], "choose from worker-kill"),
        ([], ["nobody"], "no fault 'nobody'"),
        (["poison"], ["poison"], "no fault is left"),
        # prevents: a run that finds holes lost which mosquitto itself has lost
        (["mosquitto-kill"], [], "--durable-mqtt"),
    ],
)
def test_what_can_not_be_is_refused_with_the_cure(only, without, words):
    with pytest.raises(ConfigError, match=words):
        choose(only, without)


def test_a_fault_is_felt_beyond_its_end():
    assert Struck(Fault.BROKER_KILL, 10.0, 1.0, "").felt_until_s > 11.0
    assert Struck(Fault.LINK_CUT, 10.0, 0.0, "").felt_until_s > 10.0


# ---- messages -----------------------------------------------------------------------------------


def fleet():
    benches = [[HoleTemplate(drill(Recipe("V6-V7", style), seed=1).messages)] for style in STYLES]
    return simulated_fleet(benches, tools=6)


def twisted(faults, count, seed="t"):
    twister, source = Twister(faults, Random(seed)), fleet()
    return [twister.twist(source.next_hole()) for _ in range(count)]


@pytest.fixture
def adapter():
    return OpcUaAdapter(Config())


def told(adapter, planned):
    """The kinds of part that the farm can attribute to the hole, the bytes, and what it refuses."""
    parts, refused = {}, []
    for posting in planned.postings:
        route = adapter.route(posting.message.topic)
        assert route is not None
        assert route.source == planned.hole.source == posting.message.source
        try:
            part_id = adapter.part_id(route.kind, posting.payload)
        except ReadError:
            refused.append(posting.message)
            continue
        assert part_id == planned.hole.result_id
        parts.setdefault(route.kind, posting.payload)
    return parts, refused


def test_the_fate_of_each_hole_is_what_the_farm_must_make_of_it(adapter):
    # prevents: a check that calls a farm wrong for ending a hole as it deserves, or the reverse
    seen = Counter()
    for planned in twisted(ALL, 4000):
        parts, refused = told(adapter, planned)
        seen[planned.hole.fate] += 1
        assert refused == [p.message for p in planned.postings if p.message.is_rejected]
        if planned.hole.fate in (Fate.UNPAIRED, Fate.UNATTRIBUTABLE):
            assert len(parts.keys() & {"result", "trace"}) == 1
        elif planned.hole.fate is Fate.UNREADABLE:
            with pytest.raises(ReadError):
                adapter.read(parts)
        else:
            rate_hz = adapter.read(parts).sample_rate_hz
            is_poison = rate_hz in Poison.__members__.values()
            assert is_poison == (planned.hole.fate is Fate.POISON)
    assert set(seen) == set(Fate)


def test_shares_are_kept_and_each_twist_happens(adapter):
    count = 6000
    found = twisted(ALL, count)
    twists = Counter(twist for planned in found for twist in planned.hole.twists)
    twists[Fault.STRAY] = sum(bool(planned.strays) for planned in found)
    for fault, share in SHARES.items():
        assert twists[fault] == pytest.approx(share * count, rel=0.6), fault


def test_strays_belong_to_no_hole_and_no_two_are_alike(adapter):
    strays = [m for planned in twisted({Fault.STRAY}, 4000) for m in planned.strays]
    assert len(strays) > 5
    assert all(stray.is_rejected for stray in strays)
    assert len({(stray.crc, stray.length) for stray in strays}) == len(strays)


def test_leaving_out_a_fault_leaves_the_others_as_they_were():
    # prevents: a fault hunted with --without that disappears since everything else changed, too
    every = twisted(ALL, 500)
    some = twisted(ALL - {Fault.POISON, Fault.SKEW}, 500)
    for a, b in zip(every, some, strict=True):
        assert b.hole.twists == a.hole.twists - {Fault.POISON, Fault.SKEW} or (
            a.hole.fate is Fate.POISON
        )


def test_without_faults_of_messages_every_hole_is_good_and_whole():
    for planned in twisted({Fault.WORKER_KILL}, 50):
        assert planned.hole.fate is Fate.SOUND
        assert not planned.hole.twists
        assert not planned.strays
        assert all(p.message.is_needed for p in planned.postings)
        assert max(p.due_s for p in planned.postings) < 0.1


def test_repeats_are_the_same_bytes_and_are_not_needed():
    for planned in twisted({Fault.DUPLICATE, Fault.LATE_DUPLICATE}, 500):
        needed = {p.payload: p for p in planned.postings if p.message.is_needed}
        for posting in planned.postings:
            if not posting.message.is_needed:
                first = needed[posting.payload]
                assert posting.message.topic == first.message.topic
                assert posting.due_s >= first.due_s


def test_a_hole_is_acknowledged_when_all_its_parts_are():
    [planned] = twisted({Fault.WORKER_KILL}, 1)
    *most, last = planned.hole.messages
    for message in most:
        message.acknowledged_s = message.sent_s = 1.0
    assert not planned.hole.is_acknowledged
    last.acknowledged_s, last.sent_s = 3.0, 2.0
    assert planned.hole.is_acknowledged
    assert planned.hole.complete_s == 2.0


# ---- the poison ---------------------------------------------------------------------------------

TAKE = """
import sys
from farm.config import Config
from farm.drilling.adapter import OpcUaAdapter
from farm.simulation.chaos.poison import Poison, PoisonModel, poisoned
from farm.simulation.drilled import Recipe, drill
messages = drill(Recipe("V6-V7", "2025-06"), seed=1).messages
model, adapter = PoisonModel({}), OpcUaAdapter(Config())
read = lambda trace: adapter.read({"result": messages.result, "trace": trace})
assert "keypoints_mm" in model.infer([read(messages.trace)])[0]
print("sound", flush=True)
model.infer([read(poisoned(messages.trace, Poison[sys.argv[1]]))])
print("survived", flush=True)
"""


@pytest.mark.parametrize(
    ("poison", "status"),
    [
        (Poison.EXIT, EXIT_CODE),
        (Poison.CRASH, -signal.SIGSEGV),
        (Poison.LOOP, -signal.SIGKILL),
        (Poison.GLUT, -signal.SIGKILL),
    ],
)
def test_each_poison_ends_its_process_and_sound_holes_do_not(poison, status):
    # prevents: dead letters that are due and never come, since the poison was none
    with subprocess.Popen(
        [sys.executable, "-c", TAKE, poison.name], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "sound\n"
            if status == -signal.SIGKILL:  # it goes on until somebody ends it
                os.kill(process.pid, signal.SIGKILL)
            assert process.wait(30) == status
            assert process.stdout.read() == ""
        finally:
            process.kill()


def test_a_trace_without_a_place_for_the_mark_is_no_poison():
    with pytest.raises(ValueError, match="SamplingInterval"):
        poisoned(b"{}", Poison.EXIT)
