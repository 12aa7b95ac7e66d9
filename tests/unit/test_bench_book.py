"""The account of a load, its pace, and how answers are recognised: tables of events."""

from __future__ import annotations

import itertools

import pytest

from farm.simulation.bench.answers import TOPICS, Answer, error_of, recognise
from farm.simulation.bench.book import Book, Span
from farm.simulation.bench.pace import ClosedPace, OpenPace

SOURCE = "SIM-BOX-1/SIM-00001"


def topic(tail: str) -> bytes:
    return f"{TOPICS.root}/{SOURCE}/{tail}".encode()


def filled(*answers: tuple[int, bool], holes: int) -> Book:
    """A book with holes sent at 1, 2, … s and answers at 11, 12, … s: number, is it the depths."""
    book = Book()
    for number in range(holes):
        assert book.issue(number + 1.0) == number
    for place, (number, is_depth) in enumerate(answers):
        book.answer(number, place + 11.0, is_depth=is_depth)
    return book


def test_a_hole_is_complete_with_both_answers_in_any_order():
    book = filled((0, True), (1, False), holes=2)
    assert (book.complete, book.in_flight, book.unanswered()) == (0, 2, [0, 1])
    assert book.answer(0, 21.0, is_depth=False)
    assert book.answer(1, 22.0, is_depth=True)
    assert (book.complete, book.in_flight, book.unanswered()) == (2, 0, [])
    assert book.delays_s(Span(0.0, 9.0)) == [10.0, 20.0]  # to the depths, not to the last answer


def test_an_answer_that_comes_twice_is_told_and_counted_once():
    # prevents: a farm that publishes everything twice looks twice as fast
    book = filled((0, True), (0, False), (0, True), (1, False), (1, False), holes=2)
    assert book.complete == 1
    assert book.repeated() == [0, 1]
    assert book.unanswered() == [1]
    assert book.delays_s(Span(0.0, 9.0)) == [10.0]  # of the first one


def test_a_hole_answered_a_thousand_times_does_not_overflow():
    book = filled(*[(0, True)] * 1000, holes=1)
    assert book.repeated() == [0]


@pytest.mark.parametrize("number", [-1, 2, 10_000_000_000])
def test_an_answer_to_nobody_s_hole_is_a_stranger_and_nothing_else(number):
    book = filled((number, True), holes=2)
    assert (book.strangers, book.complete, book.repeated()) == (1, 0, [])


def test_only_what_is_done_in_the_measured_time_counts_for_it():
    # prevents: the warm-up, or the tail that drains after the load, in the throughput
    book = filled(*[(n, kind) for n in range(4) for kind in (True, False)], holes=4)
    assert list(book.done_s) == [12.0, 14.0, 16.0, 18.0]
    span = Span(13.0, 17.0)
    assert book.done_in(span) == 2
    assert book.timeline(span, 2.0) == [1, 1]
    assert book.timeline(Span(11.0, 20.0), 2.0) == [1, 1, 1, 1]  # what is left over is no step


def test_a_closed_loop_never_has_more_in_flight_than_it_may():
    pace, book = ClosedPace(3), Book()
    sent = []
    for round_ in range(5):
        due = pace.due(0.0, book.in_flight)
        sent += [book.issue(float(round_ + 1)) for _ in range(due)]
        assert book.in_flight == 3
        assert pace.due(0.0, book.in_flight) == 0
        book.answer(round_, 9.0, is_depth=True)
        assert pace.due(0.0, book.in_flight) == 0  # half an answer makes no room
        book.answer(round_, 9.0, is_depth=False)
        book.answer(round_, 9.0, is_depth=False)  # nor does a second one make room twice
        assert pace.due(0.0, book.in_flight) == 1
    assert sent == list(range(7))


def test_an_open_loop_sends_each_hole_when_it_is_due_and_tells_how_late_it_was():
    pace = OpenPace(iter(n / 10 for n in itertools.count()), start_s=100.0)
    assert [pace.due(100.0, 0), pace.due(100.0, 0)] == [1, 0]
    assert pace.wait_s(100.03) == pytest.approx(0.07)
    # it was held up: two are due, and go out one after the other, whatever is in flight
    assert [pace.due(100.25, 999) for _ in range(3)] == [1, 1, 0]
    assert pace.max_late_s == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("payload", "result_id"),
    [
        (b'{"MachineId":"1000000001","ResultId":"1000000042","Value":[1]}', 1_000_000_042),
        (b'{"ResultId": "1000000042", "Value": [1]}', 1_000_000_042),  # another way of writing
        (b'{"ResultId":1000000042}', 1_000_000_042),
        (b'{"ResultId":"42"}', 42),
        (b'{"ResultId":"10000000420"}', 10_000_000_420),  # longer than ours: not cut to fit
    ],
)
def test_an_answer_is_recognised_by_topic_and_result_id(payload, result_id):
    expected = (SOURCE.encode(), result_id)
    assert recognise(topic(TOPICS.depth), payload) == Answer(*expected, is_depth=True)
    assert recognise(topic(TOPICS.keypoints), payload) == Answer(*expected, is_depth=False)


@pytest.mark.parametrize(
    ("tail", "payload"),
    [
        (TOPICS.errors, b'{"ResultId":"1000000042"}'),
        (TOPICS.depth, b'{"ResultId":null}'),
        (TOPICS.depth, b'{"ResultId":"abc"}'),
        (TOPICS.depth, b"[1]"),
        (TOPICS.depth, b"no json"),
    ],
)
def test_what_names_no_hole_is_no_answer(tail, payload):
    assert recognise(topic(tail), payload) is None


def test_the_reason_of_an_error_is_read_and_only_then():
    assert error_of(b'{"Value":[1.0],"Alert":"Error"}') == ""
    assert error_of(b'{"Value":"too short","Error":true}') == "too short"
    assert error_of(b'{"Value":[1.0],"Error":false}') == ""
