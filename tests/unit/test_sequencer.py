from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farm.broker.sequencer import Sequencer


def test_order_per_tool_is_kept_although_worker_2_is_faster() -> None:
    sequencer: Sequencer[str] = Sequencer()
    sequencer.expect("box/tool", 1)
    sequencer.expect("box/tool", 2)
    assert sequencer.settle("box/tool", 2, "second", 0.0) == []
    assert sequencer.held == 1
    assert sequencer.settle("box/tool", 1, "first", 0.0) == ["first", "second"]
    assert sequencer.held == 0


def test_one_tool_does_not_wait_for_another() -> None:
    sequencer: Sequencer[str] = Sequencer()
    sequencer.expect("box/slow", 1)
    sequencer.expect("box/fast", 2)
    assert sequencer.settle("box/fast", 2, "fast", 0.0) == ["fast"]


def test_a_tool_that_is_done_leaves_nothing_behind() -> None:
    sequencer: Sequencer[int] = Sequencer()
    for ticket in range(100):
        sequencer.expect(f"box/{ticket}", ticket)
        sequencer.settle(f"box/{ticket}", ticket, ticket, 0.0)
    assert not sequencer._open


@given(st.lists(st.sampled_from("abc"), max_size=30), st.randoms(use_true_random=False))
def test_whatever_the_order_of_results_each_goes_out_once_and_in_its_place(
    sources: list[str], random: object
) -> None:
    sequencer: Sequencer[int] = Sequencer()
    tickets = list(enumerate(sources))
    for ticket, source in tickets:
        sequencer.expect(source, ticket)
    settled = tickets.copy()
    random.shuffle(settled)  # type: ignore[attr-defined]
    released: list[int] = []
    for ticket, source in settled:
        released += sequencer.settle(source, ticket, ticket, 0.0)
    assert sequencer.held == 0
    for source in "abc":
        of_source = [ticket for ticket in released if sources[ticket] == source]
        assert of_source == [ticket for ticket, owner in tickets if owner == source]


def test_a_late_join_lets_the_ones_behind_it_pass_after_a_grace_and_comes_when_it_comes() -> None:
    # prevents: fresh holes of a tool that miss their objective behind one that missed it already
    late = {1, 2}
    sequencer: Sequencer[str] = Sequencer(late.__contains__, grace_s=0.5)
    for ticket in (1, 2, 3, 4):
        sequencer.expect("box/tool", ticket)
    assert sequencer.settle("box/tool", 4, "fourth", 10.0) == []
    assert sequencer.overdue(10.4) == []
    assert sequencer.overdue(10.5) == []  # the third is on time: it is waited for
    assert sequencer.settle("box/tool", 3, "third", 10.6) == ["third", "fourth"]
    assert sequencer.overtaken == 2
    assert sequencer.settle("box/tool", 2, "second", 11.0) == ["second"]
    assert sequencer.settle("box/tool", 1, "first", 11.0) == ["first"]
    assert sequencer.held == 0
    assert sequencer._open == {}
    assert sequencer._passed == set()


def test_a_backlog_that_is_gone_within_the_grace_turns_no_order_round() -> None:
    # prevents: answers out of order after every stall of a second
    sequencer: Sequencer[int] = Sequencer(lambda _: True, grace_s=0.5)
    for ticket in range(4):
        sequencer.expect("box/tool", ticket)
    assert sequencer.settle("box/tool", 1, 1, 10.0) == []
    assert sequencer.overdue(10.1) == []
    assert sequencer.settle("box/tool", 0, 0, 10.2) == [0, 1]
    assert sequencer.settle("box/tool", 3, 3, 10.3) == []
    assert sequencer.overdue(10.6) == []
    assert sequencer.settle("box/tool", 2, 2, 10.7) == [2, 3]
    assert sequencer.overtaken == 0
    assert sequencer.overdue(99.0) == []


def test_only_late_ones_before_the_one_that_has_waited_are_passed() -> None:
    sequencer: Sequencer[int] = Sequencer({1, 4}.__contains__, grace_s=0.5)
    for ticket in range(1, 6):
        sequencer.expect("box/tool", ticket)
    sequencer.settle("box/tool", 2, 2, 10.0)
    sequencer.settle("box/tool", 5, 5, 10.4)
    assert sequencer.overdue(10.6) == [2]  # the fifth has not waited long enough for the fourth
    assert sequencer.settle("box/tool", 3, 3, 10.7) == [3]
    assert sequencer.overdue(10.9) == [5]
    assert sequencer.settle("box/tool", 1, 1, 11.0) == [1]
    assert sequencer.settle("box/tool", 4, 4, 11.0) == [4]
