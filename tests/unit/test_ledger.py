"""Where every job is, and that each has one end. Times are monotonic seconds."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farm.broker.ledger import ORPHAN_GRACE_S, Entry, JobState, Ledger


def make_ledger() -> Ledger:
    return Ledger(claim_timeout_s=1.0, job_timeout_s=10.0, max_attempts=3)


def entry(job_id: int, size: int = 100) -> Entry:
    return Entry(job_id, ("box/tool", str(job_id)), {"trace": b""}, size, 0.0, 0.0, 0.0)


def filled(*job_ids: int) -> Ledger:
    ledger = make_ledger()
    for job_id in job_ids:
        ledger.add(entry(job_id))
    return ledger


def send(ledger: Ledger, now_s: float = 0.0, *, idle_workers: int = 99) -> int | None:
    """Send the next job, if there is one to send."""
    found = ledger.next_to_send(idle_workers=idle_workers)
    if found is None:
        return None
    ledger.sent(found, now_s)
    return found.job_id


def backlog(ledger: Ledger) -> list[int | None]:
    return [send(ledger) for _ in range(ledger.waiting)]


def test_jobs_leave_in_the_order_in_which_they_came() -> None:
    assert backlog(filled(1, 2, 3)) == [1, 2, 3]


def test_credit_never_exceeds_the_idle_workers() -> None:
    # blind PUSH fills the queue of a busy worker while another one idles
    ledger = filled(1, 2, 3)
    assert send(ledger, idle_workers=0) is None
    assert [send(ledger, idle_workers=2) for _ in range(3)] == [1, 2, None]
    ledger.claim(1, 50, 0.1)
    assert send(ledger, idle_workers=2) == 3


def test_a_bounced_job_goes_to_the_head() -> None:
    ledger = filled(1, 2, 3)
    send(ledger)
    assert ledger.bounce(1)
    assert backlog(ledger) == [1, 2, 3]
    again = ledger.get(1)
    assert again is not None
    assert again.sends == 2  # each is told as an attempt


def test_a_bounce_of_a_job_that_is_not_on_the_wire_changes_nothing() -> None:
    ledger = filled(1)
    assert not ledger.bounce(1)
    send(ledger)
    ledger.claim(1, 50, 0.0)
    assert not ledger.bounce(1)
    assert not ledger.bounce(77)
    assert (ledger.waiting, ledger.on_wire, ledger.claimed) == (0, 0, 1)


def test_jobs_whose_worker_died_go_to_the_head_in_their_order() -> None:
    ledger = filled(1, 2, 3)
    send(ledger), send(ledger)
    ledger.claim(1, 50, 0.0)
    ledger.claim(2, 50, 0.0)
    assert ledger.worker_gone(50, 1.0) == []
    assert backlog(ledger) == [1, 2, 3]


def test_the_death_of_another_worker_does_not_touch_a_claimed_job() -> None:
    ledger = filled(1)
    send(ledger)
    ledger.claim(1, 50, 0.0)
    assert ledger.worker_gone(51, 1.0) == []
    assert ledger.claimed == 1


def test_an_unclaimed_job_is_sent_again_after_the_claim_timeout_and_counted() -> None:
    ledger = filled(1, 2)
    send(ledger, 5.0), send(ledger, 5.5)
    assert ledger.reclaim_unclaimed(5.99) == 0
    assert ledger.reclaim_unclaimed(6.0) == 1
    assert backlog(ledger) == [1]
    assert ledger.on_wire == 2


def test_what_a_dead_worker_may_have_swallowed_unclaimed_is_sent_again_soon() -> None:
    ledger = filled(1)
    send(ledger, 5.0)
    ledger.worker_gone(50, 5.1)
    assert ledger.reclaim_unclaimed(5.1 + ORPHAN_GRACE_S - 0.01) == 0
    assert ledger.reclaim_unclaimed(5.1 + ORPHAN_GRACE_S) == 1


def test_a_death_never_lengthens_the_wait_for_a_claim() -> None:
    ledger = filled(1)
    send(ledger, 5.0)
    ledger.worker_gone(50, 5.95)
    assert ledger.reclaim_unclaimed(6.0) == 1


def test_only_the_first_result_of_a_job_counts() -> None:
    ledger = filled(1)
    send(ledger)
    ended = ledger.end(1)
    assert ended is not None
    assert ended.state is JobState.ENDED
    assert ledger.end(1) is None
    assert not ledger.claim(1, 50, 1.0)


def test_a_late_claim_of_a_job_sent_again_counts_and_the_first_result_wins() -> None:
    ledger = filled(1)
    send(ledger, 0.0)
    ledger.reclaim_unclaimed(1.0)
    assert ledger.claim(1, 50, 1.1)  # it was only slow; the job is not sent a second time
    assert ledger.waiting == 0
    assert ledger.end(1) is not None


def test_a_job_that_costs_three_workers_is_given_up() -> None:
    # a poison hole must not kill worker after worker for ever
    ledger = filled(1)
    for worker_id in (50, 51):
        send(ledger)
        ledger.claim(1, worker_id, 0.0)
        assert ledger.worker_gone(worker_id, 1.0) == []
    send(ledger)
    ledger.claim(1, 52, 0.0)
    [poison] = ledger.worker_gone(52, 1.0)
    assert (poison.job_id, poison.deaths) == (1, 3)
    assert ledger.end(1) is poison
    assert len(ledger) == 0


def test_a_job_is_not_given_up_while_another_worker_computes_it() -> None:
    ledger = filled(1)
    for worker_id in (50, 51):
        send(ledger)
        ledger.claim(1, worker_id, 0.0)
        ledger.worker_gone(worker_id, 1.0)
    send(ledger)
    ledger.claim(1, 52, 2.0)
    ledger.claim(1, 53, 2.1)
    assert ledger.worker_gone(52, 3.0) == []  # the third death, but 53 may yet bring it home
    assert ledger.claimed == 1
    assert [e.job_id for e in ledger.worker_gone(53, 4.0)] == [1]


def test_a_job_over_its_deadline_names_the_worker_at_fault_and_no_other() -> None:
    ledger = filled(1, 2)
    send(ledger), send(ledger)
    ledger.claim(1, 50, 0.0)
    ledger.claim(1, 51, 5.0)
    ledger.claim(2, 52, 5.0)
    assert ledger.overdue(9.9) == []
    assert [(e.job_id, worker_id) for e, worker_id in ledger.overdue(10.0)] == [(1, 50)]
    ledger.worker_gone(50, 10.0)
    assert ledger.overdue(11.0) == []


def test_bytes_are_counted_while_a_job_is_open() -> None:
    ledger = make_ledger()
    ledger.add(entry(1, size=100))
    ledger.add(entry(2, size=7))
    ledger.end(1)
    assert ledger.open_bytes == 7


def test_an_illegal_transition_is_a_bug_and_says_so() -> None:
    ended = entry(1)
    ended.move(JobState.ENDED)
    with pytest.raises(AssertionError, match="job 1"):
        ended.move(JobState.SENT)


class LedgerMachine(RuleBasedStateMachine):
    """Any order of sends, claims, bounces, deaths and results."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = make_ledger()
        self.now_s = 0.0
        self.added: set[int] = set()
        self.ended: list[int] = []

    jobs = st.integers(1, 8)
    workers = st.integers(50, 53)

    @rule()
    def add(self) -> None:
        job_id = len(self.added) + 1
        self.added.add(job_id)
        self.ledger.add(entry(job_id))

    @rule(idle_workers=st.integers(0, 4))
    def send(self, idle_workers: int) -> None:
        before = self.ledger.on_wire
        if send(self.ledger, self.now_s, idle_workers=idle_workers) is not None:
            assert before < idle_workers

    @precondition(lambda self: self.added)
    @rule(job_id=jobs, worker_id=workers)
    def claim(self, job_id: int, worker_id: int) -> None:
        is_open = self.ledger.get(job_id) is not None
        assert self.ledger.claim(job_id, worker_id, self.now_s) == is_open

    @rule(job_id=jobs)
    def bounce(self, job_id: int) -> None:
        self.ledger.bounce(job_id)

    @rule(job_id=jobs)
    def end(self, job_id: int) -> None:
        if self.ledger.end(job_id):
            self.ended.append(job_id)

    @rule(worker_id=workers)
    def worker_gone(self, worker_id: int) -> None:
        for exhausted in self.ledger.worker_gone(worker_id, self.now_s):
            assert exhausted.deaths >= 3
            assert self.ledger.end(exhausted.job_id) is exhausted
            self.ended.append(exhausted.job_id)

    @rule(pause_s=st.sampled_from([0.1, 0.3, 1.0, 12.0]))
    def time_passes(self, pause_s: float) -> None:
        self.now_s += pause_s
        self.ledger.reclaim_unclaimed(self.now_s)
        for job, worker_id in self.ledger.overdue(self.now_s):
            assert worker_id in job.claims

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        ledger = self.ledger
        assert ledger.waiting + ledger.on_wire + ledger.claimed == len(ledger)
        assert len(ledger) == len(self.added) - len(self.ended)
        assert ledger.open_bytes == 100 * len(ledger)
        states = {
            JobState.WAITING: ledger._backlog,
            JobState.SENT: ledger._sent,
            JobState.CLAIMED: ledger._claimed,
        }
        for job in ledger._entries.values():
            assert [state for state, jobs in states.items() if job.job_id in jobs] == [job.state]
            assert bool(job.claims) == (job.state is JobState.CLAIMED)

    @invariant()
    def no_job_ends_twice(self) -> None:
        assert len(self.ended) == len(set(self.ended))


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
