"""Which messages of the units belong together. Times are seconds on the intake clock."""

from __future__ import annotations

from collections import Counter

import pytest
from fakes import NEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.broker.buffer import Part
from farm.broker.correlator import Correlator, Event, Paired, Refused, Rules, Unpaired

TOOL = "box/tool"
NEVER = Rules(optional_parts="never")
ALWAYS = Rules(optional_parts="always")


def part(kind: str, part_id: str | None, at_s: float, text: str = "", source: str = TOOL) -> Part:
    return Part(kind, source, part_id, f"{kind}:{part_id}:{text}".encode(), at_s)


def offer_all(correlator: Correlator, *parts: Part) -> list[Event]:
    return [event for each in parts for event in correlator.offer(each)]


def ids(events: list[Event]) -> list[str]:
    return [event.key[1] for event in events if isinstance(event, Paired)]


# ---- pairing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["result", "trace"])
def test_result_and_trace_pair_in_any_order(first: str) -> None:
    second = {"result": "trace", "trace": "result"}[first]
    correlator = Correlator(NEEDS, NEVER)
    assert correlator.offer(part(first, "7", 1.0)) == []
    [event] = correlator.offer(part(second, "7", 3.0))
    assert isinstance(event, Paired)
    assert event.key == (TOOL, "7")
    assert event.payloads == {"result": b"result:7:", "trace": b"trace:7:"}
    assert (event.first_s, event.last_s) == (1.0, 3.0)
    assert len(correlator.buffer) == 0


def test_two_holes_of_one_tool_in_one_window_never_cross() -> None:
    # the old system paired the newest of each: holes within 30 s of each other were mixed
    correlator = Correlator(NEEDS, NEVER)
    events = offer_all(
        correlator,
        part("result", "1", 0.0),
        part("result", "2", 0.1),
        part("trace", "2", 0.2),
        part("trace", "1", 0.3),
    )
    assert ids(events) == ["2", "1"]
    for event in events:
        assert isinstance(event, Paired)
        assert {p.split(b":")[1].decode() for p in event.payloads.values()} == {event.key[1]}


def test_the_same_id_on_two_tools_is_two_holes() -> None:
    correlator = Correlator(NEEDS, NEVER)
    events = offer_all(
        correlator,
        part("result", "1", 0.0, source="box/a"),
        part("trace", "1", 0.0, source="box/b"),
        part("result", "1", 0.0, source="box/b"),
    )
    assert [event.key for event in events] == [("box/b", "1")]
    assert correlator.buffer.open_joins == 1


# ---- expiry ----------------------------------------------------------------------------------


def test_an_unpaired_part_expires_exactly_once_as_an_error_that_names_what_lacks() -> None:
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("result", "7", 10.0))
    assert correlator.tick(39.9) == []
    [event] = correlator.tick(40.0)
    assert isinstance(event, Unpaired)
    assert event.key == (TOOL, "7")
    assert event.reason == "Not paired: no trace arrived within 30 s (present: result)"
    assert event.payloads == {"result": b"result:7:"}
    assert correlator.tick(100.0) == []
    assert correlator.counts["expired"] == 1


def test_a_part_in_time_saves_the_hole_at_the_last_moment() -> None:
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("result", "7", 10.0))
    correlator.tick(39.9)
    assert ids(correlator.offer(part("trace", "7", 39.95))) == ["7"]
    assert correlator.tick(100.0) == []


def test_a_partner_that_comes_after_the_expiry_is_refused_once_and_makes_no_second_hole() -> None:
    # else one real hole would be counted and answered twice, each time as an error
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("result", "7", 0.0))
    correlator.tick(30.0)
    [event] = correlator.offer(part("trace", "7", 31.0))
    assert isinstance(event, Refused)
    assert (event.kind, event.key) == ("trace", (TOOL, "7"))
    assert "given up" in event.reason
    assert correlator.offer(part("trace", "7", 31.5)) == []  # the resend of it is a duplicate
    assert len(correlator.buffer) == 0
    assert (correlator.counts["late"], correlator.counts["duplicates"]) == (1, 1)


def test_an_id_that_returns_after_an_expiry_pairs_again() -> None:
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("result", "7", 0.0))
    correlator.tick(30.0)
    again = (part("result", "7", 40.0, "again"), part("trace", "7", 40.1, "again"))
    assert ids(offer_all(correlator, *again)) == ["7"]


# ---- ids restart and repeat ------------------------------------------------------------------


def test_a_hole_already_answered_is_not_answered_again_when_the_gateway_resends_its_trace() -> None:
    correlator = Correlator(NEEDS, NEVER)
    offer_all(correlator, part("result", "7", 0.0), part("trace", "7", 0.0))
    assert offer_all(correlator, part("trace", "7", 20.0), part("result", "7", 29.0)) == []
    assert len(correlator.buffer) == 0  # or it would expire as an error of an answered hole
    assert correlator.counts["duplicates"] == 2


def test_ids_restart_after_the_window() -> None:
    # a changed head counts from 1 again, and a replay repeats everything byte for byte
    correlator = Correlator(NEEDS, NEVER)
    hole = (part("result", "7", 0.0), part("trace", "7", 0.0))
    offer_all(correlator, *hole)
    again = (part("result", "7", 30.0), part("trace", "7", 30.0))
    assert ids(offer_all(correlator, *again)) == ["7"]


def test_ids_restart_inside_the_window_with_other_content() -> None:
    correlator = Correlator(NEEDS, NEVER)
    offer_all(correlator, part("result", "7", 0.0, "old"), part("trace", "7", 0.0, "old"))
    new = (part("trace", "7", 5.0, "new"), part("result", "7", 5.1, "new"))
    [event] = offer_all(correlator, *new)
    assert isinstance(event, Paired)
    assert all(p.endswith(b"new") for p in event.payloads.values())


def test_a_resend_of_the_old_hole_does_not_spoil_the_new_one_of_the_same_id() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", duplicate_handling="replace"))
    offer_all(correlator, part("result", "7", 0.0, "old"), part("trace", "7", 0.0, "old"))
    correlator.offer(part("trace", "7", 5.0, "new"))
    correlator.offer(part("trace", "7", 5.5, "old"))
    [event] = correlator.offer(part("result", "7", 6.0, "new"))
    assert isinstance(event, Paired)
    assert event.payloads["trace"] == b"trace:7:new"
    assert correlator.counts["replaced"] == 0


def test_an_id_reused_before_its_partner_came_gives_up_the_old_one_visibly() -> None:
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("result", "7", 0.0, "old"))
    [event] = correlator.offer(part("result", "7", 5.0, "new"))
    assert isinstance(event, Unpaired)
    assert event.payloads == {"result": b"result:7:old"}
    assert "another result with the same id" in event.reason
    assert ids(correlator.offer(part("trace", "7", 5.1, "new"))) == ["7"]
    assert correlator.counts["superseded"] == 1


def test_a_complete_hole_that_waits_for_heads_is_paired_when_its_id_is_reused() -> None:
    # it has all it needs: giving it up as "not paired" would lose a good hole
    correlator = Correlator(NEEDS, Rules(optional_parts="always", optional_wait_s=10.0))
    offer_all(correlator, part("result", "7", 0.0, "old"), part("trace", "7", 0.0, "old"))
    [event] = correlator.offer(part("result", "7", 5.0, "new"))
    assert isinstance(event, Paired)
    assert event.payloads["result"] == b"result:7:old"
    assert correlator.buffer.open_joins == 1


def test_the_memory_of_ended_holes_is_bounded_and_forgotten() -> None:
    rules = Rules(optional_parts="never", max_past=5, redelivery_window_s=30.0)
    correlator = Correlator(NEEDS, rules)
    for n in range(20):
        hole = (part("result", str(n), float(n)), part("trace", str(n), float(n)))
        offer_all(correlator, *hole)
    assert len(correlator._past) == 5
    correlator.forget(47.5)
    assert [key[1] for key in correlator._past] == ["18", "19"]
    correlator.forget(49.0)
    assert not correlator._past


def test_a_hole_whose_id_returned_is_remembered_from_its_last_end() -> None:
    # forgotten with its first end, a resend of it would open a join that expires as an error
    correlator = Correlator(NEEDS, Rules(optional_parts="never", redelivery_window_s=30.0))
    for number, at_s in (("7", 0.0), ("8", 10.0), ("7", 20.0)):
        text = str(at_s)
        hole = (part("result", number, at_s, text), part("trace", number, at_s, text))
        assert ids(offer_all(correlator, *hole)) == [number]
    correlator.forget(41.0)
    assert correlator.offer(part("trace", "7", 41.0, "20.0")) == []
    assert correlator.counts["duplicates"] == 1
    assert [key[1] for key in correlator._past] == ["7"]


# ---- duplicates ------------------------------------------------------------------------------


def test_duplicates_are_ignored_by_default() -> None:
    correlator = Correlator(NEEDS, NEVER)
    twice = (part("result", "7", 100.0, "first"), part("result", "7", 100.9, "second"))
    assert offer_all(correlator, *twice) == []
    [event] = correlator.offer(part("trace", "7", 101.0))
    assert isinstance(event, Paired)
    assert event.payloads["result"] == b"result:7:first"
    assert correlator.counts["duplicates"] == 1


def test_a_byte_for_byte_repeat_is_a_duplicate_as_long_as_the_join_waits() -> None:
    # QoS 1 delivers again after a reconnect, whenever that is
    correlator = Correlator(NEEDS, NEVER)
    assert offer_all(correlator, part("result", "7", 0.0), part("result", "7", 25.0)) == []
    assert ids(correlator.offer(part("trace", "7", 26.0))) == ["7"]


def test_duplicates_replace_where_that_is_the_policy() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", duplicate_handling="replace"))
    offer_all(correlator, part("result", "7", 0.0, "first"), part("result", "7", 0.9, "second"))
    [event] = correlator.offer(part("trace", "7", 1.0))
    assert isinstance(event, Paired)
    assert event.payloads["result"] == b"result:7:second"
    assert (correlator.counts["duplicates"], correlator.counts["replaced"]) == (1, 1)


def test_duplicates_are_an_error_where_that_is_the_policy_and_the_hole_goes_on() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", duplicate_handling="error"))
    correlator.offer(part("result", "7", 0.0, "first"))
    [refused] = correlator.offer(part("result", "7", 0.5, "second"))
    assert isinstance(refused, Refused)
    assert refused.reason == "Duplicate result for result id 7"
    [paired] = correlator.offer(part("trace", "7", 1.0))
    assert isinstance(paired, Paired)
    assert paired.payloads["result"] == b"result:7:first"
    assert [type(e) for e in correlator.offer(part("trace", "7", 1.1, "other"))] == [Refused]


@pytest.mark.parametrize("handling", ["ignore", "replace", "error"])
def test_heads_that_come_too_late_are_no_duplicate_under_any_policy(handling: str) -> None:
    # under `error` every good hole of a slow gateway would publish a "Duplicate heads" error
    rules = Rules(optional_parts="never", duplicate_handling=handling)
    correlator = Correlator(NEEDS, rules)
    offer_all(correlator, part("result", "7", 0.0), part("trace", "7", 0.0))
    assert correlator.offer(part("heads", "7", 0.1)) == []
    assert (correlator.counts["late"], correlator.counts["duplicates"]) == (1, 0)
    assert len(correlator.buffer) == 0


def test_newer_heads_of_a_waiting_hole_take_the_place_of_the_older_and_end_nothing() -> None:
    correlator = Correlator(NEEDS, NEVER)
    hole = (
        part("heads", "7", 0.0, "old"),
        part("result", "7", 0.1),
        part("heads", "7", 5.0, "new"),
    )
    assert offer_all(correlator, *hole) == []
    [event] = correlator.offer(part("trace", "7", 5.1))
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:7:new"


# ---- Heads: first, last, never, without counter, with another counter -------------------------


def test_heads_first() -> None:
    correlator = Correlator(NEEDS, ALWAYS)
    hole = (part("heads", "7", 0.0), part("result", "7", 0.1), part("trace", "7", 0.2))
    [event] = offer_all(correlator, *hole)
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:7:"


def test_heads_last_are_waited_for_briefly() -> None:
    correlator = Correlator(NEEDS, ALWAYS)
    assert offer_all(correlator, part("result", "7", 0.0), part("trace", "7", 0.1)) == []
    assert correlator.tick(0.5) == []
    [event] = correlator.offer(part("heads", "7", 0.55))
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:7:"


def test_heads_that_never_come_hold_a_hole_up_for_the_wait_and_no_longer() -> None:
    correlator = Correlator(NEEDS, ALWAYS)
    offer_all(correlator, part("result", "7", 0.0), part("trace", "7", 0.1))
    assert correlator.tick(0.59) == []
    [event] = correlator.tick(0.61)
    assert isinstance(event, Paired)
    assert event.payloads.keys() == {"result", "trace"}


def drill(correlator: Correlator, name: str, at_s: float, source: str = TOOL) -> float:
    """A hole without Heads; returns how long it was held up."""
    hole = [part(kind, name, at_s, source=source) for kind in ("result", "trace")]
    if ids(offer_all(correlator, *hole)):
        return 0.0
    for tenths in range(1, 100):
        if name in ids(correlator.tick(at_s + tenths / 10)):
            return tenths / 10
    raise AssertionError(f"hole {name} was never paired")


def test_a_site_without_heads_is_waited_for_three_times_and_never_again() -> None:
    # else every hole of the 2024 gateways would be answered half a second late
    correlator = Correlator(NEEDS, Rules())
    held = [drill(correlator, str(n), 10.0 * n, source=f"box/{n % 4}") for n in range(8)]
    assert held == [0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_a_tool_that_never_sent_heads_at_a_site_with_them_is_waited_for_once() -> None:
    # at a mixed site each tool without Heads would else have its first three holes late
    correlator = Correlator(NEEDS, Rules())
    other = [part(kind, "1", 0.0, source="box/other") for kind in ("heads", "result", "trace")]
    offer_all(correlator, *other)
    assert [drill(correlator, str(n), 10.0 * n) for n in range(1, 5)] == [0.5, 0.0, 0.0, 0.0]
    assert drill(correlator, "9", 100.0, source="box/other") == 0.5


def test_a_tool_that_stops_sending_heads_loses_its_patience_after_three_holes() -> None:
    correlator = Correlator(NEEDS, Rules())
    offer_all(correlator, *(part(kind, "0", 0.0) for kind in ("heads", "result", "trace")))
    assert [drill(correlator, str(n), 10.0 * n) for n in range(1, 6)] == [0.5, 0.5, 0.5, 0.0, 0.0]


def test_patience_comes_back_when_heads_are_seen_to_come_late() -> None:
    correlator = Correlator(NEEDS, Rules())
    held = [drill(correlator, str(n), 10.0 * n) for n in range(4)]
    assert held[-1] == 0.0
    correlator.offer(part("heads", "3", 30.2))  # had we waited, it would have been there
    assert drill(correlator, "4", 40.0) == 0.5


def test_heads_with_a_counter_that_never_fits_do_not_hold_holes_up_for_ever() -> None:
    correlator = Correlator(NEEDS, Rules())
    held = []
    for n in range(6):
        correlator.offer(part("heads", str(900 + n), 10.0 * n))
        held.append(drill(correlator, str(n), 10.0 * n))
    assert held == [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]


def test_without_heads_of_its_own_a_hole_takes_the_newest_of_its_tool() -> None:
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("heads", "1", 0.0, source="box/other"))
    for number in ("2", "3"):
        correlator.offer(part("heads", number, 1.0))
    [event] = offer_all(correlator, part("result", "7", 2.0), part("trace", "7", 2.0))
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:3:"


def test_heads_of_another_hole_are_no_hole_and_go_quietly_but_counted() -> None:
    correlator = Correlator(NEEDS, NEVER)
    correlator.offer(part("heads", "900", 0.0))
    assert correlator.tick(30.0) == []
    assert correlator.counts["optional_unused"] == 1
    assert len(correlator.buffer) == 0


def test_heads_without_a_counter_complete_the_oldest_hole_that_waits() -> None:
    correlator = Correlator(NEEDS, ALWAYS)
    for number in ("1", "2"):
        offer_all(correlator, part("result", number, 0.0), part("trace", number, 0.0))
    first = correlator.offer(part("heads", None, 0.2, "a"))
    second = correlator.offer(part("heads", None, 0.3, "b"))
    assert [(e.key[1], e.payloads["heads"]) for e in first + second] == [
        ("1", b"heads:None:a"),
        ("2", b"heads:None:b"),
    ]


def test_heads_without_a_counter_that_come_just_before_the_hole_is_complete_spare_the_wait() -> (
    None
):
    correlator = Correlator(NEEDS, ALWAYS)
    hole = (part("result", "7", 0.0), part("heads", None, 0.1), part("trace", "7", 0.2))
    [event] = offer_all(correlator, *hole)
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:None:"


def test_heads_without_a_counter_that_missed_their_hole_are_not_taken_for_those_of_the_next() -> (
    None
):
    # one late message would shift the head ids of all the holes that follow by one
    correlator = Correlator(NEEDS, ALWAYS)
    assert drill(correlator, "1", 0.0) == 0.5
    correlator.offer(part("heads", None, 0.7, "of 1"))
    assert offer_all(correlator, part("result", "2", 9.0), part("trace", "2", 9.0)) == []
    [event] = correlator.offer(part("heads", None, 9.2, "of 2"))
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:None:of 2"


def test_a_hole_with_its_heads_does_not_overtake_an_earlier_one_that_waits_for_them() -> None:
    # answers of one tool are promised in order
    correlator = Correlator(NEEDS, ALWAYS)
    early = (part("result", "1", 0.0), part("trace", "1", 0.0))
    late = (part("heads", "2", 0.1), part("result", "2", 0.1), part("trace", "2", 0.1))
    assert offer_all(correlator, *early, *late) == []
    assert ids(correlator.tick(0.5)) == ["1", "2"]


def test_a_busy_tool_is_not_forgotten_for_many_that_spoke_once() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", max_parts=10))
    correlator.offer(part("heads", None, 0.0, "mine"))
    for n in range(100):
        correlator.offer(part("heads", None, float(n), source=f"box/{n}"))
        drill(correlator, str(n), float(n))
    [event] = offer_all(correlator, part("result", "x", 200.0), part("trace", "x", 200.0))
    assert isinstance(event, Paired)
    assert event.payloads["heads"] == b"heads:None:mine"


def test_the_memory_of_sources_is_bounded() -> None:
    # tool names come from outside: a site that renames them must not fill the memory
    correlator = Correlator(NEEDS, Rules(max_parts=10))
    for n in range(100):
        correlator.offer(part("heads", None, float(n), source=f"box/{n}"))
        drill(correlator, "1", float(n), source=f"box/{n}")
    assert len(correlator._habits) == 10


# ---- bounds ----------------------------------------------------------------------------------


def test_one_tool_that_floods_evicts_its_own_oldest_visibly() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", max_parts_per_source=2))
    correlator.offer(part("result", "other", 0.0, source="box/other"))
    events = offer_all(correlator, *(part("result", str(n), 1.0) for n in range(3)))
    assert [(type(e), e.key) for e in events] == [(Unpaired, (TOOL, "0"))]
    assert isinstance(events[0], Unpaired)
    assert "raise correlation.max_parts_per_source" in events[0].reason
    assert correlator.buffer.parts_of("box/other") == 1


def test_a_full_buffer_evicts_the_oldest_of_all_visibly() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", max_parts=2))
    events = offer_all(
        correlator, *(part("result", "1", float(n), source=f"box/{n}") for n in range(3))
    )
    assert [e.key for e in events] == [("box/0", "1")]
    assert isinstance(events[0], Unpaired)
    assert "raise mqtt.listener.max_buffer_size" in events[0].reason
    assert correlator.counts["evicted"] == 1


def test_the_buffer_is_bounded_in_bytes_as_well() -> None:
    # 10000 parts of 4 MB would be 40 GB
    correlator = Correlator(NEEDS, Rules(optional_parts="never", max_bytes=2500))
    big = [part("trace", str(n), 0.0, "x" * 1000) for n in range(3)]
    assert [e.key[1] for e in offer_all(correlator, *big)] == ["0"]


def test_an_evicted_hole_whose_partner_comes_does_not_crowd_out_the_next() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", max_parts=2))
    offer_all(correlator, *(part("result", str(n), 0.0) for n in range(3)))
    events = correlator.offer(part("trace", "0", 0.1))
    assert [type(event) for event in events] == [Refused]
    assert ids(offer_all(correlator, part("trace", "1", 0.2), part("trace", "2", 0.2))) == [
        "1",
        "2",
    ]


def test_evicted_heads_are_no_hole() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="never", max_parts_per_source=1))
    assert offer_all(correlator, part("heads", "1", 0.0), part("heads", "2", 0.0)) == []
    assert correlator.counts["optional_unused"] == 1


def test_a_complete_hole_is_paired_rather_than_evicted() -> None:
    correlator = Correlator(NEEDS, Rules(optional_parts="always", max_parts_per_source=2))
    hole = (part("result", "1", 0.0), part("trace", "1", 0.0))
    assert ids(offer_all(correlator, *hole, part("result", "2", 0.1))) == ["1"]


# ---- the end ---------------------------------------------------------------------------------


def test_a_flush_ends_every_join_in_its_own_way() -> None:
    correlator = Correlator(NEEDS, ALWAYS)
    correlator.offer(part("heads", "3", 0.0))
    correlator.offer(part("result", "2", 0.0))
    offer_all(correlator, part("result", "1", 0.0), part("trace", "1", 0.0))
    events = correlator.flush("the farm was stopped", 0.1)
    assert [(type(e), e.key[1]) for e in events] == [(Unpaired, "2"), (Paired, "1")]
    assert len(correlator.buffer) == 0
    assert correlator.flush("again", 0.2) == []


# ---- any history -----------------------------------------------------------------------------

ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["result", "result", "trace", "trace", "heads"]),
        st.sampled_from(["1", "2", "3"]),
        st.sampled_from(["box/a", "box/b"]),
        st.sampled_from(["", "x"]),  # two contents: repeats and restarts both happen
        st.sampled_from([0.0, 0.1, 0.6, 2.0, 31.0]),  # seconds to the next event
        st.booleans(),  # heads without an id
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(
    ARRIVALS,
    st.sampled_from(["ignore", "replace", "error"]),
    st.sampled_from(["auto", "always", "never"]),
    st.sampled_from([3, 1000]),
)
def test_every_part_has_exactly_one_visible_fate(
    arrivals: list[tuple], handling: str, waiting: str, max_parts: int
) -> None:
    rules = Rules(duplicate_handling=handling, optional_parts=waiting, max_parts=max_parts)
    correlator = Correlator(NEEDS, rules)
    now_s, events, offered = 0.0, list[Event](), Counter[str]()
    for kind, number, source, text, pause_s, loose in arrivals:
        is_loose = loose and kind == "heads"
        offered["loose" if is_loose else kind] += 1
        one = part(kind, None if is_loose else number, now_s, text, source)
        events += correlator.offer(one)
        assert len(correlator.buffer) <= max_parts
        now_s += pause_s
        events += correlator.tick(now_s)
        for join in correlator.buffer._joins.values():
            assert join.opened_s + rules.time_window_s > now_s
    events += correlator.flush("the end", now_s)
    paired = sum(isinstance(event, Paired) for event in events)
    unpaired = [event for event in events if isinstance(event, Unpaired)]
    counts = correlator.counts
    assert counts["paired"] == paired
    causes = counts["expired"] + counts["superseded"] + counts["evicted"] + counts["flushed"]
    assert causes == len(unpaired)
    # each required part is in one join, a duplicate, or was refused as too late
    in_joins = 2 * paired + sum(
        len(event.payloads.keys() & {"result", "trace"}) for event in unpaired
    )
    required = offered["result"] + offered["trace"]
    optional = offered["heads"]
    gone = counts["duplicates"] + counts["late"]
    assert in_joins + gone >= required
    assert in_joins + gone <= required + optional
    for event in events:
        if isinstance(event, Paired):
            required_ids = {event.payloads[k].split(b":")[1] for k in ("result", "trace")}
            assert required_ids == {event.key[1].encode()}
    assert len(correlator.buffer) == 0
    assert not correlator._complete
