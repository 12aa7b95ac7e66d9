"""When the model is suspected instead of the holes. Times are monotonic seconds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from farm.broker.breaker import MAX_PAUSES, Breaker, BreakerState

KILLS = 3
WINDOW_S = 60.0
PAUSE_S = 10.0


def make_breaker() -> Breaker:
    return Breaker(kills=KILLS, window_s=WINDOW_S, pause_s=PAUSE_S)


def opened(now_s: float = 0.0) -> Breaker:
    breaker = make_breaker()
    for job_id in range(KILLS):
        breaker.killed(job_id, now_s)
    assert breaker.state is BreakerState.OPEN
    return breaker


def probing(now_s: float = PAUSE_S) -> Breaker:
    breaker = opened()
    assert breaker.allows(now_s, open_on_workers=0)
    assert breaker.state is BreakerState.PROBING
    return breaker


# ---- closed --------------------------------------------------------------------------------------


def test_closed_it_allows_everything_blames_and_has_nothing_to_say() -> None:
    breaker = make_breaker()
    breaker.killed(1, 0.0)
    assert breaker.allows(0.0, open_on_workers=99)
    assert (breaker.is_blaming, breaker.reason) == (True, "")


def test_many_different_jobs_that_kill_open_it() -> None:
    # prevents: a bad model that makes dead letters of a whole shift
    breaker = opened()
    assert not breaker.allows(0.0, open_on_workers=0)
    assert not breaker.is_blaming


def test_one_job_that_kills_again_and_again_is_to_blame_itself() -> None:
    breaker = make_breaker()
    for now_s in range(20):
        breaker.killed(1, float(now_s))
    assert breaker.state is BreakerState.CLOSED


def test_kills_over_a_long_time_are_not_the_models() -> None:
    breaker = make_breaker()
    for job_id in range(20):
        breaker.killed(job_id, job_id * WINDOW_S / (KILLS - 1) + job_id)
    assert breaker.state is BreakerState.CLOSED


def test_each_kill_leaves_the_window_by_its_own_time() -> None:
    # a job that kills again must not keep the older ones of others in sight
    breaker = make_breaker()
    for job_id, now_s in ((1, 0.0), (2, 10.0), (1, 50.0), (3, 75.0)):
        breaker.killed(job_id, now_s)
    assert breaker.state is BreakerState.CLOSED


def test_while_more_jobs_come_home_than_kill_it_stays_closed() -> None:
    breaker = make_breaker()
    for n in range(KILLS + 1):
        breaker.came_home(100 + n, 0.0)
    for job_id in range(KILLS):
        breaker.killed(job_id, 1.0)
    assert breaker.state is BreakerState.CLOSED
    breaker.killed(KILLS, 1.0)  # now they are as many
    assert breaker.state is BreakerState.OPEN


def test_jobs_that_came_home_long_ago_say_nothing_about_the_model_of_now() -> None:
    breaker = make_breaker()
    for n in range(1000):
        breaker.came_home(100 + n, 0.0)
    for job_id in range(KILLS):
        breaker.killed(job_id, WINDOW_S + 1)
    assert breaker.state is BreakerState.OPEN


def test_a_job_that_comes_home_after_all_is_no_evidence_any_more() -> None:
    # prevents: a machine short of memory, which kills any worker now and then, taken for a model
    breaker = make_breaker()
    for job_id in range(20):
        breaker.killed(job_id, float(job_id))
        breaker.came_home(job_id, job_id + 0.5)
    assert breaker.state is BreakerState.CLOSED


# ---- open and probing ----------------------------------------------------------------------------


def test_open_it_says_cause_and_cure() -> None:
    reason = opened().reason
    assert "the model is suspected: 3 different holes ended their workers within 60 s" in reason
    assert "0 came home" in reason
    assert "nothing is sent for 10 s" in reason
    assert "mend or replace the model" in reason


def test_after_the_pause_exactly_one_job_is_tried() -> None:
    breaker = opened(5.0)
    assert not breaker.allows(5.0 + PAUSE_S - 0.01, open_on_workers=0)
    assert not breaker.allows(5.0 + PAUSE_S, open_on_workers=1)  # one from before is still out
    assert breaker.allows(5.0 + PAUSE_S, open_on_workers=0)
    assert not breaker.allows(5.0 + PAUSE_S, open_on_workers=1)
    assert "one hole is being tried" in breaker.reason
    assert not breaker.is_blaming


def test_a_probe_that_bounces_may_be_sent_again() -> None:
    breaker = probing()
    assert not breaker.allows(11.0, open_on_workers=1)
    assert breaker.allows(11.0, open_on_workers=0)


def test_a_result_closes_it_and_what_was_before_is_forgotten() -> None:
    breaker = probing()
    breaker.came_home(7, 11.0)
    assert breaker.state is BreakerState.CLOSED
    assert (breaker.is_blaming, breaker.reason) == (True, "")
    breaker.killed(50, 11.0)
    breaker.killed(51, 11.0)
    assert breaker.state is BreakerState.CLOSED, "the kills before the probe count no more"


def test_results_from_before_the_suspicion_do_not_vouch_for_the_model_after_it() -> None:
    breaker = make_breaker()
    for n in range(10):
        breaker.came_home(100 + n, 0.0)
    for job_id in range(10):
        breaker.killed(job_id, 1.0)
    assert breaker.allows(11.0, open_on_workers=0)
    breaker.came_home(50, 12.0)
    for job_id in range(KILLS):
        breaker.killed(job_id, 13.0)
    assert breaker.state is BreakerState.OPEN


def test_each_probe_that_kills_doubles_the_pause_up_to_ten_times() -> None:
    breaker, now_s = opened(), 0.0
    pauses = []
    for job_id in range(2000):  # days: no power of two may grow beyond all numbers
        start_s = now_s
        pauses.append(next(p for p in (10, 20, 40, 80, 100) if f"for {p} s" in breaker.reason))
        now_s = start_s + pauses[-1]
        assert not breaker.allows(now_s - 0.01, open_on_workers=0)
        assert breaker.allows(now_s, open_on_workers=0)
        breaker.killed(100 + job_id, now_s)
    assert pauses[:6] == [10, 20, 40, 80, 100, 100]
    assert pauses[-1] == PAUSE_S * MAX_PAUSES


def test_a_probe_that_succeeds_makes_the_next_pause_short_again() -> None:
    breaker = probing(10.0)
    breaker.killed(7, 10.0)
    assert breaker.allows(30.0, open_on_workers=0)
    breaker.came_home(7, 30.0)
    for job_id in range(KILLS):
        breaker.killed(job_id, 31.0)
    assert "nothing is sent for 10 s" in breaker.reason


def test_what_was_out_when_it_opened_neither_closes_nor_prolongs_it() -> None:
    breaker = opened()
    breaker.killed(50, 9.0)
    breaker.came_home(51, 9.0)
    assert breaker.state is BreakerState.OPEN
    assert breaker.allows(PAUSE_S, open_on_workers=0)


def test_an_illegal_transition_is_a_bug_and_says_so() -> None:
    with pytest.raises(AssertionError, match="breaker"):
        make_breaker()._move(BreakerState.PROBING)


# ---- any history ---------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300))
@settings(max_examples=50)
def test_few_poisoned_holes_among_many_good_ones_never_open_it(gaps: list[int]) -> None:
    # four poisoned ones, with as many good ones before each as there are poisoned in all
    breaker = make_breaker()
    now_s = 0.0
    for n, gap in enumerate(gaps):
        for good in range(5):
            breaker.came_home(1000 * n + good, now_s)
        now_s += gap / 10
        breaker.killed(-(n % 4), now_s)
        assert breaker.state is BreakerState.CLOSED


class BreakerMachine(RuleBasedStateMachine):
    """Any order of kills, results and offers."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = make_breaker()
        self.now_s = 0.0
        self.out: list[int] = []
        self.count = 0
        self.opened_s = -PAUSE_S

    @rule()
    def offer(self) -> None:
        was = self.breaker.state
        if self.breaker.allows(self.now_s, open_on_workers=len(self.out)):
            assert was is not BreakerState.OPEN or self.now_s >= self.opened_s + PAUSE_S
            if not self.breaker.is_blaming:
                assert not self.out, "one at a time, while the model is suspected"
            self.count += 1
            self.out.append(self.count)

    @rule(is_killed=st.booleans())
    def end(self, is_killed: bool) -> None:
        if not self.out:
            return
        job_id, was = self.out.pop(0), self.breaker.state
        if is_killed:
            self.breaker.killed(job_id, self.now_s)
            if was is not BreakerState.CLOSED:
                assert self.breaker.state is BreakerState.OPEN
            if self.breaker.state is not was:
                self.opened_s = self.now_s
        else:
            self.breaker.came_home(job_id, self.now_s)
            if was is not BreakerState.OPEN:
                assert self.breaker.state is BreakerState.CLOSED

    @rule(pause_s=st.sampled_from([0.1, 5.0, 10.0, 61.0]))
    def time_passes(self, pause_s: float) -> None:
        self.now_s += pause_s

    @invariant()
    def it_speaks_just_when_it_suspects(self) -> None:
        assert bool(self.breaker.reason) == (not self.breaker.is_blaming)

    @invariant()
    def it_comes_back_by_itself(self) -> None:
        """Nobody needs to reset it: in time it tries again, whatever happened."""
        if self.breaker.state is BreakerState.OPEN and not self.out:
            assert self.breaker._probe_at_s <= self.now_s + PAUSE_S * MAX_PAUSES


TestBreakerMachine = BreakerMachine.TestCase
TestBreakerMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
