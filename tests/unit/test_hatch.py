"""The loop hands out its vitals when asked, seldom, and shows whether it turns."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from farm.metrics.hatch import FRESH_S, PERIOD_S, Hatch

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """A loop that turns when it is told to, and counts how often it was asked for vitals."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.made = 0
        self.woken = threading.Event()
        self.hatch = Hatch(self.woken.set, lambda: self.now_s)

    def make(self, now_s: float) -> Any:
        self.made += 1
        return f"vitals {self.made} at {now_s:g}"

    def turn(self) -> None:
        self.hatch.turn(self.now_s, self.make)

    def asking(self, count: int = 1) -> Callable[[], list[Any]]:
        """Threads that ask; the result waits for their answers."""
        found: list[Any] = []
        threads = [
            threading.Thread(target=lambda: found.append(self.hatch.ask(10))) for _ in range(count)
        ]
        for thread in threads:
            thread.start()

        def answers() -> list[Any]:
            for thread in threads:
                thread.join(10)
            return found

        assert self.woken.wait(10)
        return answers


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_the_loop_makes_vitals_in_its_turn_and_only_when_asked(loop: Loop) -> None:
    """Prevents: a thread that reads what the loop is changing, and work that nobody wants."""
    loop.turn()
    assert loop.made == 0
    answers = loop.asking()
    loop.turn()
    assert answers() == ["vitals 1 at 100"]
    loop.turn()
    assert loop.made == 1


def test_a_crowd_of_scrapers_costs_the_loop_no_more_than_one(loop: Loop) -> None:
    """Prevents: who scrapes a thousand times a second slows the farm down."""
    answers = loop.asking(5)
    loop.turn()
    assert answers() == ["vitals 1 at 100"] * 5
    loop.now_s += FRESH_S * 0.9
    assert loop.hatch.ask(0) == "vitals 1 at 100"
    loop.now_s += FRESH_S * 0.2
    loop.woken.clear()
    answers = loop.asking()
    loop.turn()
    assert answers() == ["vitals 2 at 100.55"]


def test_a_loop_that_hangs_is_waited_for_in_vain_and_not_for_ever(loop: Loop) -> None:
    """Prevents: a scrape that hangs with the loop, so that nobody learns of it."""
    assert loop.hatch.ask(0.01) is None
    assert loop.hatch.tick_age_s is None
    loop.turn()
    loop.now_s += 7.5
    assert loop.hatch.tick_age_s == 7.5


def test_old_vitals_are_not_told_for_new_ones(loop: Loop) -> None:
    """Prevents: a hung broker whose metrics look as they did when it was well."""
    answers = loop.asking()
    loop.turn()
    assert answers() == ["vitals 1 at 100"]
    loop.now_s += 60
    assert loop.hatch.ask(0.01) is None


def test_who_wakes_up_late_takes_what_was_made_for_him(loop: Loop) -> None:
    """Prevents: a scrape of a busy machine that says nothing, though the loop has answered."""
    answers = loop.asking()
    with loop.hatch._changed:  # nobody wakes up before this ends
        loop.turn()
        loop.now_s += 60
    assert answers() == ["vitals 1 at 100"]


def test_the_longest_turn_is_seen_by_who_scrapes_seldom_and_forgotten_in_time(loop: Loop) -> None:
    """Prevents: a stall between two scrapes that nobody sees; or one that alarms for ever."""
    for step_s in (0.05, 3.0, 0.05):
        loop.turn()
        loop.now_s += step_s
    loop.turn()
    assert loop.hatch.longest_turn_s == pytest.approx(3.0)
    for _ in range(2):
        loop.now_s += PERIOD_S / 2
        loop.turn()
    assert loop.hatch.longest_turn_s >= 3.0
    for _ in range(30):
        loop.now_s += PERIOD_S / 10
        loop.turn()
    assert loop.hatch.longest_turn_s == pytest.approx(PERIOD_S / 10)


def test_what_the_vitals_cost_the_loop_is_told(loop: Loop) -> None:
    """Prevents: monitoring whose own price nobody knows."""

    def slow(now_s: float) -> Any:
        loop.now_s += 0.25
        return loop.make(now_s)

    answers = loop.asking()
    loop.hatch.turn(loop.now_s, slow)
    assert answers() != [None]
    assert (loop.hatch.made, loop.hatch.made_in_s) == (1, 0.25)
