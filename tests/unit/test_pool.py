"""One slot per process: a history of events, without any process. Times are seconds."""

from __future__ import annotations

import signal

import pytest

from farm.errors import ExitCode
from farm.supervisor.pool import Pool, Slot, SlotState, describe_end
from farm.supervisor.restart import MAX_STILLBORN, RestartPolicy


def make_pool(size: int = 2, budget: int = 100) -> Pool:
    def policy() -> RestartPolicy:
        return RestartPolicy(initial_s=0.2, max_s=5.0, budget=budget, window_s=60.0)

    return Pool([str(n) for n in range(1, size + 1)], policy, ready_timeout_s=60.0)


def start(pool: Pool, now_s: float = 0.0, first_pid: int = 100) -> list[int]:
    """Start all that is due; returns the pids."""
    pids = []
    for offset, slot in enumerate(pool.due(now_s)):
        pool.started(slot, first_pid + offset, now_s)
        pids.append(slot.pid)
    return pids


def test_all_slots_are_due_at_first_and_none_twice() -> None:
    pool = make_pool()
    assert start(pool) == [100, 101]
    assert pool.due(0.0) == []
    assert len(pool.running) == 2


def test_an_exit_frees_the_slot_and_it_starts_again_after_the_back_off() -> None:
    pool = make_pool()
    start(pool)
    slot = pool.exited(100, -signal.SIGKILL, 50.0)
    assert slot is not None
    assert (slot.state, slot.pid) == (SlotState.WAITING, 0)
    assert pool.due(50.1) == []
    assert [s.name for s in pool.due(50.2)] == ["1"]


def test_a_slot_whose_process_had_settled_starts_again_at_once() -> None:
    pool = make_pool()
    start(pool)
    pool.note_ready([100, 101], 0.0)
    pool.exited(100, -signal.SIGKILL, 50.0)
    assert [s.name for s in pool.due(50.0)] == ["1"]


def test_a_start_that_is_known_to_fail_counts_like_one_that_did() -> None:
    # prevents: a farm that goes on without a worker, since only its nursery has seen the bad model
    pool = make_pool(size=2)
    for slot in pool.due(0.0):
        pool.not_worth_starting(slot, ExitCode.MODEL, 0.0)
    assert pool.is_hopeless
    assert pool.failed == [(1, "exit code 8 (model)"), (2, "exit code 8 (model)")]


def test_only_a_process_that_was_started_just_now_is_fresh() -> None:
    pool = make_pool(size=1)
    assert not pool.has_started_since(0.0)
    start(pool, 10.0)
    assert pool.has_started_since(9.0)
    assert not pool.has_started_since(10.5)
    pool.note_ready([100], 10.1)
    assert not pool.has_started_since(9.0)


def test_an_exit_of_a_process_that_is_not_ours_is_nobodys() -> None:
    pool = make_pool()
    assert pool.exited(999, 0, 0.0) is None
    start(pool)
    pool.exited(100, 0, 1.0)
    assert pool.exited(100, 0, 1.0) is None  # reported twice


def test_only_the_pid_that_runs_now_becomes_ready() -> None:
    # a READY of the former incarnation must not hide that the new one hangs
    pool = make_pool(size=1)
    start(pool)
    pool.exited(100, 1, 1.0)
    start(pool, 2.0, first_pid=200)
    pool.note_ready([100], 0.0)
    assert pool.slots[0].state is SlotState.STARTING
    pool.note_ready([200], 0.0)
    assert pool.slots[0].state is SlotState.READY


def test_a_process_that_does_not_come_up_in_time_is_named_once_for_the_kill() -> None:
    pool = make_pool()
    start(pool, 1000.0)
    pool.note_ready([100], 0.0)
    assert pool.never_ready(1060.0) == []
    assert [slot.pid for slot in pool.never_ready(1060.1)] == [101]
    assert pool.condemn(101)
    assert pool.never_ready(1061.0) == []
    assert not pool.condemn(101)  # a second kill could hit a process that took over the pid
    slot = pool.exited(101, -signal.SIGKILL, 1061.0)
    assert slot is not None
    assert slot.last_end == "killed by the supervisor (SIGKILL)"


def test_the_next_process_of_a_slot_may_be_late_as_well() -> None:
    pool = make_pool(size=1)
    start(pool)
    pool.condemn(100)
    pool.exited(100, -signal.SIGKILL, 61.0)
    start(pool, 70.0, first_pid=200)
    assert [slot.pid for slot in pool.never_ready(131.0)] == [200]


def test_a_slot_that_never_came_up_is_given_up_and_more_than_half_is_hopeless() -> None:
    pool = make_pool(size=2)
    now_s = 0.0
    for slot in pool.slots:
        assert not pool.is_hopeless  # one of two is not more than half
        for attempt in range(MAX_STILLBORN):
            now_s += 100.0
            pool.started(slot, 1000 + attempt, now_s)
            pool.exited(1000 + attempt, ExitCode.FAILURE, now_s)
        assert slot.state is SlotState.FAILED
        assert slot not in pool.due(1e9)
    assert pool.is_hopeless


@pytest.mark.parametrize(
    ("size", "gpus", "failed", "is_hopeless"),
    [
        (1, 2, ("gpu0", "gpu1"), False),  # the one without serves
        (3, 4, ("gpu0", "gpu1", "gpu2", "gpu3"), False),
        (3, 4, ("gpu0", "gpu1", "1", "2"), True),
        (1, 1, ("1",), False),  # the GPU serves
        (2, 1, ("1", "2"), True),
        (0, 2, ("gpu0",), False),
        (0, 2, ("gpu0", "gpu1"), True),
    ],
)
def test_gpus_that_can_not_be_used_do_not_end_a_farm_whose_other_workers_serve(
    size: int, gpus: int, failed: tuple[str, ...], is_hopeless: bool
) -> None:
    """A driver that was updated takes down the workers that need none of it."""
    policy = make_pool(size=1).slots[0].policy
    names = [str(n) for n in range(1, size + 1)]
    pool = Pool(names, lambda: policy, ready_timeout_s=60, fixed=[f"gpu{n}" for n in range(gpus)])
    for slot in pool.slots:
        if slot.name in failed:
            pool.not_worth_starting(slot, ExitCode.MODEL, 0.0)
    assert pool.is_hopeless is is_hopeless


def test_a_model_that_no_worker_could_load_is_given_up_at_once() -> None:
    # prevents: half a minute of restarts over a model whose name is spelled wrong
    pool = make_pool(size=3)
    start(pool)
    for pid in (100, 101):
        assert not pool.is_hopeless
        slot = pool.exited(pid, ExitCode.MODEL, 1.0)
        assert slot is not None
        assert slot.state is SlotState.FAILED
    assert pool.is_hopeless


def test_a_model_that_a_worker_has_loaded_is_tried_again() -> None:
    # prevents: a farm that shrinks because a loaded machine failed one restart
    pool = make_pool()
    start(pool)
    pool.note_ready([100], 0.0)
    slot = pool.exited(101, ExitCode.MODEL, 1.0)
    assert slot is not None
    assert slot.state is SlotState.WAITING


def test_a_slot_that_was_given_up_never_starts_again() -> None:
    slot = Slot("1", make_pool().slots[0].policy, state=SlotState.FAILED)
    with pytest.raises(AssertionError, match="FAILED"):
        slot.move(SlotState.STARTING)


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "exit code 0 (ok)"),
        (8, "exit code 8 (model)"),
        (77, "exit code 77"),
        (-9, "killed by SIGKILL"),
        (-11, "killed by SIGSEGV"),
        (-99, "killed by signal 99"),
    ],
)
def test_an_end_is_told_in_words(returncode: int, words: str) -> None:
    assert describe_end(returncode) == words


def test_a_kill_by_the_kernel_is_told_as_such_and_never_of_another_signal() -> None:
    # prevents: hours spent on a worker that "was killed", while the machine has too little memory
    assert describe_end(-9, is_out_of_memory=True).startswith("killed by the kernel: out of memory")
    assert describe_end(-11, is_out_of_memory=True) == "killed by SIGSEGV"
    assert describe_end(-9, by_us=True, is_out_of_memory=True).startswith(
        "killed by the supervisor"
    )


def test_scaling_up_takes_the_free_numbers_and_down_the_highest() -> None:
    pool = make_pool(size=3)
    start(pool)
    assert pool.scale(1, 10.0) == [102, 101]
    assert [s.name for s in pool.kept] == ["1"]
    assert pool.scale(3, 11.0) == []
    # 2 and 3 are still on their way out: their numbers would stand for two processes each
    assert [s.name for s in pool.due(11.0)] == ["4", "5"]
    for pid in (101, 102):
        left = pool.exited(pid, 0, 12.0)
        assert left is not None
        assert left.state is SlotState.RETIRING
    assert sorted(s.name for s in pool.slots) == ["1", "4", "5"]


def test_a_retired_worker_is_not_started_again_however_it_ends() -> None:
    pool = make_pool(size=2)
    start(pool)
    pool.scale(1, 10.0)
    pool.exited(101, -signal.SIGKILL, 11.0)
    assert [s.name for s in pool.slots] == ["1"]
    assert pool.due(1e9) == []


def test_a_worker_that_was_told_to_leave_and_does_not_is_named_once_for_the_kill() -> None:
    pool = make_pool(size=1)
    start(pool)
    pool.scale(0, 10.0)
    assert pool.overdue(40.0) == []
    assert [s.pid for s in pool.overdue(40.1)] == [100]
    assert pool.condemn(100)
    assert pool.overdue(41.0) == []


def test_a_slot_without_a_process_is_scaled_away_at_once() -> None:
    pool = make_pool(size=2)
    assert pool.scale(1, 0.0) == []
    assert len(pool.slots) == 1
    assert not pool.is_hopeless


def test_what_keeps_a_process_from_its_state_directory_is_waited_out_once_it_was_up() -> None:
    # prevents: a farm given up over a disk that was full for a minute
    pool = make_pool(size=1)
    start(pool)
    pool.note_ready([100], 1.0)
    pool.exited(100, -signal.SIGKILL, 2.0)
    for n in range(MAX_STILLBORN + 5):
        now_s = 10.0 * (n + 1)
        [pid] = start(pool, now_s, first_pid=200 + n)
        slot = pool.exited(pid, ExitCode.LOCKED, now_s)
        assert slot is not None
        assert slot.state is SlotState.WAITING


def test_a_worker_that_the_broker_does_not_know_any_more_is_named_once_for_the_kill() -> None:
    # prevents: a worker that was stopped while the broker was replaced, and is missed by nobody
    pool = make_pool(size=2)
    start(pool)
    pool.note_ready([100, 101], 1.0)
    assert pool.unknown(11.0, 10.0) == []
    pool.note_silence(50.0)  # the broker was away: neither can be blamed for that
    pool.note_ready([100], 51.0)
    assert pool.unknown(60.0, 10.0) == []
    pool.note_ready([100], 60.0)
    assert [s.pid for s in pool.unknown(60.1, 10.0)] == [101]
    assert pool.condemn(101)
    assert pool.unknown(60.1, 10.0) == []


def test_a_worker_that_never_came_up_is_not_asked_for() -> None:
    pool = make_pool(size=1)
    start(pool)
    assert pool.unknown(1e9, 10.0) == []


def test_scaling_down_lets_go_of_those_first_that_were_given_up() -> None:
    # prevents: a farm that ends, since it kept the failed slots and sent the healthy ones away
    pool = make_pool(size=3)
    start(pool)
    pool.exited(100, ExitCode.MODEL, 1.0)  # no worker had loaded it: given up at once
    assert pool.slots[0].state is SlotState.FAILED
    pool.note_ready([101, 102], 2.0)
    assert pool.scale(2, 3.0) == []
    assert [slot.name for slot in pool.kept] == ["2", "3"]
    assert not pool.is_hopeless


def fixed_pool() -> Pool:
    """Two numbered slots, and those of two workers with a GPU."""

    def policy() -> RestartPolicy:
        return RestartPolicy(initial_s=0.2, max_s=5.0, budget=100, window_s=60.0)

    return Pool(["1", "2"], policy, ready_timeout_s=60.0, fixed=["gpu0", "gpu1"])


def test_fixed_slots_are_kept_whatever_the_scale() -> None:
    """A GPU that loses its worker since an operator asked for fewer; or that counts as one."""
    pool = fixed_pool()
    assert start(pool) == [100, 101, 102, 103]
    assert sorted(pool.scale(0, 1.0)) == [100, 101]
    assert sorted(slot.name for slot in pool.kept) == ["gpu0", "gpu1"]
    pool.scale(3, 2.0)
    assert len(pool.numbered) == 3
    assert len(pool.kept) == 5
    assert pool.told_fixed == {"gpu0": "", "gpu1": ""}


def test_a_fixed_slot_that_was_given_up_is_told_by_name() -> None:
    """A supervisor that ends over a name which is no number."""
    pool = fixed_pool()
    start(pool)
    pool.exited(102, ExitCode.MODEL, 1.0)
    assert pool.told_fixed == {"gpu0": "exit code 8 (model)", "gpu1": ""}
    assert pool.failed == []
    assert not pool.is_hopeless
