"""How long a job may take, learned from those before it. Times are seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.broker.deadline import PERIOD_JOBS, RECHECK_JOBS, Deadline
from farm.telemetry.histogram import GROWTH


def make_deadline(
    *, ceiling_s: float = 10.0, floor_s: float = 2.0, factor: float = 50.0
) -> Deadline:
    return Deadline(ceiling_s=ceiling_s, floor_s=floor_s, factor=factor)


def measure(deadline: Deadline, seconds: float, count: int = RECHECK_JOBS) -> float:
    for _ in range(count):
        deadline.measured(seconds)
    return deadline.timeout_s


def test_until_enough_jobs_were_measured_the_configured_limit_holds() -> None:
    # the first jobs of a model are its slowest
    deadline = make_deadline()
    assert measure(deadline, 0.001, RECHECK_JOBS - 1) == 10.0
    assert measure(deadline, 0.001, 1) == 2.0


def test_the_limit_is_a_multiple_of_what_nearly_all_jobs_take() -> None:
    assert measure(make_deadline(), 0.1) == pytest.approx(5.0, rel=GROWTH - 1)


def test_a_slow_model_is_never_given_more_than_the_configured_limit() -> None:
    assert measure(make_deadline(), 3.0) == 10.0


def test_one_slow_job_in_a_hundred_does_not_set_the_limit() -> None:
    deadline = make_deadline()
    for n in range(200):
        deadline.measured(9.0 if n % 150 == 149 else 0.1)
    assert deadline.timeout_s == pytest.approx(5.0, rel=GROWTH - 1)


def test_what_was_long_ago_is_forgotten() -> None:
    # prevents: a limit that remembers a slow hour for ever
    deadline = make_deadline()
    measure(deadline, 3.0, PERIOD_JOBS)
    assert measure(deadline, 0.001, PERIOD_JOBS) == 10.0
    assert measure(deadline, 0.001, PERIOD_JOBS) == 2.0


def test_a_floor_above_the_ceiling_gives_way() -> None:
    # whoever lowers job_timeout_s means it
    assert measure(make_deadline(ceiling_s=1.0, floor_s=2.0), 0.001) == 1.0


@given(
    jobs=st.lists(st.floats(0, 100), max_size=3 * RECHECK_JOBS),
    floor_s=st.floats(0.1, 20),
    ceiling_s=st.floats(0.1, 20),
)
def test_the_limit_stays_between_floor_and_ceiling(
    jobs: list[float], floor_s: float, ceiling_s: float
) -> None:
    deadline = make_deadline(floor_s=floor_s, ceiling_s=ceiling_s)
    for seconds in jobs:
        deadline.measured(seconds)
        assert min(floor_s, ceiling_s) <= deadline.timeout_s <= ceiling_s
