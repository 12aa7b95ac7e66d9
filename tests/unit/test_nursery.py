"""In which way a worker is started: a history of events, without any process. Times are seconds."""

from __future__ import annotations

import signal

import pytest

from farm.errors import ExitCode
from farm.supervisor.nursery import DEATH_TIMEOUT_S, Nursery, State, Way
from farm.supervisor.restart import MAX_STILLBORN, RestartPolicy


def make_nursery() -> Nursery:
    policy = RestartPolicy(initial_s=0.2, max_s=5.0, budget=100, window_s=60.0)
    return Nursery(policy, {}, ready_timeout_s=60.0)


def ready_nursery() -> Nursery:
    nursery = make_nursery()
    nursery.started(100, 0.0)
    nursery.ready("", 3.0)
    return nursery


def test_workers_wait_for_the_first_nursery_and_are_forked_from_it() -> None:
    # prevents: ten models that are loaded side by side, while an eleventh would do for all
    nursery = make_nursery()
    assert nursery.is_due(0.0)
    assert nursery.way(0.0) is Way.WAIT
    nursery.started(100, 0.0)
    assert not nursery.is_due(0.0)
    assert nursery.way(0.1) is Way.WAIT
    nursery.ready("", 3.0)
    assert nursery.way(3.0) is Way.FORK


def test_a_nursery_that_nothing_can_be_forked_from_is_not_started_again() -> None:
    # prevents: a model that is loaded again and again only to find that it has a thread
    nursery = make_nursery()
    nursery.started(100, 0.0)
    nursery.ready("the model has started 1 threads", 3.0)
    assert nursery.way(3.0) is Way.EXEC
    nursery.ended(0, 3.1)
    assert nursery.way(1e9) is Way.EXEC
    assert not nursery.is_due(1e9)


def test_one_that_had_settled_is_replaced_at_once_and_waited_for() -> None:
    # prevents: workers that load a model of their own because something killed the nursery once
    nursery = ready_nursery()
    nursery.ended(-signal.SIGKILL, 100.0)
    assert nursery.is_due(100.0)
    assert nursery.way(100.0) is Way.WAIT
    nursery.started(101, 100.0)
    assert nursery.way(101.0) is Way.WAIT


def test_while_one_that_does_not_come_up_is_waited_for_workers_start_by_themselves() -> None:
    # prevents: a farm without workers over a nursery that crashes at every start
    nursery = make_nursery()
    now_s = 0.0
    for pid in range(1, MAX_STILLBORN):
        nursery.started(pid, now_s)
        nursery.ended(-signal.SIGSEGV, now_s)
        assert nursery.way(now_s) is Way.EXEC
        assert not nursery.is_due(now_s)
        now_s += 10.0
        assert nursery.is_due(now_s)
    nursery.started(99, now_s)
    nursery.ended(-signal.SIGSEGV, now_s)
    assert nursery.state is State.FAILED
    assert nursery.way(1e9) is Way.EXEC
    assert not nursery.is_due(1e9)


def test_a_model_that_it_can_not_load_is_not_tried_by_each_worker_too() -> None:
    # prevents: minutes of ten imports of torch before a misspelled model is told
    nursery = make_nursery()
    nursery.started(100, 0.0)
    nursery.ended(ExitCode.MODEL, 3.0)
    assert nursery.way(3.0) is Way.REFUSED
    assert nursery.is_due(3.2)  # the file may be back
    nursery.started(101, 3.2)
    assert nursery.way(3.3) is Way.WAIT
    nursery.ready("", 6.0)
    assert nursery.way(6.0) is Way.FORK


def test_the_exit_code_of_a_bad_model_means_nothing_once_it_was_loaded() -> None:
    # prevents: workers given up because a model calls exit with our number
    nursery = ready_nursery()
    nursery.ended(ExitCode.MODEL, 100.0)
    assert nursery.state is State.ABSENT


def test_one_that_loads_for_too_long_is_named_once_for_the_kill() -> None:
    nursery = make_nursery()
    nursery.started(100, 0.0)
    assert not nursery.is_late(60.0)
    assert nursery.is_late(60.1)
    assert nursery.condemn(60.1)
    assert not nursery.is_late(60.2)
    assert not nursery.condemn(60.2)  # a second kill could hit a process that took over the pid
    nursery.ended(-signal.SIGKILL, 60.3)
    assert nursery.way(60.3) is Way.EXEC
    nursery.started(101, 61.0)
    assert nursery.is_late(121.1)


def test_nothing_is_asked_of_one_that_is_about_to_be_killed() -> None:
    nursery = ready_nursery()
    nursery.condemn(10.0)
    assert nursery.way(10.0) is Way.WAIT
    # prevents: no worker at all while the process waits for a disk and can not die
    assert nursery.way(10.1 + DEATH_TIMEOUT_S) is Way.EXEC


def test_what_keeps_it_from_starting_holds_up_no_worker() -> None:
    nursery = make_nursery()
    nursery.not_started(0.0)
    assert nursery.way(0.1) is Way.EXEC
    assert nursery.is_due(5.0)


def test_it_never_becomes_ready_twice() -> None:
    nursery = ready_nursery()
    with pytest.raises(AssertionError, match="READY"):
        nursery.ready("", 4.0)
