"""The judge of `farm chaos`: a good history passes, and each kind of sin is found in a bad one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from farm.simulation.chaos.check import Flaw, check
from farm.simulation.chaos.history import (
    Fate,
    History,
    HoleRow,
    Life,
    Message,
    Records,
    RejectionRow,
    SentHole,
)
from farm.simulation.chaos.report import rows, violation_lines
from farm.simulation.mqtt import Delivery, Outage

if TYPE_CHECKING:
    from collections.abc import Callable

TOOL = "BOX-1/UNIT-1"
TAILS = ("KeyPoints", "Depth")


def topic(tail: str, source: str = TOOL) -> str:
    return f"OUT/{source}/{tail}"


def payload(result_id: str, text: str = "[1, 2]", **more: Any) -> bytes:
    return json.dumps({"ResultId": result_id, "Value": text, **more}).encode()


def hole(number: int, fate: Fate = Fate.SOUND) -> SentHole:
    message = Message.of("IN", TOOL, b"raw %d" % number)
    message.sent_s, message.acknowledged_s = 10.0 + number, 10.01 + number
    return SentHole(TOOL, str(number), fate, frozenset(), (message,))


def row(number: int, terminal: str = "published", **more: Any) -> HoleRow:
    publications = tuple((topic(tail), payload(str(number))) for tail in TAILS)
    default = {
        "hole_id": number,
        "source": TOOL,
        "part_id": str(number),
        "state": 2,
        "terminal": terminal,
        "reason": "",
        "publications": publications,
        "at_s": 10.0 + number,
        "answered_s": 10.1 + number,
        "ended_s": 10.3 + number,
        "deaths": 0,
    }
    return HoleRow(**(default | more))


def heard(number: int, at_s: float = 0.0, **more: Any) -> list[Delivery]:
    return [
        Delivery(topic(tail), payload(str(number)), more.get("again", False), 10.2 + number + at_s)
        for tail in TAILS
    ]


def good(count: int = 3) -> History:
    """Some sound holes, each answered once."""
    numbers = range(1, count + 1)
    return History(
        began_s=10.0,
        ended_s=20.0,
        holes=[hole(n) for n in numbers],
        strays=[],
        heard=[delivery for n in numbers for delivery in heard(n)],
        lives=[Life(7, 9.0)],
        breaks=[],
        deaf=[],
        struck=[],
        records=Records([row(n) for n in numbers], []),
        stats={
            "holes": {"arrived": count, "published": count, "dead": 0},
            "jobs": {"unanswered": 0},
        },
        objective_s=1.0,
        keypoints=TAILS[0],
        depth=TAILS[1],
    )


def flaws(history: History) -> set[Flaw]:
    return {violation.flaw for violation in check(history).violations}


def records(history: History) -> Records:
    assert history.records is not None
    return history.records


def test_a_good_history_is_good() -> None:
    verdict = check(good())
    assert verdict.is_good, violation_lines(verdict)
    assert (verdict.holes, verdict.acknowledged, verdict.answered) == (3, 3, 3)
    assert ("lost", "0") in rows(verdict)


def test_a_hole_that_mosquitto_did_not_take_may_be_missing() -> None:
    history = good()
    history.holes[0].messages[0].acknowledged_s = None
    history.heard = [d for d in history.heard if b'"1"' not in d.payload]
    records(history).holes.pop(0)
    assert flaws(history) == set()


def lose_an_answer(history: History) -> None:
    history.heard = [d for d in history.heard if b'"2"' not in d.payload]


def lose_half_an_answer(history: History) -> None:
    history.heard.pop(0)


def forget_a_hole(history: History) -> None:
    records(history).holes.pop(1)


def leave_a_hole_open(history: History) -> None:
    records(history).holes[1] = row(2, state=1)


def publish_twice(history: History) -> None:
    history.heard += heard(2, 0.05)


def publish_again_after_the_confirmation_and_a_death(history: History) -> None:
    history.heard += heard(2, 5.0)
    history.lives = [Life(7, 9.0, 16.0, 16.5), Life(8, 16.6)]


def publish_other_bytes(history: History) -> None:
    other = Delivery(topic("Depth"), payload("2", "[9]"), False, 12.25)
    history.heard.append(other)
    history.lives = [Life(7, 9.0, 12.0, 12.5), Life(8, 12.6)]


def make_two_of_one(history: History) -> None:
    records(history).holes.append(row(2, hole_id=9))


def give_up_a_sound_hole(history: History) -> None:
    records(history).holes[0] = row(1, "dead", reason="Gave up")


def answer_a_poisoned_hole(history: History) -> None:
    history.holes[0] = hole(1, Fate.POISON)


def turn_the_order_round(history: History) -> None:
    first, second = heard(1, 2.0), heard(2)
    history.heard = [*second, *first, *heard(3, 2.0)]
    records(history).holes[0] = row(1, answered_s=11.9, ended_s=13.5)


def answer_a_stranger(history: History) -> None:
    history.heard += heard(99)


def lose_count(history: History) -> None:
    assert history.stats is not None
    history.stats["holes"]["arrived"] += 1


def never_finish(history: History) -> None:
    history.is_drained = False


def refuse_a_good_message(history: History) -> None:
    publications = ((topic("Errors"), b"no id"),)
    history.heard.append(Delivery(*publications[0], False, 12.0))
    records(history).rejections.append(RejectionRow(TOOL, 1, 2, "no id", publications, True))


def swallow_a_stray(history: History) -> None:
    stray = Message.of("IN", TOOL, b"?", is_rejected=True)
    stray.sent_s, stray.acknowledged_s = 12.0, 12.1
    history.strays.append(stray)


@pytest.mark.parametrize(
    ("sin", "flaw"),
    [
        (lose_an_answer, Flaw.LOST),
        (lose_half_an_answer, Flaw.LOST),
        (forget_a_hole, Flaw.OPEN),
        (leave_a_hole_open, Flaw.OPEN),
        (publish_twice, Flaw.TWICE),
        (publish_again_after_the_confirmation_and_a_death, Flaw.TWICE),
        (publish_other_bytes, Flaw.BYTES),
        (make_two_of_one, Flaw.SPLIT),
        (give_up_a_sound_hole, Flaw.FATE),
        (answer_a_poisoned_hole, Flaw.FATE),
        (turn_the_order_round, Flaw.ORDER),
        (answer_a_stranger, Flaw.STRANGER),
        (lose_count, Flaw.STATS),
        (never_finish, Flaw.FARM),
        (refuse_a_good_message, Flaw.FATE),
        (swallow_a_stray, Flaw.UNTOLD),
    ],
    ids=lambda value: getattr(value, "__name__", value.name if isinstance(value, Flaw) else ""),
)
def test_each_sin_is_found(sin: Callable[[History], None], flaw: Flaw) -> None:
    # prevents: a campaign that says "0 lost" since it does not look
    history = good()
    sin(history)
    assert flaw in flaws(history), violation_lines(check(history))


def test_the_same_bytes_may_come_again_when_a_life_ended_before_the_confirmation() -> None:
    history = good()
    history.heard += heard(2, 0.6)
    history.lives = [Life(7, 9.0, 12.2, 12.4), Life(8, 12.5)]
    records(history).holes[1] = row(2, ended_s=12.9)
    verdict = check(history)
    assert verdict.is_good, violation_lines(verdict)
    assert verdict.across_lives == 2


def test_the_same_bytes_may_come_again_when_a_connection_broke_before_it() -> None:
    history = good()
    history.heard += heard(2, 0.6)
    history.breaks = [Outage(12.2, 12.4)]
    records(history).holes[1] = row(2, ended_s=12.9)
    verdict = check(history)
    assert verdict.is_good, violation_lines(verdict)
    assert (verdict.across_lives, verdict.across_breaks) == (0, 2)


def test_what_mosquitto_repeats_to_our_own_ears_is_not_the_farms() -> None:
    history = good()
    history.heard += heard(2, 0.6, again=True)
    history.deaf = [Outage(12.25, 12.5)]
    verdict = check(history)
    assert verdict.is_good, violation_lines(verdict)
    assert verdict.redelivered == 2


def test_a_hole_that_waited_too_long_may_be_overtaken() -> None:
    history = good()
    turn_the_order_round(history)
    records(history).holes[0] = replace(records(history).holes[0], answered_s=12.9)
    history.objective_s = 1.0
    assert Flaw.ORDER not in flaws(history)


def test_a_poisoned_hole_is_to_be_one_dead_letter() -> None:
    history = good()
    history.holes[0] = hole(1, Fate.POISON)
    records(history).holes[0] = row(1, "dead", reason="Gave up")
    verdict = check(history)
    assert verdict.is_good, violation_lines(verdict)
    assert verdict.dead == {"poison": 1}
