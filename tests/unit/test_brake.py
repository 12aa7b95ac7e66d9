"""When the intake waits, and when holes are shed. Times are monotonic seconds."""

from __future__ import annotations

import pytest

from farm.broker.brake import Brake


def brake(policy: str = "oldest") -> Brake:
    return Brake(policy=policy, after_s=30.0)


def test_a_short_wait_sheds_nothing() -> None:
    made = brake()
    assert not made.update(0.0, is_full=True)
    assert not made.update(29.9, is_full=True)
    assert made.is_on
    assert made.on_for_s(29.9) == 29.9
    assert not made.update(30.0, is_full=False)
    assert not made.is_on
    assert not made.update(31.0, is_full=True)  # the clock begins anew


def test_a_long_wait_sheds_and_goes_on_while_it_lasts() -> None:
    # prevents: 30 s of standstill after each handful of holes that were shed
    made = brake()
    made.update(0.0, is_full=True)
    assert made.update(30.0, is_full=True)
    assert not made.update(30.1, is_full=False)
    assert made.update(31.0, is_full=True)
    assert made.is_shedding


def test_shedding_ends_after_a_calm_as_long_as_the_wait() -> None:
    made = brake()
    made.update(0.0, is_full=True)
    made.update(30.0, is_full=True)
    made.update(31.0, is_full=False)
    made.update(60.9, is_full=False)
    assert made.is_shedding
    made.update(61.0, is_full=False)
    assert not made.is_shedding
    assert not made.update(62.0, is_full=True)


@pytest.mark.parametrize("after_s", [0.0, 1000.0])
def test_without_a_policy_nothing_is_ever_shed(after_s: float) -> None:
    made = brake("never")
    made.update(0.0, is_full=True)
    assert not made.update(after_s, is_full=True)


def test_without_a_wait_it_sheds_at_once() -> None:
    made = Brake(policy="newest", after_s=0.0)
    assert made.update(0.0, is_full=True)
