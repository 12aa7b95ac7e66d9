"""Whose turn it is. Times are monotonic seconds."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from farm.broker.backlog import SUSPECT_SHARE, Backlog

OBJECTIVE_S = 1.0
LATE_SHARE = 4


def make_backlog() -> Backlog:
    return Backlog(objective_s=OBJECTIVE_S, late_share=LATE_SHARE)


def filled(*jobs: tuple[int, str], queued_s: float = 0.0) -> Backlog:
    backlog = make_backlog()
    for job_id, source in jobs:
        backlog.add(job_id, source, queued_s)
    return backlog


def serve(backlog: Backlog, now_s: float = 0.0) -> int | None:
    job_id = backlog.next(now_s)
    if job_id is not None:
        backlog.take(job_id)
    return job_id


def order(backlog: Backlog, now_s: float = 0.0) -> list[int | None]:
    return [serve(backlog, now_s) for _ in range(len(backlog))]


# ---- turns ---------------------------------------------------------------------------------------


def test_an_empty_backlog_has_nobody_to_serve() -> None:
    assert make_backlog().next(0.0) is None


def test_the_jobs_of_one_source_are_served_as_they_came() -> None:
    assert order(filled((1, "a"), (2, "a"), (3, "a"))) == [1, 2, 3]


def test_a_tool_with_a_thousand_holes_does_not_hold_up_the_one_of_another() -> None:
    backlog = filled(*((n, "a") for n in range(1000)), (1000, "b"))
    assert [serve(backlog) for _ in range(3)] == [0, 1000, 1]


def test_sources_take_turns_and_a_new_one_waits_for_one_round() -> None:
    backlog = filled((1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "b"))
    assert [serve(backlog), serve(backlog)] == [1, 4]
    backlog.add(6, "c", 0.0)
    assert order(backlog) == [2, 5, 6, 3]


def test_asking_twice_changes_nobodys_turn() -> None:
    # an offer that can't be sent, since no worker is connected, is made again and again
    backlog = filled((1, "a"), (2, "a"), (3, "b"))
    assert [backlog.next(0.0) for _ in range(5)] == [1] * 5
    assert order(backlog) == [1, 3, 2]


def test_a_job_that_ends_while_it_waits_costs_its_source_no_turn() -> None:
    backlog = filled((1, "a"), (2, "a"), (3, "b"))
    backlog.remove(1)
    assert order(backlog) == [2, 3]


def test_what_comes_back_goes_before_everything() -> None:
    backlog = filled((1, "a"), (2, "b"), (3, "a"))
    for _ in range(2):
        serve(backlog)
    backlog.age(2.0)
    backlog.put_back(2)
    backlog.put_back(1)
    backlog.add(4, "c", 2.0)
    assert order(backlog, 2.0) == [1, 2, 4, 3]


# ---- late ones -----------------------------------------------------------------------------------


def test_fresh_holes_pass_the_late_ones_of_which_one_in_four_is_served() -> None:
    # prevents: an overload of minutes after which every answer is minutes late; and a backlog that
    # never drains while holes keep coming
    backlog = filled(*((n, "a") for n in range(3)))
    for n in range(10, 18):
        backlog.add(n, "a", 2.0)
    assert order(backlog, 2.0) == [10, 11, 12, 0, 13, 14, 15, 1, 16, 17, 2]


def test_a_job_is_late_only_beyond_the_objective() -> None:
    backlog = filled((1, "a"))
    backlog.age(OBJECTIVE_S)
    assert backlog.late == 0
    backlog.age(OBJECTIVE_S + 0.001)
    assert (backlog.late, len(backlog)) == (1, 1)


def test_late_ones_are_served_at_full_pace_when_nothing_fresh_waits() -> None:
    backlog = filled((1, "a"), (2, "b"), (3, "a"))
    assert order(backlog, 5.0) == [1, 2, 3]
    assert backlog.late == 0


def test_the_share_counts_only_while_both_wait() -> None:
    # prevents: a late hole that jumps the queue for turns taken long before it was late
    backlog = filled(*((n, "a") for n in range(5)))
    assert [serve(backlog, 0.5) for _ in range(4)] == [0, 1, 2, 3]
    for n in range(10, 14):
        backlog.add(n, "a", 2.0)
    assert order(backlog, 2.0) == [10, 11, 12, 4, 13]


# ---- suspects ------------------------------------------------------------------------------------


def test_a_suspect_lets_others_pass_but_not_for_ever() -> None:
    backlog = filled(*((n, "a") for n in range(8)))
    serve(backlog)
    backlog.put_back(0, is_suspect=True)
    assert order(backlog) == [1, 2, 3, 0, 4, 5, 6, 7]


def test_a_suspect_alone_is_served_at_once() -> None:
    backlog = filled((1, "a"))
    serve(backlog)
    backlog.put_back(1, is_suspect=True)
    assert order(backlog) == [1]


# ---- too many ------------------------------------------------------------------------------------


def test_the_oldest_and_the_newest_are_never_ones_that_were_served() -> None:
    # they are shed: what a worker has begun is not
    backlog = filled((1, "a"), (2, "b"), (3, "a"))
    assert (backlog.oldest(), backlog.newest()) == (1, 3)
    serve(backlog)
    backlog.put_back(1)
    serve(backlog), serve(backlog)
    backlog.put_back(2, is_suspect=True)
    assert (backlog.oldest(), backlog.newest()) == (3, 3)
    backlog.age(2.0)
    assert (backlog.oldest(), backlog.newest()) == (3, 3)
    backlog.add(4, "a", 2.0)
    assert (backlog.oldest(), backlog.newest()) == (3, 4)
    backlog.remove(3), backlog.remove(4)
    assert (backlog.oldest(), backlog.newest()) == (None, None)


def test_those_that_are_served_last_leave_memory_first() -> None:
    backlog = filled(*((n, "a") for n in range(3)))
    backlog.age(2.0)
    for n in range(10, 13):
        backlog.add(n, "a", 2.0)
    assert list(backlog.last_to_serve()) == [2, 1, 0, 12, 11, 10]


def test_a_few_late_ones_are_served_before_many_fresh_ones() -> None:
    backlog = filled((0, "a"))
    backlog.age(2.0)
    for n in range(10, 20):
        backlog.add(n, "a", 2.0)
    assert list(backlog.last_to_serve())[:2] == [19, 18]


def test_what_is_on_disk_or_was_served_is_not_named_for_it_and_what_is_back_comes_last() -> None:
    # prevents: the hole that was just read back sent to disk again, turn after turn
    backlog = filled(*((n, "a") for n in range(4)))
    backlog.add(4, "a", 0.0, is_heavy=False)
    for job_id in (3, 2, 0):
        backlog.spilled(job_id)
    assert list(backlog.last_to_serve()) == [1]
    backlog.restored(0)
    assert list(backlog.last_to_serve()) == [1, 0]
    serve(backlog)
    backlog.put_back(0)
    assert list(backlog.last_to_serve()) == [1]
    backlog.age(2.0)
    backlog.restored(3)
    assert list(backlog.last_to_serve()) == [1, 3]


def test_twenty_thousand_holes_of_ten_thousand_tools_are_served_fairly() -> None:
    # prevents: a search through all of them for each; the whole test would take minutes
    backlog = filled(*((n, str(n % 10_000)) for n in range(20_000)))
    first = [serve(backlog) for _ in range(10_000)]
    assert first == list(range(10_000))
    for n in range(10_000, 20_000, 2):
        assert next(backlog.last_to_serve()) is not None
        backlog.remove(n)
    assert order(backlog, 5.0) == list(range(10_001, 20_000, 2))


# ---- any history ---------------------------------------------------------------------------------


class BacklogMachine(RuleBasedStateMachine):
    """Any order of arrivals, turns, returns and ends, against lists that are searched."""

    def __init__(self) -> None:
        super().__init__()
        self.backlog = make_backlog()
        self.now_s = 0.0
        self.count = 0
        self.sources: dict[int, str] = {}
        self.queued_s: dict[int, float] = {}
        self.waiting: list[int] = []  # never served
        self.back: list[int] = []
        self.suspects: list[int] = []
        self.out: list[int] = []
        self.turns: list[str] = []  # sources by their last turn
        self.passed_late = 0
        self.passed_suspects = 0

    def is_late(self, job_id: int) -> bool:
        return self.now_s - self.queued_s[job_id] > OBJECTIVE_S

    def fresh(self) -> list[int]:
        return [j for j in self.waiting if not self.is_late(j)]

    def late(self) -> list[int]:
        return [j for j in self.waiting if self.is_late(j)]

    def expected(self) -> int | None:
        fresh, late = self.fresh(), self.late()
        if self.back:
            return self.back[0]
        if self.suspects and (not self.waiting or self.passed_suspects >= SUSPECT_SHARE - 1):
            return self.suspects[0]
        if late and (not fresh or self.passed_late >= LATE_SHARE - 1):
            return late[0]
        for source in self.turns:
            for job_id in fresh:
                if self.sources[job_id] == source:
                    return job_id
        return None

    @rule(source=st.sampled_from("abc"))
    def add(self, source: str) -> None:
        self.backlog.age(self.now_s)
        self.settle_turns()
        self.count += 1
        self.sources[self.count], self.queued_s[self.count] = source, self.now_s
        self.waiting.append(self.count)
        if source not in self.turns:
            self.turns.append(source)
        self.backlog.add(self.count, source, self.now_s)

    def settle_turns(self) -> None:
        """A source without fresh jobs has lost its place."""
        having = {self.sources[j] for j in self.fresh()}
        self.turns = [source for source in self.turns if source in having]

    @rule()
    def serve(self) -> None:
        self.settle_turns()
        expected = self.expected()
        assert self.backlog.next(self.now_s) == expected
        if expected is None:
            return
        fresh, late = self.fresh(), self.late()
        self.backlog.take(expected)
        if expected in fresh:
            self.passed_late = self.passed_late + 1 if late else 0
        elif expected in late:
            self.passed_late = 0
        if expected in self.waiting:
            self.passed_suspects = self.passed_suspects + 1 if self.suspects else 0
        elif expected in self.suspects:
            self.passed_suspects = 0
        if expected in fresh:
            self.turns.remove(self.sources[expected])
            self.turns.append(self.sources[expected])
        self.forget(expected)
        self.settle_turns()
        self.out.append(expected)

    def forget(self, job_id: int) -> None:
        for place in (self.waiting, self.back, self.suspects):
            if job_id in place:
                place.remove(job_id)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), is_suspect=st.booleans())
    def put_back(self, data: st.DataObject, is_suspect: bool) -> None:
        job_id = data.draw(st.sampled_from(self.out))
        self.out.remove(job_id)
        self.backlog.put_back(job_id, is_suspect=is_suspect)
        if is_suspect:
            self.suspects.append(job_id)
        else:
            self.back.insert(0, job_id)

    @precondition(lambda self: self.waiting or self.back or self.suspects)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from([*self.waiting, *self.back, *self.suspects]))
        self.backlog.age(self.now_s)
        self.settle_turns()
        self.backlog.remove(job_id)
        self.forget(job_id)
        self.settle_turns()

    @rule(pause_s=st.sampled_from([0.0, 0.3, 0.7, 1.5]))
    def time_passes(self, pause_s: float) -> None:
        self.now_s += pause_s
        self.backlog.age(self.now_s)
        self.settle_turns()

    @invariant()
    def nobody_is_lost(self) -> None:
        backlog = self.backlog
        here = [*self.waiting, *self.back, *self.suspects]
        assert len(backlog) == len(here)
        assert all(job_id in backlog for job_id in here)
        assert not any(job_id in backlog for job_id in self.out)
        assert backlog.late == len(self.late())
        assert backlog.oldest() == (self.waiting[0] if self.waiting else None)
        assert backlog.newest() == (self.waiting[-1] if self.waiting else None)
        assert Counter(backlog.last_to_serve()) == Counter(self.waiting)


TestBacklogMachine = BacklogMachine.TestCase
TestBacklogMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("late_share", [2, 5])
def test_the_late_share_is_kept_over_a_long_run(late_share: int) -> None:
    backlog = Backlog(objective_s=OBJECTIVE_S, late_share=late_share)
    for n in range(100):
        backlog.add(n, "a", 0.0)
    for n in range(100, 1000):
        backlog.add(n, "b", 2.0)
    served = [serve(backlog, 2.0) for _ in range(10 * late_share)]
    assert sum(job_id < 100 for job_id in served if job_id is not None) == 10
