"""How long to wait before a failed process starts again, and when to stop. Seconds."""

from __future__ import annotations

from farm.supervisor.restart import MAX_STILLBORN, SETTLED_S, RestartPolicy


def make_policy(budget: int = 100) -> RestartPolicy:
    return RestartPolicy(initial_s=0.2, max_s=5.0, budget=budget, window_s=60.0)


def test_a_process_that_never_comes_up_is_waited_for_longer_each_time_and_then_given_up() -> None:
    # a missing library must not keep a core busy with starts, nor be tried for ever
    policy = make_policy()
    waits = [policy.failed(100.0 * n, ready_s=None) for n in range(MAX_STILLBORN)]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, None]
    assert policy.restarts == MAX_STILLBORN - 1


def test_coming_up_once_resets_the_back_off() -> None:
    policy = make_policy()
    for n in range(5):
        policy.failed(float(n), ready_s=None)
    assert policy.failed(10.0, ready_s=0.5) == 0.2
    assert policy.failed(11.0, ready_s=None) == 0.2


def test_a_process_that_comes_up_and_dies_again_and_again_exhausts_the_budget() -> None:
    policy = make_policy(budget=3)
    waits = [policy.failed(float(n), ready_s=0.5) for n in range(4)]
    assert waits == [0.2, 0.2, 0.2, None]


def test_failures_outside_the_window_cost_nothing() -> None:
    # a farm that loses a worker a day must not give it up after ten days
    policy = make_policy(budget=2)
    assert all(policy.failed(61.0 * n, ready_s=0.5) == 0.2 for n in range(50))
    assert len(policy._failures_s) == 1


def test_a_process_that_had_settled_is_started_again_at_once() -> None:
    # prevents: a farm that is a worker short for a fifth of a second, each time one is killed
    policy = make_policy()
    policy.failed(0.0, ready_s=None)
    policy.failed(1.0, ready_s=None)
    assert policy.failed(10.0, ready_s=SETTLED_S) == 0.0
    assert policy.failed(11.0, ready_s=SETTLED_S - 0.1) == 0.2


def test_a_process_that_had_settled_costs_nothing() -> None:
    # prevents: a slot given up because something else kills it again and again: it does start
    policy = make_policy(budget=2)
    assert all(policy.failed(float(n), ready_s=SETTLED_S) is not None for n in range(50))
    assert policy.failed(50.0, ready_s=SETTLED_S - 0.1) == 0.2
    assert policy.failed(50.1, ready_s=0.1) == 0.2
    assert policy.failed(50.2, ready_s=0.1) is None
