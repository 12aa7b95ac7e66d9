"""The page's index: what the list shows of the newest holes."""

from __future__ import annotations

import pytest

from farm.journal.records import HoleState
from farm.journal.tail import BriefHole
from farm.page.index import MAX_REASON_CHARS, Filter, HoleIndex

NEEDS = frozenset({"result", "trace"})


def brief(
    hole_id, *, source="B/T1", part_id=None, terminal="published", value=None, first_s=100.0,
    last_s=100.5, kinds=("result", "trace"), state=HoleState.ENDED, reason="",
):  # fmt: skip
    return BriefHole(
        *(hole_id, source, part_id or str(hole_id), kinds, first_s, last_s, 101.0, 102.0, 0),
        *(state, terminal, reason, value),
    )


def figures(value):
    return {} if value is None else {"quality": value}


def make(capacity=100, holes=()):
    index = HoleIndex(capacity, NEEDS, figures)
    index.put(holes)
    return index


def ids(page):
    return [row.hole_id for row in page.rows]


def page(index, wanted=Filter(), offset=0, limit=10, upto=None):  # noqa: B008 - frozen
    return index.page(wanted, offset=offset, limit=limit, upto=upto)


def test_the_newest_come_first_and_the_pages_join():
    # prevents: a hole that no page shows, or two do
    index = make(holes=[brief(i) for i in range(1, 26)])
    seen = []
    for offset in range(0, 30, 10):
        shown = page(index, offset=offset)
        seen += ids(shown)
        assert shown.total == 25
    assert seen == list(range(25, 0, -1))


def test_a_page_does_not_shift_while_new_holes_come():
    # prevents: turning to page 2 and finding what page 1 has just shown
    index = make(holes=[brief(i) for i in range(1, 21)])
    first = page(index)
    index.put([brief(i) for i in range(21, 26)])
    second = page(index, offset=10, upto=first.upto)
    assert ids(first) + ids(second) == list(range(20, 0, -1))
    assert (second.newer, second.total) == (5, 20)
    quality = Filter(outcomes=frozenset({"published"}))
    assert page(index, quality, upto=first.upto).newer == 5


@pytest.mark.parametrize("extra", [0, 1, 250, 1001])
def test_no_more_are_kept_than_may_be(extra):
    # prevents: memory that grows with every hole
    index = make(100)
    for begin in range(0, 100 + extra, 7):
        index.put([brief(i + 1) for i in range(begin, min(begin + 7, 100 + extra))])
    assert len(index) == min(100, 100 + extra)
    assert ids(page(index, limit=500)) == list(range(100 + extra, extra, -1))
    assert len(index._ids) <= 3 * 100


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(text="t2"), [4, 2]),
        (Filter(text="b/"), [4, 3, 2, 1]),
        (Filter(text="30"), [3]),
        (Filter(source="B/T1"), [3, 1]),
        (Filter(source="b/t1"), []),
        (Filter(outcomes=frozenset({"dead", "open"})), [4, 3]),
        (Filter(quality_below=0.9), [2]),
        (Filter(text="t2", quality_below=0.9), [2]),
    ],
)
def test_filters(wanted, found):
    # prevents: a filter that lets through what it should not, or forgets another one beside it
    index = make(holes=[
        brief(1, part_id="100", value=0.95), brief(2, source="B/T2", part_id="200", value=0.5),
        brief(3, part_id="300", terminal="dead"),
        brief(4, source="B/T2", part_id="400", terminal="", state=HoleState.OPEN),
    ])  # fmt: skip
    assert ids(page(index, wanted)) == found
    assert page(index, wanted).total == len(found)


def test_what_becomes_of_an_open_hole_is_asked_for_in_turns():
    # prevents: with a large backlog some holes that stay "open" in the list for ever
    index = make(holes=[brief(i, terminal="", state=HoleState.OPEN) for i in range(1, 11)])
    asked = [index.unfinished(4) for _ in range(3)]
    assert sorted({i for some in asked for i in some}) == list(range(1, 11))
    before = index.edition
    index.put([brief(3, terminal="published", state=HoleState.ANSWERED)])
    assert index.edition != before
    assert page(index, Filter(outcomes=frozenset({"published"}))).total == 1
    assert 3 in index.unfinished(99)  # MQTT has not confirmed it
    index.put([brief(3)])
    assert 3 not in index.unfinished(99)
    quiet = index.edition
    index.put([brief(3)])
    assert index.edition == quiet  # nothing new: no browser asks again for that


def test_a_hole_that_has_left_does_not_come_back():
    # prevents: a late word on an old hole that puts it behind the newest
    index = make(2, [brief(i) for i in range(1, 6)])
    index.put([brief(1)])
    assert ids(page(index)) == [5, 4]


def test_what_the_journal_forgot_is_forgotten():
    index = make(holes=[brief(i) for i in range(1, 11)])
    index.forget({*range(1, 8), 77})
    assert ids(page(index)) == [10, 9, 8]
    assert page(index, limit=2).total == 3
    index.forget({9})  # from the middle
    assert ids(page(index)) == [10, 8]
    index.put([brief(11)])
    assert ids(page(index)) == [11, 10, 8]
    index.clear()
    assert (ids(page(index)), index.newest_id) == ([], -1)
    index.put([brief(2)])  # another journal may begin below
    assert ids(page(index)) == [2]


def test_all_are_asked_for_in_turn_whatever_leaves_meanwhile():
    # prevents: holes that are never compared with the journal, because older ones stay for good
    index = make(8, [brief(i) for i in range(1, 11)])
    assert index.in_turn(3) == [3, 4, 5]
    index.forget({5, 6})
    index.put([brief(11)])
    assert index.in_turn(3) == [7, 8, 9]
    assert index.in_turn(3) == [10, 11]
    assert index.in_turn(9) == [3, 4, 7, 8, 9, 10, 11]
    assert index.in_turn(3) == [3, 4, 7]
    index.clear()
    assert index.in_turn(3) == []


def test_outcomes_are_counted_as_they_change():
    # prevents: all rows read for a count, for each browser and second; and a count that drifts
    index = make(3, [brief(i, terminal="", state=HoleState.OPEN) for i in range(1, 4)])
    assert index.outcomes() == {"open": 3}
    index.put([brief(2), brief(3, terminal="dead")])
    assert index.outcomes() == {"open": 1, "published": 1, "dead": 1}
    index.put([brief(2), brief(4)])  # the first has left
    assert index.outcomes() == {"published": 2, "dead": 1}
    index.forget({3})
    assert index.outcomes() == {"published": 2}
    index.clear()
    assert index.outcomes() == {}


def test_a_tool_is_summed_up():
    # prevents: a share of unpaired parts that counts holes, and a skew with holes that lack a part
    index = make(holes=[
        brief(1, first_s=10.0, last_s=10.1), brief(2, first_s=20.0, last_s=20.3),
        brief(3, source="B/T2"),
        brief(4, kinds=("trace",), terminal="dead", first_s=30.0, last_s=30.0),
        brief(5, kinds=("result", "trace", "heads"), first_s=40.0, last_s=40.5, value=0.5),
    ])  # fmt: skip
    rows = index.last_of("B/T1", 10)
    assert [row.hole_id for row in rows] == [1, 2, 4, 5]
    assert [row.hole_id for row in index.last_of("B/T1", 2)] == [4, 5]
    told = index.summary(rows)
    assert (told["parts"], told["unpaired_parts"]) == (8, 1)
    assert told["skew_s"] == pytest.approx(0.3)
    assert told["skew_max_s"] == pytest.approx(0.5)
    assert (told["quality"], told["outcomes"]) == (0.5, {"published": 3, "dead": 1})
    tools, total = index.tools()
    assert ([tool["source"] for tool in tools], total) == (["B/T1", "B/T2"], 2)


def test_the_neighbours_of_a_hole_are_of_its_tool():
    index = make(holes=[brief(i, source=f"B/T{i % 2}") for i in range(1, 8)])
    assert index.neighbours("B/T1", 3) == (1, 5)
    assert index.neighbours("B/T1", 1) == (None, 3)
    assert index.neighbours("B/T1", 7) == (5, None)


def test_a_reason_of_any_length_costs_little():
    index = make(holes=[brief(1, reason="x" * 100_000)])
    assert len(page(index).rows[0].reason) == MAX_REASON_CHARS
