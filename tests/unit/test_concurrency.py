"""How many workers have work at once: no more than the cores carry, and never too few."""

from __future__ import annotations

import threading
import time

import pytest

from farm.broker.concurrency import STALLED_LEAST_S, Concurrency, stalled_after_s
from farm.worker.core_time import CoreTime


def credit(demand: float | None, *, cores: int = 2, **changes: int) -> int:
    concurrency = Concurrency(parallel=cores)
    if demand is not None:
        concurrency.measured(demand)
    return concurrency.credit(**{"idle": 10, "busy": 0, "elsewhere": 0, "stalled": 0} | changes)


@pytest.mark.parametrize(
    ("demand", "wanted"),
    [
        (None, 10),  # nothing is known yet
        (0.0, 10),  # the kernel keeps no accounts
        (1.0, 3),  # it computes: two cores, and one to spare
        (0.5, 5),
        (0.01, 10),  # it waits for a GPU: all of them
    ],
)
def test_as_many_as_keep_the_cores_busy(demand: float | None, wanted: int) -> None:
    """Ten workers that drive each other out of two cores' caches; or a GPU that is left idle."""
    assert credit(demand) == wanted


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"busy": 2}, 1),
        ({"busy": 3}, 0),
        ({"busy": 9}, 0),  # never less than none
        ({"busy": 3, "stalled": 1}, 1),  # a stopped worker uses no core
        ({"busy": 3, "elsewhere": 4}, 4),  # nor do those of another machine
        ({"idle": 1}, 1),  # there are no others
    ],
)
def test_only_those_count_that_use_a_core(changes: dict[str, int], wanted: int) -> None:
    """A stopped worker, or a full machine beside this one, that keeps idle workers from work."""
    assert credit(1.0, **changes) == wanted


def test_the_measure_follows_the_model_and_not_one_job() -> None:
    """One job that waited for a page of a file taken for a model that waits."""
    concurrency = Concurrency(parallel=2)
    for _ in range(20):
        concurrency.measured(1.0)
    concurrency.measured(0.1)
    assert concurrency.most == 4
    for _ in range(300):
        concurrency.measured(0.1)
    assert concurrency.most == 21


def test_whoever_takes_far_too_long_is_stalled() -> None:
    """Healthy workers of a slow model called stopped, so that all of them get work."""
    assert stalled_after_s(None) == STALLED_LEAST_S
    assert stalled_after_s(0.0001) == STALLED_LEAST_S
    assert stalled_after_s(0.01) == 0.2
    assert stalled_after_s(0.2) == 1.0  # not twenty times: meanwhile the others would have nothing
    assert stalled_after_s(2.0) == 6.0


# ---- in the worker -------------------------------------------------------------------------------


def demand_of(work: object) -> float:
    core_time = CoreTime()
    if core_time.read() is None:
        pytest.skip("this kernel keeps no accounts of threads")
    begin = core_time.read()
    assert callable(work)
    work()
    return core_time.demand_since(begin)


def compute() -> None:
    end_s = time.thread_time() + 0.05
    while time.thread_time() < end_s:
        sum(range(1000))


def test_a_thread_that_computes_demands_a_core_also_where_it_has_to_share_it() -> None:
    """A busy machine taken for a model that waits: then every worker would get work."""
    assert demand_of(compute) > 0.7


def test_short_jobs_are_measured_as_well() -> None:
    """An account that is brought up to date every few milliseconds: short jobs are not in it."""
    core_time = CoreTime()
    if core_time.read() is None:
        pytest.skip("this kernel keeps no accounts of threads")
    told = []
    for _ in range(50):
        begin = core_time.read()
        end_s = time.thread_time() + 0.001
        while time.thread_time() < end_s:
            pass
        told.append(core_time.demand_since(begin))
    assert min(told) > 0


def test_a_wait_that_is_in_one_of_the_accounts_only_is_no_reason_to_know_nothing() -> None:
    """Short jobs on a busy machine unmeasured: put aside between the accounts of a beginning."""
    core_time = CoreTime()
    begin = core_time.read()
    if begin is None:
        pytest.skip("this kernel keeps no accounts of threads")
    put_aside = begin._replace(queued_s=begin.queued_s - 3600, ran_s=begin.ran_s - 0.001)
    assert core_time.demand_since(put_aside) == 1.0


def test_a_thread_that_waits_demands_little() -> None:
    """A model on a GPU held to the number of cores."""
    assert demand_of(lambda: threading.Event().wait(0.2)) < 0.2


def test_without_accounts_nothing_is_claimed() -> None:
    """A kernel without them, on which a guess would halve the farm."""
    core_time = CoreTime()
    core_time._descriptor = -1
    assert core_time.read() is None
    assert core_time.demand_since(None) == 0.0
