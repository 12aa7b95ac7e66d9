"""Answers are read, kept as lines, and compared: what differs is found, and nothing else."""

from __future__ import annotations

import json
from collections import Counter

import orjson
import pytest
from recordings import S, answer, hole, traffic, write

from farm.errors import RecordingError
from farm.recording.answers import AnswerBook, HoleKey, HoleResult, Refusal
from farm.recording.expected import Sent, Verdict, compare
from farm.recording.record import Note
from farm.recording.results import Results, read_results, write_results

ESTIMATE = "ResultManagement.Results.0.ResultContent.DepthEstimation"
KEYPOINTS, DEPTHS, ERRORS = (
    f"{ESTIMATE}.{name}" for name in ("KeyPoints", "DepthEstimation", "Errors")
)
SOURCE = "BOX-1/UNIT-1"
REQUIRED = frozenset({"result", "trace"})
WHOLE = Sent(REQUIRED, REQUIRED)
KEY = HoleKey(SOURCE, "440")
VALUE = HoleResult((1.0, 2.0, 3.0), (1.0, 1.0))
ERROR = HoleResult(reason="Air drilling: the drill met no material")


def body(value, *, result_id="440", **more) -> bytes:
    return orjson.dumps({"ResultId": result_id, "Value": value, "AlgoVersion": "rule-2"} | more)


def told(*messages) -> AnswerBook:
    book = AnswerBook(traffic())
    for at_s, (path, payload) in enumerate(messages):
        book.take(f"OPCPUBSUB/{SOURCE}/{path}", payload, float(at_s))
    return book


def test_the_two_messages_of_a_hole_are_one_answer():
    """Prevents a comparison of halves."""
    book = told((KEYPOINTS, body([1, 2.5, 4])), (DEPTHS, body([1.5, 1.5])))
    assert book.results() == {KEY: HoleResult((1.0, 2.5, 4.0), (1.5, 1.5), algo_version="rule-2")}
    assert book.is_answered((SOURCE, "440"))
    assert not told((DEPTHS, body([1, 2]))).is_answered((SOURCE, "440"))


def test_an_answer_published_again_is_one_and_a_later_one_another():
    """Prevents a resent answer that counts as extra, and a second hole that is overlooked."""
    one = ((KEYPOINTS, body([1, 2])), (DEPTHS, body([1])))
    book = told(*one, *one)
    assert len(book.results()) == 1
    assert book.repeats == 2
    other = ((KEYPOINTS, body([5, 9])), (DEPTHS, body([4])))
    book = told(*one, *other)
    assert book.results()[HoleKey(SOURCE, "440", 2)].depths_mm == (4.0,)
    for path, payload in one:  # the same bytes, when a farm would take them for a new hole
        book.take(f"OPCPUBSUB/{SOURCE}/{path}", payload, 500.0)
    assert len(book.results()) == 3


def test_reasons_and_refusals_are_read():
    """Prevents an error that counts as a value, and refused messages that nobody sees."""
    book = told(
        (KEYPOINTS, body("Air drilling", Error=True)),
        (DEPTHS, body("Air drilling", Error=True)),
        (ERRORS, orjson.dumps({"Value": "no id", "Kind": "trace", "Error": True})),
    )
    assert book.results()[KEY].reason == "Air drilling"
    assert book.refusals == {Refusal(SOURCE, "trace", "no id"): 1}


def test_a_renewed_id_in_a_reason_is_told_as_recorded():
    """Prevents a difference that is only the id under which a hole was replayed."""
    book = AnswerBook(traffic(), lambda key, _: HoleKey(key[0], "440"))
    sentence = "Duplicate trace for result id 99001, not 990012"
    book.take(f"OPCPUBSUB/{SOURCE}/{KEYPOINTS}", body(sentence, result_id="99001", Error=True), 0.0)
    assert book.results()[KEY].reason == "Duplicate trace for result id 440, not 990012"


def test_a_renewed_id_in_a_refusal_is_told_as_recorded():
    """Prevents a comparison of refusals that no farm ever passes: each replay has other ids."""
    book = AnswerBook(traffic(), lambda key, _: HoleKey(key[0], "440"))
    sentence = "The trace for result id {} came after its hole had been given up"
    said = orjson.dumps({"Value": sentence.format("99001"), "Kind": "trace", "Error": True})
    book.take(f"OPCPUBSUB/{SOURCE}/{ERRORS}", said, 0.0)
    assert book.refusals == {Refusal(SOURCE, "trace", sentence.format("440")): 1}


@pytest.mark.parametrize("payload", [b"", b"[]", b"{", b"{}", b'{"ResultId": 3}', b"\xff"])
def test_what_is_no_answer_is_counted(payload):
    """Prevents a stranger on the answers' topic who ends a replay."""
    book = told((KEYPOINTS, payload))
    assert book.results() == {}
    assert book.unreadable == 1
    book.take("elsewhere", payload, 0.0)


# ---- the file ------------------------------------------------------------------------------------


def test_results_are_kept_as_lines_and_read_again(tmp_path):
    """Prevents expected answers that change by being kept."""
    results = Results(
        {
            KEY: HoleResult((1.5, 2.0), (0.5,), "", "depthnet-2", "f00d"),
            HoleKey(SOURCE, "440", 2): ERROR,
            HoleKey(SOURCE, "7"): HoleResult((1.0,), None),
        },
        Counter({Refusal(SOURCE, "trace", "no id"): 3}),
    )
    path = tmp_path / "r.jsonl"
    write_results(path, results)
    assert read_results(path, traffic()) == results
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {"format": "farm-results", "version": 1}
    assert lines[1]["keypoints_mm"] == [1.5, 2.0]


def test_the_answers_in_a_recording_are_results(tmp_path):
    """Prevents a recording with answers that is no regression test by itself."""
    path = tmp_path / "r"
    found = [answer(KEYPOINTS, body([1, 2])), answer(DEPTHS, body([1]))]
    early = [answer(each, body([1], result_id="439")) for each in (KEYPOINTS, DEPTHS)]
    write(path, [*early, *hole(440), *found])
    holes = read_results(path, traffic()).holes
    assert holes[KEY].depths_mm == (1.0,)
    assert list(holes) == [KEY]  # what 439 was sent came before the recording was begun
    write(tmp_path / "empty", [Note(1 * S, "begun")])
    with pytest.raises(RecordingError, match="no answers in it: record with --results"):
        read_results(tmp_path / "empty", traffic())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", None),
        ("x", "no file of results"),
        ('{"format": "farm-results", "version": 9}', "version 9"),
        ('{"format": "farm-results", "version": 1}\nnonsense', "line 2"),
        ('{"format": "farm-results", "version": 1}\n{"tool": "a"}', "line 2"),
        ('{"format": "farm-results", "version": 1}\n{"tool": "a", "id": "1", "depths_mm": 3}',
         "line 2"),
        ('{"format": "farm-results", "version": 1}\n{"tool": "a", "id": "1", "depths_mm": [1'
         + "0" * 400 + "]}", "line 2"),
        ('{"format": "farm-results", "version": 1}\n' + " " * 200_000, "too long"),
    ],
)  # fmt: skip
def test_a_wrong_file_of_results_is_refused_with_its_line(tmp_path, text, words):
    """Prevents a comparison with nothing, which is always green."""
    path = tmp_path / "r.jsonl"
    path.write_text(text)
    if words is None:
        assert read_results(path, traffic()) == Results()
        return
    with pytest.raises(RecordingError, match=words):
        read_results(path, traffic())


# ---- comparing -----------------------------------------------------------------------------------


def judged(wanted, answer_, sent=WHOLE, **options):
    expected = Results({} if wanted is None else {KEY: wanted})
    found = Results({} if answer_ is None else {KEY: answer_})
    whats = {} if sent is None else {KEY: sent}
    return compare(expected, found, whats, required=REQUIRED, **options)


@pytest.mark.parametrize(
    ("wanted", "answer_", "verdict"),
    [
        (VALUE, VALUE, None),
        (VALUE, HoleResult((1.05, 2.0, 3.0), (1.0, 0.95)), None),
        (VALUE, HoleResult((1.051, 2.0, 3.0), (1.0, 1.0)), Verdict.DIFFERENT),
        (VALUE, HoleResult((1.0, 2.0, 3.0), (1.0, 1.1)), Verdict.DIFFERENT),
        (VALUE, HoleResult((1.0, 3.0), (2.0,)), Verdict.DIFFERENT),
        (VALUE, HoleResult((1.0, 2.0, 3.0), None), Verdict.DIFFERENT),
        (VALUE, HoleResult((float("nan"), 2.0, 3.0), (1.0, 1.0)), Verdict.DIFFERENT),
        (VALUE, ERROR, Verdict.DIFFERENT),
        (VALUE, None, Verdict.MISSING),
        (None, VALUE, Verdict.EXTRA),
        (ERROR, ERROR, None),
        (ERROR, HoleResult(reason="Aborted"), Verdict.DIFFERENT),
        (ERROR, VALUE, Verdict.DIFFERENT),
    ],
)
def test_answers_are_the_same_within_the_tolerance(wanted, answer_, verdict):
    """Prevents a model that changed and nobody noticed, and an alarm about rounding."""
    comparison = judged(wanted, answer_, tolerance_mm=0.05)
    assert [each.verdict for each in comparison.differences] == ([verdict] if verdict else [])
    assert comparison.is_same == (verdict is None)
    assert comparison.same == (verdict is None)


def test_a_number_that_cannot_be_compared_is_not_near():
    """Prevents a tolerance by which everything passes."""
    for tolerance_mm in (float("nan"), float("inf")):
        assert not judged(VALUE, ERROR, tolerance_mm=tolerance_mm).is_same


LACKS_TRACE = Sent(frozenset({"result", "heads"}), REQUIRED | {"heads"})
LACKS_BOTH = Sent(frozenset({"heads"}), REQUIRED | {"heads"})
LACKS_HEADS = Sent(REQUIRED, REQUIRED | {"heads"})


@pytest.mark.parametrize(
    ("sent", "answer_", "verdict", "same", "not_sent"),
    [
        (LACKS_TRACE, HoleResult(reason="Not paired"), None, 1, 0),
        (LACKS_TRACE, VALUE, Verdict.DIFFERENT, 0, 0),
        (LACKS_TRACE, None, Verdict.MISSING, 0, 0),
        (LACKS_BOTH, None, None, 0, 1),
        (LACKS_BOTH, VALUE, Verdict.EXTRA, 0, 0),
        (LACKS_HEADS, VALUE, None, 1, 0),
        (LACKS_HEADS, None, Verdict.MISSING, 0, 0),
    ],
)
def test_what_a_fault_has_dropped_is_expected_to_be_missed(sent, answer_, verdict, same, not_sent):
    """Prevents dropped messages that look like lost ones, and lost ones that look dropped."""
    comparison = judged(VALUE, answer_, sent)
    assert [each.verdict for each in comparison.differences] == ([verdict] if verdict else [])
    assert (comparison.same, comparison.not_sent) == (same, not_sent)


def test_an_answer_to_a_hole_that_the_recording_lacks_is_missed_unless_only_a_part_was_replayed():
    """Prevents the wrong file of results from passing, and a filter from failing."""
    assert not judged(VALUE, None, None).is_same
    partial = judged(VALUE, None, None, is_partial=True)
    assert partial.is_same
    assert partial.not_sent == 1


def test_refusals_are_compared_where_no_fault_makes_some():
    """Prevents unreadable messages that a new farm takes for holes, or the other way round."""
    refusal = Refusal(SOURCE, "trace", "no id")
    expected, found = Results(refusals=Counter({refusal: 2})), Results()
    comparison = compare(expected, found, {}, required=REQUIRED)
    assert [each.verdict for each in comparison.differences] == [Verdict.REFUSED]
    assert comparison.counts() == {"missing": 0, "extra": 0, "different": 0, "refused": 1}
    assert compare(expected, found, {}, required=REQUIRED, has_faults=True).is_same
