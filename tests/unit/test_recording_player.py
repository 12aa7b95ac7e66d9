"""The plan of a replay: times, and what faults do to them. Tables without a clock."""

from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest
from recordings import S

from farm.recording import player
from farm.recording.faults import DUPLICATE_SPAN, REORDER_SPAN, Faults, parse_faults
from farm.recording.player import MAX_SPEED, plan
from farm.recording.record import Message
from farm.recording.renewal import Renewed


def parts(*times_s: float) -> list[Renewed]:
    return [
        Renewed(Message(round(at_s * S), f"t/{number}", b"x"), None)
        for number, at_s in enumerate(times_s)
    ]


def number(shot: player.Shot) -> int:
    return int(shot.part.message.topic[2:])


def shots(
    what: list[Renewed], *, speed: float = MAX_SPEED, seed: int = 1, **faults: float
) -> list[player.Shot]:
    return list(
        plan(what, speed=speed, elapsed_s=lambda: 0.0, faults=Faults(**faults), rng=Random(seed))
    )


@pytest.mark.parametrize(
    ("times_s", "speed", "due_s"),
    [
        ((10, 11, 13), 1, [0, 1, 3]),
        ((10, 11, 13), 2, [0, 0.5, 1.5]),
        ((10, 11, 13), 0.5, [0, 2, 6]),
        ((10, 5, 6), 1, [0, 0, 1]),  # the clock was set back
        ((), 1, []),
        ((10, 11, 13), MAX_SPEED, [0, 0, 0]),
    ],
)
def test_messages_leave_in_the_recorded_rhythm(times_s, speed, due_s):
    """Prevents a replay that is faster or slower than asked for, or waits for a set-back clock."""
    assert [shot.due_s for shot in shots(parts(*times_s), speed=speed)] == pytest.approx(due_s)


def test_the_same_seed_gives_the_same_faults_at_any_speed():
    """Prevents a found fault that can't be shown again."""
    many = parts(*range(500))
    faults = {"duplicate": 0.2, "reorder": 0.3, "drop": 0.1}

    def fates(speed: float, seed: int) -> list[tuple[int, bool, bool]]:
        found = shots(many, speed=speed, seed=seed, **faults)
        return [(number(shot), shot.is_copy, shot.is_dropped) for shot in found]

    assert fates(MAX_SPEED, 7) == fates(MAX_SPEED, 7) == fates(3, 7)
    assert fates(MAX_SPEED, 7) != fates(MAX_SPEED, 8)


def test_a_fault_more_changes_none_of_the_others():
    """Prevents a fault that can't be studied alone: dropping must not shuffle the copies."""
    many = parts(*range(300))
    alone = {number(s) for s in shots(many, duplicate=0.2) if s.is_copy}
    beside = {number(s) for s in shots(many, duplicate=0.2, reorder=0.5) if s.is_copy}
    assert alone == beside
    assert alone


def test_copies_come_after_the_original_and_are_as_many_as_asked():
    """Prevents a duplicate that is the first to arrive, or one that is a message lost."""
    found = shots(parts(*range(1000)), duplicate=0.2)
    originals = [number(shot) for shot in found if not shot.is_copy]
    assert originals == list(range(1000))
    copies = [(at, number(shot)) for at, shot in enumerate(found) if shot.is_copy]
    assert 150 < len(copies) < 250
    for at, copied in copies:
        before = [number(shot) for shot in found[:at]]
        assert copied in before
        passed = [n for n in before[before.index(copied) + 1 :] if n > copied]
        assert len(set(passed)) <= DUPLICATE_SPAN


def test_reordered_messages_stay_near_and_none_is_lost():
    """Prevents a reordering that drops, or holds a message back for ever."""
    found = [number(shot) for shot in shots(parts(*range(1000)), reorder=0.3)]
    assert sorted(found) == list(range(1000))
    assert found != list(range(1000))
    assert max(abs(at - n) for at, n in enumerate(found)) <= REORDER_SPAN


def test_dropped_messages_are_told_and_have_no_copy():
    """Prevents a replay that can't say of which holes it kept something back."""
    found = shots(parts(*range(1000)), drop=0.1, duplicate=1.0)
    dropped = {number(shot) for shot in found if shot.is_dropped}
    sent = Counter(number(shot) for shot in found if not shot.is_dropped)
    assert 60 < len(dropped) < 140
    assert set(sent) == set(range(1000)) - dropped
    assert set(sent.values()) == {2}


def test_delayed_messages_leave_by_their_time():
    """Prevents a delay that is longer than asked for, or holds up those behind it."""
    found = shots(parts(*range(100)), speed=10, delay=0.5, delay_s=0.35)
    assert [shot.due_s for shot in found] == sorted(shot.due_s for shot in found)
    late = {number(shot): shot.due_s - number(shot) / 10 for shot in found}
    assert max(late.values()) <= 0.35
    assert 30 < sum(1 for each in late.values() if each > 1e-9) < 70


def test_delays_at_full_speed_count_from_when_a_message_is_asked_for():
    """Prevents delays that at full speed all wait for the end of the recording."""
    clock = itertools.count()
    found = plan(
        parts(*range(100)),
        speed=MAX_SPEED,
        elapsed_s=lambda: float(next(clock)),
        faults=Faults(delay=1.0, delay_s=3.0),
        rng=Random(1),
    )
    order = [number(shot) for shot in found]
    assert max(abs(at - n) for at, n in enumerate(order)) <= 4


def test_what_is_held_back_is_bounded(monkeypatch):
    """Prevents a whole recording in memory, for a delay of an hour at full speed."""
    monkeypatch.setattr(player, "MAX_HELD_BYTES", 10)  # of one byte each
    taken = []

    def source():
        for part in parts(*range(200)):
            taken.append(part)
            yield part

    found = plan(
        source(), speed=MAX_SPEED, elapsed_s=lambda: 0.0,
        faults=Faults(delay=1.0, delay_s=3600.0), rng=Random(1),
    )  # fmt: skip
    for given, _ in enumerate(found):
        assert len(taken) - given <= 10 + 3
    assert len(taken) == 200


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", Faults()),
        ("dup=0.05,reorder,drop=0.01,delay=0.5s",
         Faults(duplicate=0.05, reorder=0.1, drop=0.01, delay=1.0, delay_s=0.5)),
        (" dup , drop=1 ", Faults(duplicate=0.05, drop=1.0)),
        ("delay", Faults(delay=1.0, delay_s=1.0)),
        ("delay=250ms@0.1", Faults(delay=0.1, delay_s=0.25)),
    ],
)  # fmt: skip
def test_faults_are_read_as_they_are_typed(text, faults):
    """Prevents a fault that is silently another one."""
    assert parse_faults(text) == faults
    assert bool(faults) == bool(text.strip())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lose=0.1", "'lose' is no fault"),
        ("dup=2", "no probability"),
        ("dup=nan", "no probability"),
        ("drop=many", "no probability"),
        ("delay=soon", "no duration"),
        ("delay=2h", "longer than"),
        ("delay=1s@7", "no probability"),
    ],
)
def test_a_mistyped_fault_is_told(text, words):
    """Prevents a replay without the faults that somebody believes in."""
    with pytest.raises(ValueError, match=words):
        parse_faults(text)
