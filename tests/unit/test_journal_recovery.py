"""What a start finds: of each kind just what is open, and nothing that is not."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import pytest
from journals import (
    SOURCE,
    VALUE,
    answered,
    crash,
    dead_hole,
    ended,
    failed,
    look_through,
    message,
    open_store,
    opened,
    published_hole,
    rejected,
    whole_hole,
)

from farm.adapter import Publication, Status
from farm.journal import records as r
from farm.journal import recovery
from farm.journal.segments import path_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.journal.recovery import Found
    from farm.journal.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path)
    yield made
    made.close(is_clean=False)


def found_in(store: Store, *batches: list[r.Record], **options: Any) -> Found:
    for batch in batches:
        store.write(batch)
    return look_through(store, **options)


def test_an_empty_journal_has_nothing_open(store: Store) -> None:
    found = found_in(store)
    assert found == recovery.Found()


def test_an_ended_hole_is_no_work_any_more(store: Store) -> None:
    # prevents: every answer of the last day, published once more at each start
    found = found_in(store, published_hole(1))
    assert found.waiting == found.holes == found.letters == found.damaged == []
    assert found.dead_letters == 0


# ---- messages that wait --------------------------------------------------------------------------


def test_messages_in_no_hole_wait_for_their_partners_in_order(store: Store) -> None:
    found = found_in(
        store,
        [message(5, b"five", kind="trace", part_id="b"), message(2, b"two", part_id="a")],
        whole_hole(10)[1],
    )
    assert [(m.message_id, m.kind, m.part_id, m.payload) for m in found.waiting] == [
        (2, "result", "a", b"two"),
        (5, "trace", "b", b"five"),
    ]
    assert found.waiting[0].source == SOURCE


def test_what_is_closed_or_lies_before_the_watermark_does_not_wait(store: Store) -> None:
    # prevents: duplicates and leftovers of hours, offered to the correlator at each start
    found = found_in(
        store,
        [message(1), message(2), message(3, note="a duplicate"), message(4), message(5)],
        [r.Closed(4, "another result took its place"), r.Watermark(2)],
    )
    assert [m.message_id for m in found.waiting] == [2, 5]


def test_a_part_without_an_id_is_given_back_without_one(store: Store) -> None:
    [found] = found_in(store, [message(1, kind="heads", part_id=None)]).waiting
    assert found.part_id is None


def test_a_damaged_message_is_named_and_the_others_are_found(store: Store) -> None:
    # prevents: a start that fails, or loses in silence, because of one bad block
    store.write([message(1, b"aaaa", part_id="7"), message(2, b"bbbb", part_id="8")])
    path = path_of(store.segments_directory, 1)
    path.write_bytes(b"aaxabbbb")
    found = look_through(store)
    assert [m.message_id for m in found.waiting] == [2]
    [sentence] = found.damaged
    assert sentence.startswith(f"a result message of {SOURCE} with id 7: segment 1 is damaged")


# ---- holes ---------------------------------------------------------------------------------------


def test_a_hole_without_an_answer_is_found_with_its_past(store: Store) -> None:
    hole_id, records = whole_hole(1, size=40)
    story = [[100.0, 0, [[0.0, "first part", ""]]]]
    found = found_in(store, [*records, r.Hurt(hole_id, 2, story)])
    [hole] = found.holes
    assert (hole.hole_id, hole.source, hole.part_id) == (3, SOURCE, "7")
    assert hole.messages == {"result": 1, "trace": 2}
    assert (hole.payload_bytes, hole.deaths, hole.story) == (80, 2, story)
    assert (hole.first_s, hole.last_s, hole.at_s) == pytest.approx((99.1, 99.6, 100.1))
    assert found.waiting == found.letters == []


def test_holes_come_oldest_first_and_retries_are_holes(store: Store) -> None:
    # prevents: answers of a tool out of order after a crash
    found = found_in(
        store,
        whole_hole(20, part_id="b")[1],
        whole_hole(10, part_id="a")[1],
        [*dead_hole(1), r.Resolved(3, "retried"), opened(30, {"result": 1}, retry_of=3)],
    )
    assert [hole.hole_id for hole in found.holes] == [12, 22, 30]
    assert found.dead_letters == 0


def test_a_hole_whose_messages_are_gone_is_still_found(store: Store) -> None:
    # prevents: a hole that ends nowhere since its bytes are lost; it must become a dead letter
    [hole] = found_in(store, [opened(9, {"result": 1, "trace": 2})]).holes
    assert (hole.hole_id, hole.payload_bytes, hole.story) == (9, 0, [])


# ---- answers -------------------------------------------------------------------------------------


def test_an_answer_that_mqtt_has_not_confirmed_is_found_with_its_count(store: Store) -> None:
    hole_id, records = whole_hole(1)
    found = found_in(store, [*records, answered(hole_id, terminal="insufficient")])
    [letter] = found.letters
    assert (letter.letter_id, letter.part_id, letter.count) == (3, "7", 2)
    assert letter.terminal == "insufficient"
    assert letter.answered_s == 102.0
    assert found.holes == []


def test_rejections_and_answers_come_in_one_order(store: Store) -> None:
    first, records = whole_hole(1)
    last, more = whole_hole(20, part_id="8")
    found = found_in(
        store,
        [*more, answered(last)],
        [message(10, note="no id in it"), rejected(11, 10)],
        [message(12, note="no id in it"), rejected(13, 12), r.RejectionEnded(13, 100.0)],
        [*records, answered(first, publications=())],
    )
    assert [(one.letter_id, one.terminal, one.count) for one in found.letters] == [
        (3, "published", 0),
        (11, None, 1),
        (22, "published", 2),
    ]
    assert found.waiting == []


def test_dead_letters_are_counted_until_they_are_dealt_with(store: Store) -> None:
    found = found_in(
        store,
        dead_hole(1),
        dead_hole(11, terminal="shed"),
        [*dead_hole(21), r.Resolved(23, "dropped")],
        published_hole(31),
    )
    assert found.dead_letters == 2


# ---- what the stations remember ------------------------------------------------------------------


def test_the_newest_optional_part_of_each_source_is_remembered(store: Store) -> None:
    found = found_in(
        store,
        [message(1, b"old", kind="heads"), message(2, b"new", kind="heads", note="too late")],
        [message(3, b"other", kind="heads", source="BOX-2/UNIT-2"), r.Watermark(99)],
    )
    assert sorted((m.source, m.payload) for m in found.newest) == [
        (SOURCE, b"new"),
        ("BOX-2/UNIT-2", b"other"),
    ]
    assert found_in(store, optional_kinds=[]).newest == []


def test_joins_that_have_just_ended_are_remembered_with_the_prints_of_their_parts(
    store: Store,
) -> None:
    # prevents: a part that MQTT delivers again after the crash, taken for that of a new hole
    found = found_in(
        store,
        published_hole(1, at_s=100.0, part_id="old"),
        published_hole(11, at_s=190.0, part_id="new"),
        whole_hole(21, at_s=195.0, part_id="open")[1],
        [message(40, at_s=200.0)],
        past_s=50.0,
    )
    assert [past.part_id for past in found.past] == ["new", "open"]
    row = store.connection.execute("SELECT crc, length FROM message WHERE id = 11").fetchone()
    assert found.past[0].prints["result"] == row
    assert found.past[0].prints.keys() == {"result", "trace"}
    assert found.past[0].age_s == pytest.approx(200.0 - 190.1)


def test_a_retry_is_no_join_that_ended(store: Store) -> None:
    # prevents: the age of a retry taken for that of the join, whose parts came a month before
    found = found_in(
        store,
        dead_hole(1, at_s=100.0),
        [r.Resolved(3, "retried"), opened(9, {"result": 1, "trace": 2}, at_s=500.0, retry_of=3)],
    )
    assert len(found.past) == 1


def test_of_the_past_only_so_many_are_remembered(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "MAX_PAST", 2)
    found = found_in(store, *(published_hole(10 * n, part_id=str(n)) for n in range(1, 5)))
    assert [past.part_id for past in found.past] == ["3", "4"]
    assert [finished.part_id for finished, _ in found.judged] == ["3", "4"]


def test_what_was_judged_lately_is_given_to_the_answerer_again(store: Store) -> None:
    # prevents: an alert about a run of negative depths that each restart forgets
    dead, records = whole_hole(21, part_id="dead", at_s=190.0)
    found = found_in(
        store,
        published_hole(1, at_s=100.0, part_id="long ago"),
        published_hole(11, at_s=190.0, part_id="lately"),
        [*records, failed(dead, "Gave up", at_s=195.0)],
        whole_hole(31, at_s=196.0, part_id="open")[1],
        judged_since_s=150.0,
    )
    [(first, first_s), (second, second_s)] = found.judged
    assert (first.part_id, first.status, first.value) == ("lately", Status.OK, VALUE)
    assert (first.provenance, first.model_version) == ({"MachineId": "M-1"}, "rule-2")
    assert (second.part_id, second.status, second.value) == ("dead", Status.FAILED, None)
    assert second.reason == "Gave up"
    assert (first_s, second_s) == (190.2, 195.0)


@pytest.mark.parametrize(
    ("settings", "expected"), [([], False), (["1"], True), (["1", "0"], False)]
)
def test_a_pause_outlives_the_broker(store: Store, settings: list[str], expected: bool) -> None:
    # prevents: an operator's stop for repairs that a crash lifts
    assert found_in(store, [r.Setting("paused", s) for s in settings]).is_paused is expected


# ---- over a crash --------------------------------------------------------------------------------


def test_of_a_life_cut_short_each_kind_is_found_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    store = open_store(tmp_path / "a", segment_bytes=20)
    hole_id, records = whole_hole(11)
    confirming, more = whole_hole(21)
    store.write(published_hole(1))
    store.write(records)
    store.write([*more, answered(confirming, publications=[Publication("out", b"x")])])
    store.write([*dead_hole(31), message(40), r.Setting("paused", "1")])
    next_life = open_store(crash(store, tmp_path / "b"), segment_bytes=20)
    with contextlib.ExitStack() as end:
        end.callback(next_life.close, is_clean=True)
        found = look_through(next_life)
        assert next_life.life == store.life + 1
        assert [hole.hole_id for hole in found.holes] == [hole_id]
        assert [letter.letter_id for letter in found.letters] == [confirming]
        assert [m.message_id for m in found.waiting] == [40]
        assert (found.dead_letters, found.is_paused, found.damaged) == (1, True, [])
        next_life.write([answered(hole_id), ended(hole_id), ended(confirming)])
        found = look_through(next_life)
        assert found.holes == found.letters == []


def test_what_lies_behind_the_last_commit_is_not_looked_at(tmp_path: Path) -> None:
    # prevents: a start that refuses a segment since a write was cut in its middle
    (tmp_path / "a").mkdir()
    store = open_store(tmp_path / "a")
    store.write([message(1, b"whole")])
    state_dir = crash(store, tmp_path / "b")
    with path_of(state_dir / "journal" / "segments", 1).open("ab") as segment:
        segment.write(os.urandom(100))
    next_life = open_store(state_dir)
    next_life.write([message(2, b"more")])
    assert [m.payload for m in look_through(next_life).waiting] == [b"whole", b"more"]
    next_life.close(is_clean=True)
