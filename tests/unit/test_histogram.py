from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.telemetry.histogram import GROWTH, HIGHEST_S, LOWEST_S, Histogram


def test_an_empty_histogram_knows_nothing_rather_than_zero() -> None:
    summary = Histogram().summary()
    assert summary == {
        "count": 0,
        "mean_s": None,
        "p50_s": None,
        "p99_s": None,
        "p999_s": None,
        "max_s": None,
    }


def test_one_value_is_every_quantile() -> None:
    histogram = Histogram()
    histogram.add(0.25)
    assert histogram.summary() == {
        "count": 1,
        "mean_s": 0.25,
        "p50_s": 0.25,
        "p99_s": 0.25,
        "p999_s": 0.25,
        "max_s": 0.25,
    }


@given(
    st.lists(st.floats(LOWEST_S, HIGHEST_S), min_size=1), st.sampled_from([0.01, 0.5, 0.9, 0.99])
)
def test_a_quantile_is_never_too_low_and_at_most_one_bucket_too_high(
    values: list[float], q: float
) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    found = histogram.quantile(q)
    assert found is not None
    assert exact * (1 - 1e-9) <= found <= exact * GROWTH * (1 + 1e-9)


def test_a_rare_slow_hole_shows_in_p99_and_not_in_p50() -> None:
    histogram = Histogram()
    for n in range(1000):
        histogram.add(1.0 if n % 50 == 0 else 0.01)
    summary = histogram.summary()
    assert summary["p50_s"] == pytest.approx(0.01, rel=0.06)
    assert summary["p99_s"] == pytest.approx(1.0, rel=0.06)


@pytest.mark.parametrize("odd", [0.0, -5.0, math.nan, -math.inf])
def test_what_is_no_duration_counts_as_none_and_spoils_no_mean(odd: float) -> None:
    # a duration comes from workers: a NaN must not end the broker
    histogram = Histogram()
    histogram.add(odd)
    histogram.add(1.0)
    assert histogram.count == 2
    assert histogram.sum_s == 1.0
    assert histogram.quantile(0.5) == pytest.approx(LOWEST_S)


def test_beyond_the_last_bucket_is_counted_in_it() -> None:
    histogram = Histogram()
    histogram.add(HIGHEST_S * 100)
    assert histogram.count == 1
    assert histogram.max_s == HIGHEST_S * 100
    quantile = histogram.quantile(0.5)
    assert quantile is not None
    assert quantile >= HIGHEST_S


def test_it_takes_no_more_memory_however_much_it_counts() -> None:
    histogram = Histogram()
    size = len(histogram._now.buckets)
    for _ in range(5000):
        histogram.add(random.expovariate(10))
    assert len(histogram._now.buckets) == size
    assert sum(histogram._now.buckets) == 5000


def test_an_incident_of_the_past_does_not_stand_in_the_figures_for_ever() -> None:
    histogram = Histogram()
    histogram.add(100.0)
    histogram.rotate()
    histogram.add(0.5)
    assert (histogram.count, histogram.max_s) == (2, 100.0)  # still the last period
    assert histogram.quantile(1.0) == 100.0
    histogram.rotate()
    assert (histogram.count, histogram.max_s) == (1, 0.5)
    histogram.rotate()
    assert histogram.summary()["p99_s"] is None
