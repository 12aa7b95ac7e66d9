"""Where every job is, and that each has one end. Times are monotonic seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farm.broker.entry import Entry, JobState
from farm.broker.ledger import ORPHAN_GRACE_S, Ledger

MAX_ATTEMPTS = 3
JOB_TIMEOUT_S = 10.0


def make_ledger() -> Ledger:
    return Ledger(claim_timeout_s=1.0, max_attempts=MAX_ATTEMPTS, objective_s=1000.0, late_share=4)


def entry(job_id: int, size: int = 100, **changes: Any) -> Entry:
    parts = {"trace": bytes(size)}
    return Entry(job_id, ("box/tool", str(job_id)), parts, size, 0.0, 0.0, 0.0, **changes)


def filled(*job_ids: int) -> Ledger:
    ledger = make_ledger()
    for job_id in job_ids:
        ledger.add(entry(job_id))
    return ledger


def send(ledger: Ledger, now_s: float = 0.0, *, idle_workers: int = 99) -> int | None:
    """Send the next job, if there is one to send."""
    found = ledger.next_to_send(now_s, idle_workers=idle_workers)
    if found is None:
        return None
    ledger.sent(found, now_s)
    return found.job_id


def backlog(ledger: Ledger) -> list[int | None]:
    return [send(ledger) for _ in range(ledger.waiting)]


def computed_by(ledger: Ledger, worker_id: int, *job_ids: int, now_s: float = 0.0) -> None:
    """The worker gets these jobs, which are the next ones."""
    for job_id in job_ids:
        assert send(ledger, now_s) == job_id
        ledger.claim(job_id, worker_id, now_s)


def lose(
    ledger: Ledger,
    worker_id: int,
    now_s: float = 1.0,
    *,
    naming: set[int] | None = None,
    is_blaming: bool = True,
) -> tuple[list[int], list[int]]:
    """The worker is gone, and its slot named these jobs; ids of the blamed and the exhausted."""
    loss = ledger.worker_gone(
        worker_id,
        now_s,
        computing=None if naming is None else frozenset(naming),
        is_blaming=is_blaming,
        who="7",
        cause="killed by SIGSEGV",
    )
    for each in loss.exhausted:
        assert ledger.end(each.job_id) is each
    return [e.job_id for e in loss.blamed], [e.job_id for e in loss.exhausted]


def story(found: Entry | None) -> list[tuple[str, str]]:
    assert found is not None
    [[_, _, events]] = found.story.told()
    return [(what, detail) for _, what, detail in events]


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
    assert ledger.bounce(1, 0.0)
    assert backlog(ledger) == [1, 2, 3]
    again = ledger.get(1)
    assert again is not None
    assert again.sends == 2  # each is told as an attempt


def test_a_bounce_of_a_job_that_is_not_on_the_wire_changes_nothing() -> None:
    ledger = filled(1)
    assert not ledger.bounce(1, 0.0)
    send(ledger)
    ledger.claim(1, 50, 0.0)
    assert not ledger.bounce(1, 0.0)
    assert not ledger.bounce(77, 0.0)
    assert (ledger.waiting, ledger.on_wire, ledger.claimed) == (0, 0, 1)


def test_jobs_whose_worker_died_go_to_the_head_in_their_order() -> None:
    ledger = filled(1, 2, 3)
    computed_by(ledger, 50, 1, 2)
    assert lose(ledger, 50, naming=set()) == ([], [])
    assert backlog(ledger) == [1, 2, 3]


def test_the_death_of_another_worker_does_not_touch_a_claimed_job() -> None:
    ledger = filled(1)
    computed_by(ledger, 50, 1)
    assert lose(ledger, 51) == ([], [])
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
    lose(ledger, 50, 5.1, naming=set())
    assert ledger.reclaim_unclaimed(5.1 + ORPHAN_GRACE_S - 0.01) == 0
    assert ledger.reclaim_unclaimed(5.1 + ORPHAN_GRACE_S) == 1


def test_a_death_never_lengthens_the_wait_for_a_claim() -> None:
    ledger = filled(1)
    send(ledger, 5.0)
    lose(ledger, 50, 5.95)
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


def test_a_job_over_its_deadline_names_the_worker_at_fault_and_no_other() -> None:
    ledger = filled(1, 2)
    send(ledger), send(ledger)
    ledger.claim(1, 50, 0.0)
    ledger.claim(1, 51, 5.0)
    ledger.claim(2, 52, 5.0)
    assert ledger.overdue(9.9, JOB_TIMEOUT_S) == []
    assert [(e.job_id, w) for e, w in ledger.overdue(10.0, JOB_TIMEOUT_S)] == [(1, 50)]
    assert len(ledger.overdue(10.0, 5.0)) == 3  # the limit follows what jobs take
    lose(ledger, 50, 10.0)
    assert ledger.overdue(11.0, JOB_TIMEOUT_S) == []


# ---- whom to blame -------------------------------------------------------------------------------


def test_a_job_that_costs_three_workers_is_given_up() -> None:
    # a poison hole must not kill worker after worker for ever
    ledger = filled(1)
    for worker_id in (50, 51):
        computed_by(ledger, worker_id, 1)
        assert lose(ledger, worker_id, naming={1}) == ([1], [])
    computed_by(ledger, 52, 1)
    assert lose(ledger, 52, naming={1}) == ([1], [1])
    assert len(ledger) == 0


def test_without_a_slot_the_claims_are_blamed() -> None:
    # a worker of another host can't be looked into
    ledger = filled(1, 2)
    computed_by(ledger, 50, 1)
    send(ledger)
    assert lose(ledger, 50, naming=None) == ([1], [])
    assert ledger.on_wire == 1


def test_a_job_whose_claim_was_lost_in_the_crash_is_blamed_all_the_same() -> None:
    # prevents: a hole that kills within a millisecond of its claim, for ever, blamed never
    ledger = filled(1, 2)
    for worker_id in (50, 51):
        send(ledger)
        assert lose(ledger, worker_id, naming={1}) == ([1], [])
        assert ledger.waiting == 2  # and it does not wait for a claim that can't come
    send(ledger)
    assert lose(ledger, 52, naming={1}) == ([1], [1])


def test_a_job_that_was_taken_back_before_the_death_was_noticed_is_blamed() -> None:
    ledger = filled(1, 2)
    send(ledger, 0.0)
    ledger.reclaim_unclaimed(1.0)
    assert lose(ledger, 50, naming={1}) == ([1], [])
    assert backlog(ledger) == [1, 2]


def test_a_job_whose_result_was_lost_with_its_worker_is_not_blamed() -> None:
    # prevents: good holes given up since workers die of something else right after them
    ledger = filled(1)
    for worker_id in range(50, 50 + 2 * MAX_ATTEMPTS):
        computed_by(ledger, worker_id, 1)
        assert lose(ledger, worker_id, naming=set()) == ([], [])
    again = ledger.get(1)
    assert again is not None
    assert (again.deaths, again.is_alone) == (0, False)


def test_of_a_batch_only_those_that_were_computed_are_blamed_and_travel_alone_from_then_on() -> (
    None
):
    ledger = filled(1, 2)
    computed_by(ledger, 50, 1, 2)
    assert lose(ledger, 50, naming={2}) == ([2], [])
    assert {e.job_id: e.is_alone for e in ledger.entries()} == {1: False, 2: True}


def test_jobs_that_are_given_up_together_are_so_in_their_order() -> None:
    # their answers are published in it
    ledger = make_ledger()
    for job_id in (1, 2):
        ledger.add(entry(job_id, deaths=MAX_ATTEMPTS - 1))
    computed_by(ledger, 52, 1, 2)
    assert lose(ledger, 52, naming={1, 2}) == ([1, 2], [1, 2])


def test_jobs_of_a_slot_that_have_ended_or_are_unknown_are_nobody() -> None:
    # the result came and the worker died before it cleared its slot
    ledger = filled(1)
    computed_by(ledger, 50, 1)
    ledger.end(1)
    assert lose(ledger, 50, naming={1, 77}) == ([], [])


def test_nobody_is_given_up_while_the_model_is_suspected() -> None:
    ledger = filled(1)
    for worker_id in range(50, 50 + 2 * MAX_ATTEMPTS):
        computed_by(ledger, worker_id, 1)
        assert lose(ledger, worker_id, naming={1}, is_blaming=False) == ([1], [])
    again = ledger.get(1)
    assert again is not None
    assert again.deaths == 0


def test_a_job_is_not_given_up_while_another_worker_computes_it() -> None:
    ledger = filled(1)
    for worker_id in (50, 51):
        computed_by(ledger, worker_id, 1)
        lose(ledger, worker_id)
    send(ledger)
    ledger.claim(1, 52, 2.0)
    ledger.claim(1, 53, 2.1)
    assert lose(ledger, 52, 3.0) == ([1], [])  # the third death, but 53 may yet bring it home
    assert ledger.claimed == 1
    assert lose(ledger, 53, 4.0) == ([1], [1])


def test_one_job_that_kills_is_tried_again_before_all_others() -> None:
    # its tool's later answers wait for it
    ledger = filled(1, 2, 3)
    computed_by(ledger, 50, 1)
    lose(ledger, 50, naming={1})
    assert backlog(ledger) == [1, 2, 3]


def test_while_several_jobs_kill_others_are_tried_between_them() -> None:
    # prevents: two workers with a bad model that give up hole after hole, two at a time, and the
    # breaker never sees more than two different ones
    ledger = filled(*range(1, 8))
    computed_by(ledger, 50, 1)
    computed_by(ledger, 51, 2)
    lose(ledger, 50, naming={1})
    computed_by(ledger, 52, 1)
    lose(ledger, 51, naming={2})
    assert send(ledger) == 3
    lose(ledger, 52, naming={1})
    assert backlog(ledger) == [4, 5, 2, 6, 7, 1]


def test_a_probe_that_kills_lets_another_be_the_next() -> None:
    # prevents: a farm that tries the one hole that does kill for ever, and all others wait
    ledger = filled(1, 2)
    computed_by(ledger, 50, 1)
    lose(ledger, 50, naming={1}, is_blaming=False)
    assert backlog(ledger) == [2, 1]


def test_kills_of_a_former_life_count() -> None:
    # prevents: a poisoned hole that takes the broker's restarts for a pardon
    ledger = make_ledger()
    ledger.add(entry(1, deaths=MAX_ATTEMPTS - 1))
    computed_by(ledger, 50, 1)
    assert lose(ledger, 50, naming={1}) == ([1], [1])


def test_the_story_tells_who_had_it_and_how_that_ended() -> None:
    ledger = filled(1)
    send(ledger)
    ledger.bounce(1, 0.1)
    send(ledger, 0.2)
    ledger.reclaim_unclaimed(2.0)
    send(ledger, 2.1)
    ledger.claim(1, 50, 2.2, who="7")
    lose(ledger, 50, 3.0, naming={1})
    assert story(ledger.get(1)) == [
        ("dispatched", ""),
        ("bounced", ""),
        ("dispatched", "attempt 2"),
        ("unclaimed", ""),
        ("dispatched", "attempt 3"),
        ("claimed", "worker 7"),
        ("worker lost", "worker 7, killed by SIGSEGV: death 1 of 3"),
    ]


# ---- too much ------------------------------------------------------------------------------------


def test_a_job_is_late_even_while_nobody_can_be_served() -> None:
    # the number stands in the statistics, just when all workers are gone
    ledger = filled(1)
    ledger.reclaim_unclaimed(1001.0)
    assert ledger.late == 1


def test_bytes_are_counted_while_a_job_is_open() -> None:
    ledger = make_ledger()
    ledger.add(entry(1, size=100))
    ledger.add(entry(2, size=7))
    ledger.end(1)
    assert ledger.open_bytes == 7


def test_payloads_on_disk_are_open_and_take_no_memory() -> None:
    ledger = make_ledger()
    for job_id in (1, 2):
        ledger.add(entry(job_id, size=job_id))
    last = ledger.next_to_spill()
    assert last is ledger.get(2)
    ledger.spill(last)
    assert last.payloads is None
    assert (ledger.open_bytes, ledger.memory_bytes) == (3, 1)
    ledger.end(1)
    assert (ledger.open_bytes, ledger.memory_bytes) == (2, 0)
    assert ledger.next_to_spill() is None
    ledger.restore(last, {"trace": b"xx"})
    assert (ledger.open_bytes, ledger.memory_bytes) == (2, 2)
    ledger.end(2)
    assert (ledger.open_bytes, ledger.memory_bytes) == (0, 0)


def test_a_job_of_unknown_size_is_counted_when_its_payloads_are_there() -> None:
    # a dead letter that is tried again comes as ids of its messages alone
    ledger = make_ledger()
    ledger.add(Entry(1, ("box/tool", "1"), None, 0, 0.0, 0.0, 0.0))
    found = ledger.next_to_send(0.0, idle_workers=1)
    assert found is not None
    ledger.restore(found, {"trace": bytes(7), "result": bytes(3)})
    assert (ledger.open_bytes, ledger.memory_bytes, found.payload_bytes) == (10, 10, 10)


def test_what_the_journal_has_not_on_disk_does_not_leave_memory() -> None:
    # the newest never are; those before them must not wait for a pause of the arrivals
    ledger = make_ledger()
    for job_id in (1, 2, 3):
        ledger.add(entry(job_id, position=10 * job_id))
    found = ledger.next_to_spill(durable=25)
    assert found is not None
    assert found.job_id == 2
    assert ledger.next_to_spill(durable=5) is None


def test_what_workers_have_is_never_spilled_or_shed() -> None:
    ledger = filled(1, 2, 3)
    computed_by(ledger, 50, 1)
    send(ledger)
    ledger.bounce(2, 0.0)
    assert [e.job_id for e in ledger.shed(9)] == [3]
    assert ledger.next_to_spill() is None
    assert len(ledger) == 2


@pytest.mark.parametrize(("which", "gone"), [("oldest", [1, 2]), ("newest", [3, 2])])
def test_shed_jobs_end_in_the_order_of_the_policy(which: str, gone: list[int]) -> None:
    ledger = filled(1, 2, 3)
    shed = ledger.shed(2, which=which)
    assert [e.job_id for e in shed] == gone
    assert {e.state for e in shed} == {JobState.ENDED}
    assert ledger.open_bytes == 100


def test_nothing_is_shed_where_nothing_is_to_be() -> None:
    # a policy of "never" asks for none
    assert filled(1).shed(0, which="never") == []


def test_an_illegal_transition_is_a_bug_and_says_so() -> None:
    ended = entry(1)
    ended.move(JobState.ENDED)
    with pytest.raises(AssertionError, match="job 1"):
        ended.move(JobState.SENT)


@dataclass
class Model:
    """What the ledger should know of one job."""

    size: int
    state: JobState = JobState.WAITING
    claims: set[int] = field(default_factory=set)
    deaths: int = 0
    was_out: bool = False  # sent or claimed at least once
    on_disk: bool = False


class LedgerMachine(RuleBasedStateMachine):
    """Any order of sends, claims, bounces, deaths, results and shortage, against a dict."""

    picks = st.integers(0, 5)  # of the last jobs, mostly open ones
    workers = st.integers(50, 53)

    def __init__(self) -> None:
        super().__init__()
        self.ledger = make_ledger()
        self.now_s = 0.0
        self.added = 0
        self.model: dict[int, Model] = {}
        self.ended: list[int] = []

    def of(self, *states: JobState) -> set[int]:
        return {job_id for job_id, job in self.model.items() if job.state in states}

    def picked(self, pick: int) -> int:
        return max(self.added - pick, 1)

    def is_ended(self, job_id: int) -> None:
        self.ended.append(job_id)
        del self.model[job_id]

    @rule(size=st.integers(0, 100), on_disk=st.booleans())
    def add(self, size: int, on_disk: bool) -> None:
        self.added += 1
        new = entry(self.added, size, deaths=0)
        new.queued_s = self.now_s
        if on_disk:
            new.payloads = None
        self.ledger.add(new)
        self.model[self.added] = Model(size, on_disk=on_disk)

    @rule(idle_workers=st.integers(0, 4))
    def send(self, idle_workers: int) -> None:
        on_wire = len(self.of(JobState.SENT))
        found = self.ledger.next_to_send(self.now_s, idle_workers=idle_workers)
        has_credit = on_wire < idle_workers
        assert (found is not None) == (has_credit and bool(self.of(JobState.WAITING)))
        if found is None:
            return
        job = self.model[found.job_id]
        assert job.state is JobState.WAITING
        if job.on_disk:
            self.ledger.restore(found, {"trace": bytes(job.size)})
            job.on_disk = False
            again = self.ledger.next_to_send(self.now_s, idle_workers=idle_workers)
            assert again is found, "nobody's turn changes before somebody is sent"
        self.ledger.sent(found, self.now_s)
        job.state, job.was_out = JobState.SENT, True

    @rule(pick=picks, worker_id=workers)
    def claim(self, pick: int, worker_id: int) -> None:
        """On time, late, or of one that another worker computes already."""
        job_id = self.picked(pick)
        job = self.model.get(job_id)
        if job is not None and not job.was_out:
            return  # nobody can claim what was never sent
        assert self.ledger.claim(job_id, worker_id, self.now_s) == (job is not None)
        if job is not None:
            job.state = JobState.CLAIMED
            job.claims.add(worker_id)

    @rule(pick=picks)
    def bounce(self, pick: int) -> None:
        job_id = self.picked(pick)
        is_sent = job_id in self.of(JobState.SENT)
        assert self.ledger.bounce(job_id, self.now_s) == is_sent
        if is_sent:
            self.model[job_id].state = JobState.WAITING

    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        """A result, also of a job that was taken from the worker, or that has ended."""
        job_id = self.picked(pick)
        job = self.model.get(job_id)
        if job is not None and not job.was_out:
            return
        assert (self.ledger.end(job_id) is not None) == (job is not None)
        if job is not None:
            self.is_ended(job_id)

    @rule(
        worker_id=workers,
        named=st.none() | st.frozensets(picks, max_size=5),
        is_blaming=st.booleans(),
    )
    def worker_gone(self, worker_id: int, named: frozenset[int] | None, is_blaming: bool) -> None:
        held = {job_id for job_id, job in self.model.items() if worker_id in job.claims}
        slot = None
        if named is not None:  # it names what reached the worker, claimed or not
            ids = map(self.picked, named)
            slot = {j for j in ids if j not in self.model or self.model[j].was_out}
        blamed = held if slot is None else {j for j in slot if j in self.model}
        exhausted = set()
        for job_id in held | blamed:
            job = self.model[job_id]
            job.deaths += is_blaming and job_id in blamed
            job.claims.discard(worker_id)
            if not job.claims:
                job.state = JobState.WAITING
                if job.deaths >= MAX_ATTEMPTS:
                    exhausted.add(job_id)
        told = lose(self.ledger, worker_id, self.now_s, naming=slot, is_blaming=is_blaming)
        assert [sorted(ids) for ids in told] == [sorted(blamed), sorted(exhausted)]
        for job_id in exhausted:
            self.is_ended(job_id)

    @rule(pause_s=st.sampled_from([0.1, 0.3, 1.0, 12.0, 1001.0]))
    def time_passes(self, pause_s: float) -> None:
        self.now_s += pause_s
        taken_back = self.ledger.reclaim_unclaimed(self.now_s)
        still = set(self.ledger._sent)
        gone = self.of(JobState.SENT) - still
        assert len(gone) == taken_back
        assert pause_s < 1.0 or not still
        for job_id in gone:
            self.model[job_id].state = JobState.WAITING
        for job, worker_id in self.ledger.overdue(self.now_s, JOB_TIMEOUT_S):
            assert worker_id in self.model[job.job_id].claims

    @rule()
    def spill(self) -> None:
        found = self.ledger.next_to_spill()
        could = {
            job_id
            for job_id in self.of(JobState.WAITING)
            if not self.model[job_id].was_out and not self.model[job_id].on_disk
        }
        assert (found is not None) == bool(could)
        if found is not None:
            assert found.job_id in could
            self.ledger.spill(found)
            self.model[found.job_id].on_disk = True

    @precondition(lambda self: any(job.on_disk for job in self.model.values()))
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        """Read back for a send that then did not come about."""
        job_id = data.draw(st.sampled_from([j for j, job in self.model.items() if job.on_disk]))
        found = self.ledger.get(job_id)
        assert found is not None
        self.ledger.restore(found, {"trace": bytes(self.model[job_id].size)})
        self.model[job_id].on_disk = False

    @rule(count=st.integers(0, 3), which=st.sampled_from(["oldest", "newest"]))
    def shed(self, count: int, which: str) -> None:
        could = sorted(j for j in self.of(JobState.WAITING) if not self.model[j].was_out)
        if which == "newest":
            could.reverse()
        shed = [each.job_id for each in self.ledger.shed(count, which=which)]
        assert shed == could[:count]
        for job_id in shed:
            self.is_ended(job_id)

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        ledger = self.ledger
        assert {e.job_id: (e.state, set(e.claims), e.deaths) for e in ledger.entries()} == {
            job_id: (job.state, job.claims, job.deaths) for job_id, job in self.model.items()
        }
        assert ledger.waiting == len(self.of(JobState.WAITING))
        assert set(ledger._sent) == self.of(JobState.SENT)
        assert set(ledger._claimed) == self.of(JobState.CLAIMED)
        assert all(job_id in ledger._backlog for job_id in self.of(JobState.WAITING))
        assert ledger._hurt == {job_id for job_id, job in self.model.items() if job.deaths}
        for job in self.model.values():
            assert bool(job.claims) == (job.state is JobState.CLAIMED)

    @invariant()
    def the_counts_add_up(self) -> None:
        ledger = self.ledger
        assert ledger.waiting + ledger.on_wire + ledger.claimed == len(ledger)
        assert ledger.open_bytes == sum(job.size for job in self.model.values())
        assert ledger.memory_bytes == sum(
            job.size for job in self.model.values() if not job.on_disk
        )
        for each in ledger.entries():
            assert (each.payloads is None) == self.model[each.job_id].on_disk

    @invariant()
    def no_job_ends_twice_or_is_lost(self) -> None:
        assert len(self.ended) == len(set(self.ended))
        assert len(self.ended) + len(self.ledger) == self.added


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
