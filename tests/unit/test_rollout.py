"""Workers replaced one after the other: a history of events, without any process."""

from __future__ import annotations

import pytest

from farm.errors import ExitCode
from farm.supervisor.pool import Pool, SlotState
from farm.supervisor.restart import RestartPolicy
from farm.supervisor.rollout import Rollout


class Shell:
    """Starts what is due and ends what is told to leave, as the supervisor would."""

    def __init__(self, size: int) -> None:
        self.pool = Pool([str(n) for n in range(1, size + 1)], self._policy, ready_timeout_s=60.0)
        self.next_pid = 100
        self.now_s = 0.0
        self.start_due()
        self.come_up()

    @staticmethod
    def _policy() -> RestartPolicy:
        return RestartPolicy(initial_s=0.2, max_s=5.0, budget=100, window_s=60.0)

    def start_due(self) -> list[int]:
        started = []
        for slot in self.pool.due(self.now_s):
            self.pool.started(slot, self.next_pid, self.now_s)
            started.append(self.next_pid)
            self.next_pid += 1
        return started

    def come_up(self) -> None:
        self.pool.note_ready([s.pid for s in self.pool.running], self.now_s)

    def serving(self) -> int:
        return sum(s.state is SlotState.READY for s in self.pool.slots)


def test_one_after_the_other_is_replaced_and_there_are_never_fewer_than_before() -> None:
    shell = Shell(3)
    rollout = Rollout(shell.pool)
    left: list[int] = []
    for _ in range(20):
        leaving = rollout.step(shell.now_s)
        assert len(leaving) <= 1
        for pid in leaving:
            assert shell.serving() == 3  # its successor is there already
            left.append(pid)
            shell.pool.exited(pid, 0, shell.now_s)
        assert len(shell.start_due()) <= 1
        assert len(shell.pool.running) <= 4
        shell.come_up()
    assert rollout.is_over
    assert not rollout.failure
    assert left == [100, 101, 102]
    assert sorted(s.name for s in shell.pool.kept) == ["1", "2", "3"] == rollout.replaced


def test_the_next_one_waits_until_the_former_has_left() -> None:
    # prevents: a machine with room for eleven models that must hold twenty
    shell = Shell(2)
    rollout = Rollout(shell.pool)
    rollout.step(0.0)
    shell.start_due()
    assert rollout.step(0.0) == []  # the successor is not up yet
    shell.come_up()
    assert rollout.step(0.0) == [100]
    assert rollout.step(0.0) == []
    assert shell.start_due() == []
    shell.pool.exited(100, 0, 0.0)
    rollout.step(0.0)
    assert len(shell.start_due()) == 1


@pytest.mark.parametrize("was_ready", [False, True])
def test_a_successor_that_ends_too_early_stops_it_and_the_old_ones_stay(was_ready: bool) -> None:
    # prevents: ten workers replaced, one after the other, by ones that can't work
    shell = Shell(2)
    rollout = Rollout(shell.pool)
    rollout.step(0.0)
    [pid] = shell.start_due()
    if was_ready:
        shell.come_up()
    shell.pool.exited(pid, ExitCode.MODEL, 0.0)
    assert rollout.step(0.0) == []
    assert rollout.is_over
    assert rollout.failure == "exit code 8 (model)"
    assert [s.pid for s in shell.pool.slots] == [100, 101]
    assert shell.pool.due(1e9) == []


def test_a_worker_that_dies_meanwhile_is_replaced_by_its_successor() -> None:
    shell = Shell(1)
    rollout = Rollout(shell.pool)
    rollout.step(0.0)
    [successor] = shell.start_due()
    shell.pool.exited(100, 1, 0.0)  # waits for its back-off
    shell.come_up()
    assert rollout.step(0.1) == []
    assert rollout.is_over
    assert [s.pid for s in shell.pool.slots] == [successor]


def test_a_slot_that_was_given_up_gets_another_chance() -> None:
    # prevents: a farm that must be restarted after a wrong model was mended
    shell = Shell(1)
    slot = shell.pool.slots[0]
    slot.move(SlotState.FAILED)
    slot.pid = 0
    rollout = Rollout(shell.pool)
    assert rollout.step(0.0) == []
    assert rollout.is_over
    assert len(shell.start_due()) == 1


def test_who_is_scaled_away_meanwhile_is_not_replaced() -> None:
    shell = Shell(2)
    rollout = Rollout(shell.pool)
    rollout.step(0.0)
    shell.start_due()
    shell.come_up()
    assert rollout.step(0.0) == [100]
    for pid in shell.pool.scale(1, 0.0):
        shell.pool.exited(pid, 0, 0.0)
    shell.pool.exited(100, 0, 0.0)
    assert rollout.step(0.0) == []
    assert rollout.is_over
    assert len(shell.pool.slots) == 1


@pytest.mark.parametrize("has_left", [False, True])
def test_who_is_scaled_away_while_it_is_replaced_takes_its_successor_along(has_left: bool) -> None:
    # prevents: a supervisor that falls over two orders at a time, and the farm with it
    shell = Shell(2)
    rollout = Rollout(shell.pool, ["2"])
    rollout.step(0.0)
    [successor] = shell.start_due()
    assert shell.pool.scale(1, 0.0) == [101]
    if has_left:
        shell.pool.exited(101, 0, 0.0)
    shell.come_up()
    assert rollout.step(0.0) == [successor]
    assert rollout.is_over
    assert not rollout.failure
    assert [slot.name for slot in shell.pool.kept] == ["1"]
