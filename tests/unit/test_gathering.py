"""When a loop waits for more: under load only, and never for long."""

from __future__ import annotations

import pytest

from farm.gathering import WINDOW_S, Gathering


def pauses(rate_hz: float, *, turns: int = 400, every_s: float = 0.0005) -> list[float]:
    """What a loop that would turn every half a millisecond is told, at this rate of messages."""
    gathering, now_s, told, due = Gathering(busy_hz=1200, gap_s=0.002), 100.0, [], 0.0
    for _ in range(turns):
        pause_s = gathering.pause_s(now_s)
        told.append(pause_s)
        now_s += pause_s + every_s
        due += (pause_s + every_s) * rate_hz
        gathering.came(int(due))
        due -= int(due)
    return told


@pytest.mark.parametrize("rate_hz", [0, 10, 300, 1000])
def test_with_little_to_do_nobody_waits(rate_hz: float) -> None:
    """Latency at a hundred holes a second paid for the throughput of a thousand."""
    assert not any(pauses(rate_hz))


@pytest.mark.parametrize("rate_hz", [1500, 10_000])
def test_under_load_turns_are_a_gap_apart(rate_hz: float) -> None:
    """A turn, or a commit, for each message."""
    told = pauses(rate_hz)
    busy_from = int(2 * WINDOW_S / 0.0005)
    assert told[busy_from:] == pytest.approx([0.0015] * len(told[busy_from:]))


def test_a_slow_loop_waits_for_nobody() -> None:
    """A pause on top of a turn that took longer than the gap."""
    assert not any(pauses(10_000, every_s=0.01))


def test_the_rush_is_over_after_a_window() -> None:
    """Pauses that stay when the load has gone."""
    gathering = Gathering(busy_hz=1200, gap_s=0.002)
    gathering.pause_s(100.0)
    gathering.came(500)
    gathering.pause_s(100.1)
    assert gathering.is_busy
    gathering.pause_s(100.1 + WINDOW_S + 0.001)
    assert not gathering.is_busy
