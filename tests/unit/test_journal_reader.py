"""The journal read by the commands: beside its writer, after it, and damaged."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest
from journals import (
    VALUE,
    answered,
    dead_hole,
    ended,
    message,
    open_store,
    opened,
    published_hole,
    whole_hole,
)

from farm.errors import JournalError
from farm.journal import records as r
from farm.journal.reader import JournalReader
from farm.journal.records import HoleState
from farm.journal.segments import numbers, path_of
from farm.journal.store import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from farm.journal.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path)
    yield made
    made.close(is_clean=False)


def test_a_hole_is_read_whole_while_the_journal_is_being_written(
    tmp_path: Path, store: Store
) -> None:
    store.write(published_hole(1))
    with JournalReader(tmp_path) as journal:
        [hole] = journal.find("BOX-1/UNIT-1", "7")
        assert hole.hole_id == 3
        assert (hole.state, hole.terminal, hole.status) == (HoleState.ENDED, "published", "ok")
        assert (hole.value, hole.model_hash) == (VALUE, "f00d")
        assert [p.topic for p in hole.publications] == ["out/keypoints", "out/depths"]
        assert journal.parts(hole) == {"result": b"A" * 10, "trace": b"B" * 10}
        assert [m.kind for m in journal.messages_of(hole)] == ["result", "trace"]
        store.write(published_hole(11))  # not held up by the reader
        assert [h.hole_id for h in journal.find("BOX-1/UNIT-1", "7")] == [3, 13]
        assert journal.hole(99) is None


def test_it_can_be_read_after_its_farm_ended_well_and_nothing_is_written(tmp_path: Path) -> None:
    # prevents: a journal that can be read only while its farm runs, or that reading changes
    store = open_store(tmp_path)
    store.write(published_hole(1))
    store.close(is_clean=True)
    before = (store.directory / DATABASE_NAME).read_bytes()
    with JournalReader(tmp_path) as journal:
        assert [h.hole_id for h in journal.find("UNIT-1", "7")] == [3]
    assert (store.directory / DATABASE_NAME).read_bytes() == before


def test_a_tool_may_be_named_by_its_last_part_alone_and_literally(
    tmp_path: Path, store: Store
) -> None:
    # prevents: UNIT_1 that finds UNIT-1 as well, since _ is a wildcard of SQL
    store.write(published_hole(1, source="BOX-1/UNIT_1"))
    store.write(published_hole(11, source="BOX-1/UNITX1"))
    store.write(published_hole(21, source="BOX-2/UNIT_1"))
    with JournalReader(tmp_path) as journal:
        assert [h.source for h in journal.find("UNIT_1", "7")] == ["BOX-1/UNIT_1", "BOX-2/UNIT_1"]
        assert [h.source for h in journal.find("BOX-2/UNIT_1", "7")] == ["BOX-2/UNIT_1"]
        assert journal.find("NIT_1", "7") == []
        assert journal.find("UNIT_1", "8") == []


def test_duplicates_and_parts_that_wait_are_found_beside_the_holes(
    tmp_path: Path, store: Store
) -> None:
    store.write(published_hole(1))
    store.write([message(10, kind="result", note="a duplicate"), message(11, part_id="9")])
    with JournalReader(tmp_path) as journal:
        assert [m.note for m in journal.others_of("UNIT-1", "7")] == ["a duplicate"]
        assert [m.note for m in journal.others_of("UNIT-1", "9")] == [""]


def test_only_letters_that_nobody_dealt_with_and_mqtt_confirmed_are_dead(
    tmp_path: Path, store: Store
) -> None:
    store.write(dead_hole(1))
    store.write(dead_hole(11, terminal="shed"))
    store.write([*dead_hole(21), r.Resolved(23, "dropped")])
    hole_id, records = whole_hole(31)
    store.write([*records, answered(hole_id, terminal="dead")])
    store.write(published_hole(41))
    with JournalReader(tmp_path) as journal:
        assert [h.hole_id for h in journal.dead_letters()] == [3, 13]
        assert [h.hole_id for h in journal.dead_letters(limit=1)] == [3]
        assert journal.count_dead_letters() == 2
        assert all(h.is_dead_letter for h in journal.dead_letters())
        dropped = journal.hole(23)
        assert dropped is not None
        assert not dropped.is_dead_letter


def test_an_open_hole_has_no_end_yet(tmp_path: Path, store: Store) -> None:
    store.write([*whole_hole(1)[1], r.Hurt(3, 2, [[1.0, 0, []]])])
    with JournalReader(tmp_path) as journal:
        hole = journal.hole(3)
        assert hole is not None
        assert (hole.state, hole.terminal, hole.deaths) == (HoleState.OPEN, "", 2)
        assert (hole.answered_s, hole.ended_s, hole.publications) == (None, None, ())


def test_messages_that_are_gone_are_named(tmp_path: Path, store: Store) -> None:
    store.write([message(1, b"a", kind="result"), opened(3, {"result": 1, "trace": 2})])
    with JournalReader(tmp_path) as journal:
        hole = journal.hole(3)
        assert hole is not None
        assert [m.kind for m in journal.messages_of(hole)] == ["result"]
        with pytest.raises(JournalError, match=r"trace.*keep_s"):
            journal.parts(hole)


# ---- damage ---------------------------------------------------------------------------------


def test_a_whole_journal_is_found_whole(tmp_path: Path, store: Store) -> None:
    store.write(published_hole(1))
    store.write(dead_hole(11))
    store.write(whole_hole(21)[1])
    looked_at: list[int] = []
    with JournalReader(tmp_path) as journal:
        checked = journal.check(looked_at.append)
        assert sum(looked_at) == journal.count_messages() == 6
    assert (checked.damages, checked.told) == (0, ())
    assert (checked.messages, checked.message_bytes) == (6, 60)
    assert (checked.holes, checked.open_holes, checked.dead_letters) == (3, 1, 1)


def test_each_damaged_or_missing_message_is_counted_and_named(tmp_path: Path, store: Store) -> None:
    store.write(published_hole(1))
    segments = tmp_path / "journal" / "segments"
    path = path_of(segments, numbers(segments)[0])
    with path.open("r+b") as file:
        file.seek(3)
        file.write(b"?")
    with JournalReader(tmp_path) as journal:
        checked = journal.check()
    assert checked.damages == 1
    assert "a result of BOX-1/UNIT-1, 7" in checked.told[0]
    path.unlink()
    with JournalReader(tmp_path) as journal:
        assert journal.check().damages == 2


def test_a_damaged_database_is_said_to_be_one(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for number in range(200):
        store.write(published_hole(1 + 10 * number))
    store.close(is_clean=True)
    path = store.directory / DATABASE_NAME
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(os.urandom(4096))
    told = ""
    with JournalReader(tmp_path) as journal:
        try:
            told = " ".join(journal.check().told)
        except JournalError as error:  # damaged where even the check must read
            told = str(error)
    assert "database" in told or "malformed" in told


def test_no_journal_and_one_of_another_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"no journal.*--state-dir"):
        JournalReader(tmp_path)
    store = open_store(tmp_path)
    store.close(is_clean=True)
    with sqlite3.connect(store.directory / DATABASE_NAME) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalError, match="version 99"):
        JournalReader(tmp_path)


def test_an_answer_that_mqtt_refused_says_so(tmp_path: Path, store: Store) -> None:
    hole_id, records = whole_hole(1)
    store.write([*records, answered(hole_id), ended(hole_id, terminal="dead", refusals="too big")])
    with JournalReader(tmp_path) as journal:
        [letter] = journal.dead_letters()
        assert (letter.status, letter.refusals) == ("ok", "too big")
