"""What leaves the journal and when; and that nothing leaves which somebody still needs.

Times are seconds since 1970, told to the retention by a clock that only the test moves.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from journals import (
    answered,
    dead_hole,
    ended,
    look_through,
    message,
    open_store,
    opened,
    published_hole,
    rejected,
    whole_hole,
)
from rig import eventually

from farm.journal import housekeeping, records, segments
from farm.journal.housekeeping import COPIES_PER_STEP, ROWS_PER_STEP, Checkpointer, Retention
from farm.journal.rows import unpack
from farm.journal.segments import Place, SegmentReader, numbers, path_of
from farm.journal.store import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.journal.records import Record

SIZE = 1000  # of a message
SEGMENT = 2 * SIZE  # the two messages of a hole fill it
START_S = 100.0
LONG_S = 1e9


class House:
    """A journal, its retention, and a clock."""

    def __init__(self, tmp_path: Path, **options: Any) -> None:
        self.store = open_store(tmp_path, segment_bytes=SEGMENT)
        self.utc_s = START_S
        chosen = {"keep_s": LONG_S, "keep_bytes": 10**12, "keep_dead_s": LONG_S} | options
        self.retention = Retention(**chosen, utc=lambda: self.utc_s)
        self.steps = 0

    def write(self, *batches: list[Record]) -> None:
        for batch in batches:
            self.store.write(batch)

    def keep(self, limit: int = 10_000) -> None:
        """All that is to be done now."""
        self.retention._next_look_s = 0.0
        for _ in range(limit):
            if not self.retention.step(self.store):
                return
            self.steps += 1
        pytest.fail("housekeeping comes to no end")

    def column(self, query: str) -> list[Any]:
        return [row[0] for row in self.store.connection.execute(query)]

    @property
    def holes(self) -> list[int]:
        return self.column("SELECT id FROM hole ORDER BY id")

    @property
    def segments(self) -> list[int]:
        return numbers(self.store.segments_directory)

    def payloads(self, hole_id: int) -> dict[str, bytes | None]:
        """The messages of a hole as they can be read now; None: gone."""
        [packed] = self.column(f"SELECT parts FROM hole WHERE id = {hole_id}")
        reader = SegmentReader(self.store.segments_directory)
        found: dict[str, bytes | None] = {}
        for kind, message_id in unpack(packed).items():
            row = self.store.connection.execute(
                "SELECT segment, position, length, crc FROM message WHERE id = ?", (message_id,)
            ).fetchone()
            found[kind] = reader.read(Place(*row)) if row else None
        reader.close()
        return found


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    made: list[House] = []

    def make_one(**options: Any) -> House:
        house = House(tmp_path, **options)
        made.append(house)
        return house

    yield make_one
    for house in made:
        house.store.close(is_clean=True)


def hole(number: int, **more: Any) -> list[Record]:
    return published_hole(10 * number, size=SIZE, part_id=str(number), **more)


def letter(number: int, **more: Any) -> list[Record]:
    return dead_hole(10 * number, size=SIZE, part_id=str(number), **more)


def hole_ids(*of: int) -> list[int]:
    return [10 * number + 2 for number in of]


# ---- by age --------------------------------------------------------------------------------------


def test_what_is_old_goes_with_its_segments_and_what_is_young_stays(make: Any) -> None:
    house = make(keep_s=50.0)
    house.write(*(hole(n, at_s=START_S + 10 * n) for n in range(1, 6)), [records.Watermark(999)])
    house.utc_s = START_S + 80.0  # holes 1 and 2 are older than 50 s
    house.keep()
    assert house.holes == hole_ids(3, 4, 5)
    assert house.segments == [3, 4, 5]
    assert house.column("SELECT id FROM message ORDER BY id") == [30, 31, 40, 41, 50, 51]


def test_the_segment_that_is_being_written_never_goes(make: Any) -> None:
    house = make(keep_s=0.0)
    house.write(hole(1), [records.Watermark(999)])
    house.utc_s = LONG_S
    house.keep()
    assert house.segments == [1]
    house.write(hole(2, at_s=LONG_S))
    house.keep()
    assert house.segments == [2]


def test_empty_segments_and_those_without_a_row_go(make: Any) -> None:
    # prevents: files that a failed sync, or a crash between row and file, leaves for ever
    house = make(keep_s=50.0)
    house.write(hole(1))
    path_of(house.store.segments_directory, 0).touch()
    house.write(hole(2))
    house.store.transaction([("DELETE FROM message WHERE segment = ?", (1,))])
    house.keep()
    assert house.segments == [2]


# ---- by size -------------------------------------------------------------------------------------


def test_beyond_the_size_the_oldest_go_however_young(make: Any) -> None:
    # prevents: a disk that is full at twice the expected traffic
    house = make(keep_bytes=3 * SEGMENT)
    house.write(*(hole(n) for n in range(1, 8)), [records.Watermark(999)])
    house.keep()
    assert house.segments == [5, 6, 7]
    assert house.holes == hole_ids(5, 6, 7)  # of the others nothing could be shown but a number


def test_a_journal_that_must_keep_more_than_it_may_comes_to_rest(make: Any) -> None:
    # prevents: dead letters copied from segment to segment for ever, at the full speed of the disk
    house = make(keep_bytes=2 * SEGMENT)
    house.write(*(letter(n) for n in range(1, 9)), [records.Watermark(999)])
    house.keep()
    assert house.holes == hole_ids(*range(1, 9))
    assert all(None not in house.payloads(hole_id).values() for hole_id in house.holes)
    steps = house.steps
    house.keep()
    assert house.steps == steps


def test_what_can_go_from_behind_what_must_stay_goes(make: Any) -> None:
    # prevents: a disk that fills up behind the dead letters of its first hour
    house = make(keep_bytes=3 * SEGMENT)
    house.write(letter(1), letter(2), *(hole(n) for n in range(3, 9)), [records.Watermark(999)])
    house.keep()
    assert house.holes == hole_ids(1, 2, 8)


# ---- what is needed ------------------------------------------------------------------------------


def mixed(number: int, needed: list[Record]) -> list[Record]:
    """A batch that fills a segment: something needed among an ended hole that is not."""
    return [*hole(number), *needed]


def test_an_open_hole_takes_its_messages_along(make: Any) -> None:
    # prevents: a hole that waits for MQTT for a day, and then has nothing to be computed from
    house = make(keep_s=50.0)
    hole_id, parts = whole_hole(17, size=200)
    house.write(mixed(1, parts), hole(2, at_s=START_S + 100), [records.Watermark(999)])
    before = house.payloads(hole_id)
    house.utc_s = START_S + 120.0
    house.keep()
    assert 1 not in house.segments
    assert house.payloads(hole_id) == before
    assert house.holes == [hole_id, *hole_ids(2)]


def test_an_answer_that_mqtt_has_not_confirmed_keeps_all_it_has(make: Any) -> None:
    house = make(keep_s=50.0)
    hole_id, parts = whole_hole(17, size=200)
    house.write(mixed(1, [*parts, answered(hole_id)]), hole(2, at_s=START_S + 100))
    house.write([records.Watermark(999)])
    house.utc_s = START_S + 120.0
    house.keep()
    assert house.payloads(hole_id)["trace"] == b"B" * 200
    [found] = look_through(house.store).letters
    assert (found.letter_id, found.count) == (hole_id, 2)


def test_messages_that_may_wait_for_a_partner_are_copied(make: Any) -> None:
    # prevents: a part that comes to a hole whose other part was tidied away under it
    house = make(keep_s=50.0)
    waits = [message(15, b"w" * 100, part_id="w"), message(16, b"n" * 100, note="of no use")]
    house.write(mixed(1, waits), hole(2, at_s=START_S + 100), [records.Watermark(14)])
    house.utc_s = START_S + 120.0
    house.keep()
    found = look_through(house.store).waiting
    assert [(each.message_id, each.payload) for each in found] == [(15, b"w" * 100)]
    assert 16 not in house.column("SELECT id FROM message")


def test_the_newest_optional_part_of_each_source_stays(make: Any) -> None:
    # prevents: a hole without Heads of its own, that takes the newest ones and finds them deleted
    house = make(keep_s=50.0)
    house.retention.kept_kinds = ("heads",)
    heads = [
        message(14, b"old", kind="heads"),
        message(15, b"new", kind="heads"),
        message(16, b"other", kind="heads", source="BOX-1/UNIT-2"),
    ]
    house.write(mixed(1, heads), hole(2, at_s=START_S + 100), [records.Watermark(999)])
    house.utc_s = START_S + 120.0
    house.keep()
    assert 1 not in house.segments
    newest = look_through(house.store).newest
    assert sorted((each.source, each.payload) for each in newest) == [
        ("BOX-1/UNIT-1", b"new"),
        ("BOX-1/UNIT-2", b"other"),
    ]
    assert 14 not in house.column("SELECT id FROM message")


def test_dead_letters_stay_for_their_own_time(make: Any) -> None:
    house = make(keep_s=50.0, keep_dead_s=500.0)
    house.write(*(letter(n) for n in (1, 2)), letter(3, terminal="shed"), [records.Watermark(999)])
    house.write(hole(4, at_s=START_S + 300))
    house.utc_s = START_S + 320.0
    house.keep()
    assert house.holes == hole_ids(1, 2, 3, 4)
    assert house.payloads(12) == {"result": b"A" * SIZE, "trace": b"B" * SIZE}
    house.utc_s = START_S + 600.0
    house.keep()
    house.keep()
    assert house.holes == []
    assert house.segments == [4]


@pytest.mark.parametrize("how", ["retried", "dropped"])
def test_a_dead_letter_that_was_dealt_with_goes_like_any_other(make: Any, how: str) -> None:
    house = make(keep_s=50.0)
    house.write(letter(1), letter(2), [records.Watermark(999)], hole(3, at_s=START_S + 300))
    house.write([records.Resolved(12, how)])
    house.utc_s = START_S + 320.0
    house.keep()
    assert house.holes == hole_ids(2, 3)


def test_a_dead_letter_that_was_passed_before_it_was_dealt_with_goes_too(make: Any) -> None:
    # prevents: records that stay until the broker happens to be restarted
    house = make(keep_s=50.0)
    house.write(letter(1), letter(2), [records.Watermark(999)])
    house.utc_s = START_S + 100.0
    house.keep()
    house.write([records.Resolved(12, "dropped")])
    house.keep()
    house.retention._walk_again_s = 0.0  # an hour later
    house.keep()
    assert house.holes == hole_ids(2)


def test_a_retry_keeps_the_bytes_of_its_dead_letter(make: Any) -> None:
    # prevents: a dead letter that is retried after a month and found empty
    house = make(keep_s=50.0, keep_dead_s=500.0)
    house.write(letter(1), hole(2, at_s=START_S + 1000), [records.Watermark(999)])
    parts = {"result": 10, "trace": 11}
    house.write(
        [records.Resolved(12, "retried"), opened(900, parts, retry_of=12, at_s=START_S + 1000)]
    )
    house.utc_s = START_S + 1020.0
    house.keep()
    assert house.payloads(900) == {"result": b"A" * SIZE, "trace": b"B" * SIZE}
    house.write([answered(900, at_s=START_S + 1021), ended(900, at_s=START_S + 1021)])
    house.keep()
    assert 900 in house.holes  # prevents: a retry of which `farm why` knows nothing a moment later


def test_a_rejection_goes_with_its_message(make: Any) -> None:
    # prevents: a message that was refused, and is taken for the newest good one of its tool
    house = make(keep_s=50.0)
    house.write(
        [message(1, note="no id"), rejected(2, 1), records.RejectionEnded(2, START_S)],
        [message(3, note="no id"), rejected(4, 3)],  # MQTT has not confirmed this one
        [rejected(8, 7), records.RejectionEnded(8, START_S + 100)],  # its message is gone
    )
    house.utc_s = START_S + 100.0
    house.keep()
    assert house.column("SELECT id FROM rejection ORDER BY id") == [2, 4]


def test_a_refused_optional_part_is_not_the_newest(make: Any) -> None:
    house = make(keep_s=50.0)
    house.retention.kept_kinds = ("heads",)
    house.write(
        [message(1, b"good", kind="heads")],
        [message(2, b"bad", kind="heads", note="cut short"), rejected(3, 2)],
    )
    assert [m.payload for m in look_through(house.store).newest] == [b"good"]


def test_a_copy_that_finds_the_disk_full_is_made_again(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: open holes that lose their messages, just when the disk is full
    house = make(keep_bytes=0)
    hole_id, opening = whole_hole(900, size=SIZE // 4)
    house.write(opening, *(hole(n) for n in range(1, 4)), [records.Watermark(10_000)])
    write, failures = house.store.write, [1]

    def full_once(batch: list[Record]) -> None:
        if failures and batch:
            failures.pop()
            raise OSError(errno.ENOSPC, "no space left")
        write(batch)

    monkeypatch.setattr(house.store, "write", full_once)
    with pytest.raises(OSError, match="no space"):
        house.keep()
    house.keep()
    assert not failures
    assert house.payloads(hole_id) == {"result": b"A" * (SIZE // 4), "trace": b"B" * (SIZE // 4)}


# ---- damage --------------------------------------------------------------------------------------


def test_a_damaged_message_does_not_block_what_lies_around_it(make: Any) -> None:
    # prevents: retention that stops at one bad block, and a disk that then fills up
    house = make(keep_s=50.0)
    one, parts_of_one = whole_hole(14, size=100, part_id="one")
    two, parts_of_two = whole_hole(24, size=100, part_id="two")
    house.write([*hole(1), *parts_of_one, *parts_of_two], hole(4, at_s=START_S + 100))
    house.write([records.Watermark(999)])
    path = path_of(house.store.segments_directory, 1)
    raw = bytearray(path.read_bytes())
    raw[2 * SIZE] ^= 1  # the first byte of the first hole's first message
    path.write_bytes(raw)
    house.utc_s = START_S + 120.0
    house.keep()
    assert 1 not in house.segments
    assert house.payloads(two) == {"result": b"A" * 100, "trace": b"B" * 100}
    assert house.payloads(one) == {"result": None, "trace": b"B" * 100}


def test_a_segment_that_is_gone_does_not_block_either(make: Any) -> None:
    house = make(keep_s=50.0)
    hole_id, parts = whole_hole(17, size=200)
    house.write(mixed(1, parts), hole(2, at_s=START_S + 100), [records.Watermark(999)])
    path_of(house.store.segments_directory, 1).write_bytes(b"")
    house.utc_s = START_S + 120.0
    house.retention._segment, house.retention._needed = 1, [17, 18]
    house.keep()
    assert house.payloads(hole_id) == {"result": None, "trace": None}


# ---- small steps ---------------------------------------------------------------------------------


def test_no_step_deletes_or_copies_more_than_a_few_rows(make: Any) -> None:
    # prevents: a commit, and so an answer, that waits while a day's records are deleted
    house = make(keep_s=50.0, keep_dead_s=60.0)
    small: list[Record] = []
    for n in range(700):
        small += published_hole(10 * n + 10, size=1, part_id=str(n))
        small += dead_hole(10 * n + 10_010, size=1, part_id=str(n))
        small += [message(10 * n + 20_010, b"", note="x"), rejected(10 * n + 20_011, 0)]
        small += [records.RejectionEnded(10 * n + 20_011, START_S)]
    open_ones = [record for n in range(90) for record in whole_hole(10 * n + 30_010, size=1)[1]]
    house.write([*small, *open_ones, message(50_000, bytes(SEGMENT), note="x")])
    house.write(hole(9000, at_s=LONG_S), [records.Watermark(99_999)])
    house.utc_s = LONG_S
    house.retention._next_look_s = 0.0
    changes, copies = [], []
    db, is_going_on = house.store.connection, True
    while is_going_on:
        before, rows = db.total_changes, house.column("SELECT count(*) FROM message")[0]
        is_going_on = house.retention.step(house.store)
        changes.append(db.total_changes - before)
        copied = rows == house.column("SELECT count(*) FROM message")[0]
        copies += [changes[-1]] if copied and house.retention._segment else []
    assert max(changes) == ROWS_PER_STEP
    assert max(copies) == COPIES_PER_STEP
    assert len(house.holes) == 90 + 1
    assert all(None not in house.payloads(h).values() for h in house.holes)


def test_many_old_records_go_at_once_and_not_a_step_each_look(make: Any) -> None:
    # prevents: 100 holes/s forgotten where 200/s come, and a database that grows for ever
    house = make(keep_s=50.0)
    house.write([r for n in range(1, 1800) for r in published_hole(10 * n, size=1)])
    house.write([records.Watermark(99_999)])
    house.utc_s = LONG_S
    house.keep()
    assert house.holes == []


def test_between_looks_nothing_is_done(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house = make(keep_s=50.0)
    house.keep()
    monkeypatch.setattr(house.retention, "_choose", lambda _store: pytest.fail("looked again"))
    assert not house.retention.step(house.store)


def test_records_written_between_the_steps_are_not_caught_in_them(make: Any) -> None:
    # prevents: a hole that completes while its segment is being emptied, and loses a part
    house = make(keep_s=50.0)
    waits = [message(15, b"w" * 100, part_id="w")]
    house.write(mixed(1, waits), hole(2, at_s=START_S + 100), [records.Watermark(14)])
    house.utc_s = START_S + 120.0
    assert house.retention.step(house.store)  # chosen
    house.write(
        [
            message(90, b"p" * 100, kind="trace", part_id="w", at_s=house.utc_s),
            opened(91, {"result": 15, "trace": 90}, part_id="w", at_s=house.utc_s),
            records.Watermark(91),
        ]
    )
    house.keep()
    assert house.payloads(91) == {"result": b"w" * 100, "trace": b"p" * 100}


# ---- the checkpointer ----------------------------------------------------------------------------


def test_the_log_is_moved_into_the_database_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a write-ahead log that grows without bound, and a start that reads all of it
    monkeypatch.setattr(housekeeping, "CHECKPOINT_EVERY_S", 0.01)
    monkeypatch.setattr(housekeeping, "CHECKPOINT_BYTES", 50_000)
    store = open_store(tmp_path)
    checkpointer = Checkpointer(store.directory, store.segments.full, is_synced=False)
    checkpointer.start()
    database = store.directory / DATABASE_NAME
    for n in range(1, 100):
        store.write(published_hole(10 * n))

    alone = tmp_path / "alone.db"  # the database without its log

    def in_database() -> bool:
        shutil.copy(database, alone)
        with contextlib.closing(sqlite3.connect(f"file:{alone}?immutable=1", uri=True)) as db:
            try:
                return db.execute("SELECT count(*) FROM hole").fetchone() == (99,)
            except sqlite3.DatabaseError:  # copied in the middle of a checkpoint
                return False

    eventually(in_database, 10, "the holes are there")
    checkpointer.stop()
    store.close(is_clean=True)


def test_a_log_that_has_grown_too_far_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "CHECKPOINT_EVERY_S", 0.01)
    monkeypatch.setattr(housekeeping, "CHECKPOINT_BYTES", 0)
    monkeypatch.setattr(housekeeping, "FORCE_BYTES", 0)
    store = open_store(tmp_path)
    store.write(published_hole(10))
    log = store.directory / f"{DATABASE_NAME}-wal"
    assert log.stat().st_size > 0
    checkpointer = Checkpointer(store.directory, store.segments.full, is_synced=True)
    checkpointer.start()
    eventually(lambda: log.stat().st_size == 0, 10, "the log is empty")
    checkpointer.stop()
    store.close(is_clean=True)


def test_a_checkpoint_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a thread that dies of a full disk, and a log that grows from then on
    monkeypatch.setattr(housekeeping, "CHECKPOINT_EVERY_S", 0.001)
    store = open_store(tmp_path)
    checkpointer = Checkpointer(store.directory, store.segments.full, is_synced=False)
    tries, is_enough = [], threading.Event()

    def look(_connection: sqlite3.Connection) -> None:
        tries.append(1)
        if len(tries) >= 3:
            is_enough.set()
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(checkpointer, "_look", look)
    checkpointer.start()
    assert is_enough.wait(10)
    checkpointer.stop()
    store.close(is_clean=True)


def test_full_segments_leave_the_page_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: memory that grows by all that was ever received
    monkeypatch.setattr(housekeeping, "CHECKPOINT_EVERY_S", 0.001)
    let_go: list[tuple[str, int]] = []
    monkeypatch.setattr(
        segments.os,
        "posix_fadvise",
        lambda fd, _start, _length, advice: let_go.append(
            (Path(f"/proc/self/fd/{fd}").readlink().name, advice)
        ),
    )
    store = open_store(tmp_path, segment_bytes=SEGMENT)
    checkpointer = Checkpointer(store.directory, store.segments.full, is_synced=False)
    checkpointer.start()
    for n in range(1, 4):
        store.write([message(n, b"x" * SEGMENT)])
    expected = [("00000001.seg", os.POSIX_FADV_DONTNEED), ("00000002.seg", os.POSIX_FADV_DONTNEED)]
    eventually(lambda: let_go == expected, 10, "both full ones are let go of, not the newest")
    checkpointer.stop()
    store.close(is_clean=True)


def test_a_disk_that_fails_to_take_a_full_segment_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # prevents: bytes that the kernel could not write, and nobody hears of it before a power cut
    monkeypatch.setattr(housekeeping, "CHECKPOINT_EVERY_S", 0.001)
    store = open_store(tmp_path, segment_bytes=SEGMENT)
    checkpointer = Checkpointer(store.directory, store.segments.full, is_synced=False)
    for n in range(1, 3):
        store.write([message(n, b"x" * SEGMENT)])
    tries = []

    def fail(descriptor: int) -> None:
        tries.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(segments.os, "fdatasync", fail)
    told: list[str] = []
    monkeypatch.setattr(
        checkpointer._limited, "warning", lambda event, **_fields: told.append(event)
    )
    checkpointer.start()
    eventually(lambda: told == ["journal_disk_fails"], 10, "it is told")
    checkpointer.stop()
    assert len(tries) == 1
    store.close(is_clean=True)
