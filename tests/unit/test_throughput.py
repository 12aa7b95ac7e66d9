"""Holes against holes. Times are monotonic seconds."""

from __future__ import annotations

import pytest

from farm.broker.throughput import Pace, ThroughputMonitor


def monitor(*, arrived: int, processed: int, over_s: float = 10.0) -> ThroughputMonitor:
    """A monitor of a 10 s window after so many holes at an even rate, from second 1000 on."""
    made = ThroughputMonitor(healthy_ratio=0.95, window_s=10.0, started_s=1000.0)
    for count, note in ((arrived, made.arrived), (processed, made.processed)):
        for n in range(count):
            note(1000.0 + over_s * (n + 0.5) / count)
    return made


@pytest.mark.parametrize(
    ("processed", "waiting", "expected"),
    [
        (1000, 0, Pace.HEALTHY),
        (950, 50, Pace.HEALTHY),  # the configured ratio still counts as keeping up
        (949, 51, Pace.FALLING_BEHIND),
        (0, 1000, Pace.FALLING_BEHIND),
        (500, 0, Pace.HEALTHY),  # the rest is on the workers: nothing waits
    ],
)
def test_the_pace_compares_holes_with_holes(processed: int, waiting: int, expected: Pace) -> None:
    shown = monitor(arrived=1000, processed=processed).assess(1010.0, waiting=waiting)
    assert shown.pace is expected
    assert shown.arrival_rate == pytest.approx(100.0, rel=0.02)
    assert shown.processing_rate == pytest.approx(processed / 10, rel=0.02)


def test_a_backlog_on_which_nobody_works_is_not_healthy_once_arrivals_cease() -> None:
    # 0 >= 0.95 * 0 would call a farm healthy whose workers have all stopped
    shown = monitor(arrived=100, processed=0).assess(1060.0, waiting=100)
    assert shown.arrival_rate == 0.0
    assert shown.pace is Pace.FALLING_BEHIND


def test_an_idle_farm_is_healthy() -> None:
    shown = monitor(arrived=0, processed=0).assess(2000.0, waiting=0)
    assert (shown.pace, shown.drain_s) == (Pace.HEALTHY, 0.0)


def test_the_time_to_drain_is_the_backlog_over_the_surplus() -> None:
    shown = monitor(arrived=500, processed=1000).assess(1010.0, waiting=200)
    assert shown.drain_s == pytest.approx(4.0, rel=0.05)


def test_a_backlog_that_grows_has_no_time_to_drain() -> None:
    assert monitor(arrived=1000, processed=500).assess(1010.0, waiting=200).drain_s is None


def test_rates_forget_what_is_older_than_the_window_and_totals_do_not() -> None:
    made = monitor(arrived=100, processed=100)
    shown = made.assess(1021.0, waiting=0)
    assert (shown.arrival_rate, shown.processing_rate) == (0.0, 0.0)
    assert (made.arrived_total, made.processed_total) == (100, 100)


def test_rates_of_a_young_farm_are_over_its_life_not_over_the_window() -> None:
    # else a farm that keeps 100 holes/s would report 20 in its first seconds
    shown = monitor(arrived=200, processed=200, over_s=2.0).assess(1002.0, waiting=0)
    assert shown.arrival_rate == pytest.approx(100.0)


def test_a_day_of_holes_takes_no_more_memory_than_a_window() -> None:
    made = ThroughputMonitor(healthy_ratio=0.95, window_s=10.0, started_s=0.0)
    for tenths in range(86_400):
        made.arrived(tenths / 10)
        if tenths % 300 == 0:
            made.assess(tenths / 10, waiting=0)
    assert len(made._arrivals._buckets) < 50
