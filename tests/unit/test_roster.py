"""Which workers there are, alive and idle. Times are monotonic seconds."""

from __future__ import annotations

from farm.broker.roster import Roster, Worker, WorkerState


def make_roster() -> Roster:
    return Roster(heartbeat_timeout_s=5.0, first_id=1000)


def join(roster: Roster, *, pid: int = 1, now_s: float = 0.0, local: bool = True) -> Worker:
    return roster.hello(name=str(pid), host="here", pid=pid, local=local, now_s=now_s)


def ready(roster: Roster, *, pid: int = 1, now_s: float = 0.0) -> Worker:
    worker = join(roster, pid=pid, now_s=now_s)
    roster.become(worker, WorkerState.IDLE)
    return worker


def test_every_hello_gets_an_id_of_its_own() -> None:
    # a worker that was fenced and returns must not be taken for the one that was fenced
    roster = make_roster()
    assert [join(roster).worker_id, join(roster).worker_id] == [1000, 1001]


def test_a_worker_is_idle_only_once_its_model_is_ready() -> None:
    roster = make_roster()
    worker = join(roster)
    assert (roster.idle, roster.ready) == (0, 0)
    roster.become(worker, WorkerState.IDLE)
    assert (roster.idle, roster.ready) == (1, 1)


def test_a_job_makes_busy_and_its_end_makes_idle() -> None:
    roster = make_roster()
    worker = ready(roster)
    roster.take_up(worker, 7, 1.0)
    assert (worker.state, roster.idle, roster.ready) == (WorkerState.BUSY, 0, 1)
    roster.lay_down(worker, 7)
    assert (worker.state, roster.idle, worker.current) == (WorkerState.IDLE, 1, None)


def test_the_result_of_another_job_does_not_make_a_busy_worker_idle() -> None:
    # it would be given credit for work that it can only bounce
    roster = make_roster()
    worker = ready(roster)
    roster.take_up(worker, 7, 1.0)
    roster.lay_down(worker, 6)
    assert (worker.state, roster.idle) == (WorkerState.BUSY, 0)


def test_a_draining_worker_is_never_idle_again() -> None:
    roster = make_roster()
    worker = ready(roster)
    roster.take_up(worker, 7, 1.0)
    roster.become(worker, WorkerState.DRAINING)
    roster.lay_down(worker, 7)
    roster.take_up(worker, 8, 2.0)
    assert (worker.state, roster.idle, roster.ready) == (WorkerState.DRAINING, 0, 0)


def test_removing_keeps_the_count_of_the_idle() -> None:
    roster = make_roster()
    idle, busy = ready(roster, pid=1), ready(roster, pid=2)
    roster.take_up(busy, 7, 1.0)
    assert roster.remove(busy.worker_id) is busy
    assert roster.idle == 1
    assert roster.remove(idle.worker_id) is idle
    assert roster.remove(idle.worker_id) is None
    assert roster.idle == 0
    assert roster.get(idle.worker_id) is None


def test_silence_counts_from_the_last_message_of_any_kind() -> None:
    roster = make_roster()
    worker = join(roster, now_s=0.0)
    assert roster.silent(5.0) == ()
    assert roster.silent(5.1) == (worker,)
    assert roster.heard(worker.worker_id, 5.1) is worker
    assert roster.silent(10.1) == ()


def test_a_fenced_worker_that_speaks_again_is_nobody() -> None:
    roster = make_roster()
    worker = join(roster)
    roster.remove(worker.worker_id)
    assert roster.heard(worker.worker_id, 1.0) is None


def test_a_worker_is_stuck_after_the_deadline_whatever_its_heartbeat_says() -> None:
    # a Python loop keeps its heartbeat while the model hangs
    roster = make_roster()
    worker = ready(roster)
    roster.take_up(worker, 7, 1.0)
    roster.heard(worker.worker_id, 11.0)
    assert roster.stuck(11.0, 10.0) == ()
    assert roster.stuck(11.1, 10.0) == (worker,)
    assert roster.stuck(6.1, 5.0) == (worker,)  # the limit follows what jobs take
    roster.lay_down(worker, 7)
    assert roster.stuck(99.0, 10.0) == ()


def test_a_worker_beyond_the_memory_limit_is_named_and_without_a_limit_nobody() -> None:
    # prevents: a leak that ends with the machine's memory, and whichever process the kernel picks
    roster = make_roster()
    lean, fat = ready(roster, pid=1), ready(roster, pid=2)
    assert roster.over_memory(1) == ()  # nobody has told yet
    lean.rss_bytes, fat.rss_bytes = 1000, 1001
    assert roster.over_memory(1000) == (fat,)
    assert roster.over_memory(0) == ()


def test_only_local_workers_are_found_by_pid() -> None:
    # pids of another machine mean another process here
    roster = make_roster()
    here = join(roster, pid=5)
    join(roster, pid=5, local=False)
    assert roster.of_pid(5) == (here,)
    assert len(roster.all()) == 2
