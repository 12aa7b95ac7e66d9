"""UTC for the journal, whatever is done to the machine's clock."""

from __future__ import annotations

from farm.clock import LOOK_EVERY_S, WallClock


class Hands:
    """Both clocks of a machine."""

    def __init__(self) -> None:
        self.utc_s = 1000.0
        self.monotonic_s = 5.0

    def clock(self) -> WallClock:
        return WallClock(lambda: self.utc_s, lambda: self.monotonic_s)

    def pass_time(self, seconds: float) -> None:
        self.utc_s += seconds
        self.monotonic_s += seconds


def test_utc_goes_on_evenly_while_the_clock_is_set() -> None:
    # prevents: a message that seems older than the one before it, and is forgotten or expired
    hands = Hands()
    clock = hands.clock()
    hands.pass_time(1.0)
    hands.utc_s -= 3600.0
    assert clock.utc() == 1001.0
    assert clock.at(7.0) == 1002.0


def test_a_clock_that_was_set_is_followed_at_the_next_look() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.utc_s += 3600.0
    hands.pass_time(LOOK_EVERY_S / 2)
    clock.look()
    assert clock.utc() == 1000.0 + LOOK_EVERY_S / 2
    hands.pass_time(LOOK_EVERY_S)
    clock.look()
    assert clock.utc() == hands.utc_s
