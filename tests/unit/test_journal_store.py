"""The store: a batch counts as a whole or not at all, and nobody serves from a damaged journal."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from journals import (
    VALUE,
    answered,
    crash,
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

from farm.adapter import Publication
from farm.errors import JournalError, StateError
from farm.journal import records as r
from farm.journal import store as store_module
from farm.journal.rows import unpack
from farm.journal.store import DATABASE_NAME, DIRECTORY_NAME, Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONE = "a\ud800b"  # what JSON's \\ud800 becomes in Python; no UTF-8 has it
SPELLED = "a\\ud800b"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path)
    yield made
    made.close(is_clean=False)


def count(store: Store, table: str) -> int:
    return store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def column(store: Store, name: str, table: str = "hole") -> object:
    return store.connection.execute(f"SELECT {name} FROM {table}").fetchone()[0]


# ---- what is written -----------------------------------------------------------------------------


def test_a_whole_life_in_one_batch_ends_as_told(store: Store) -> None:
    # prevents: a batch whose statements, written kind by kind, undo each other
    hole_id, records = whole_hole(10)
    story = [[100.0, 0, [[0.0, "first part", ""]]]]
    records += [
        r.Hurt(hole_id, 2, story),
        answered(hole_id, story=story),
        ended(hole_id, refusals="refused by the MQTT broker: Not authorized", terminal="dead"),
        r.Resolved(hole_id, "dropped"),
        r.Closed(10, "of no use"),
    ]
    store.write(records)
    row = store.connection.execute(
        "SELECT state, terminal, deaths, status, refusals, resolved, newest_message FROM hole"
    ).fetchone()
    assert row == (2, "dead", 2, "ok", records[-3].refusals, "dropped", 11)
    assert unpack(column(store, "value")) == VALUE
    assert unpack(column(store, "story")) == story
    assert column(store, "note", "message") == "of no use"


def test_a_later_record_wins_within_a_batch(store: Store) -> None:
    store.write([r.Setting("paused", "1"), r.Watermark(5), r.Setting("paused", "0")])
    store.write([r.Watermark(9), r.Watermark(12)])
    meta = dict(store.connection.execute("SELECT key, value FROM meta"))
    assert (meta["paused"], meta["watermark"]) == ("0", 12)


def test_a_batch_without_messages_needs_no_segment(store: Store) -> None:
    store.write([r.Setting("paused", "1")])
    assert not any(store.segments_directory.iterdir())


def test_texts_of_hostile_senders_are_kept_spelled_out(store: Store) -> None:
    # prevents: one message that no commit ever survives, tried again until the end of days
    store.write(
        [
            message(1, source=LONE, part_id=LONE, note=LONE),
            opened(2, {"result": 1}, source=LONE, part_id=LONE),
            answered(
                2, status="failed", reason=LONE, publications=[Publication(f"out/{LONE}", b"x")]
            ),
            rejected(3, 1),
            ended(2, refusals=LONE),
        ]
    )
    assert column(store, "source", "message") == SPELLED
    assert column(store, "topic", "message") == f"OPCPUBSUB/{SPELLED}/result"
    for name in ("source", "part_id", "reason", "refusals"):
        assert column(store, name) == SPELLED
    assert unpack(column(store, "publications"))[0][0] == f"out/{SPELLED}"


UNPACKABLE = {"object": object(), "2**70": 2**70, "set": {1, 2}, "lone": {"a": LONE}}


@pytest.mark.parametrize("value", UNPACKABLE.values(), ids=UNPACKABLE)
def test_what_can_not_be_packed_costs_only_itself(store: Store, value: object) -> None:
    # prevents: an answer that keeps every later one from being written
    _, records = whole_hole(1)
    store.write([*records, answered(3, value=value, provenance={"who": value})])
    assert column(store, "value") is None
    assert column(store, "provenance") is None
    assert column(store, "state") == 1
    assert len(unpack(column(store, "publications"))) == 2


def test_texts_with_zero_bytes_are_kept_whole(store: Store) -> None:
    store.write([message(1, part_id="a\0b"), opened(2, {"result": 1}, part_id="a\0b")])
    assert column(store, "part_id") == "a\0b"


# ---- whole or not at all -------------------------------------------------------------------------


def test_a_batch_that_finds_the_database_full_leaves_no_trace_and_fits_later(store: Store) -> None:
    # prevents: half a batch on disk, or one that is counted as written and is not
    store.write(published_hole(1))
    segment = store.segments_directory / "00000001.seg"
    length = segment.stat().st_size
    (pages,) = store.connection.execute("PRAGMA page_count").fetchone()
    store.connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = [record for i in range(200) for record in published_hole(100 + 10 * i, size=500)]
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.write(batch)
        assert (count(store, "message"), count(store, "hole")) == (2, 1)
        assert segment.stat().st_size == length
        assert not store.connection.in_transaction
    store.connection.execute("PRAGMA max_page_count = 1000000")
    store.write(batch)
    assert (count(store, "message"), count(store, "hole")) == (402, 201)


def test_a_statement_that_fails_takes_the_whole_batch_back(store: Store) -> None:
    store.connection.execute(
        "CREATE TEMP TRIGGER odd BEFORE UPDATE ON hole BEGIN SELECT RAISE(ABORT, 'odd'); END"
    )
    _, records = whole_hole(1)
    with pytest.raises(sqlite3.IntegrityError, match="odd"):
        store.write([*records, answered(3)])
    assert (count(store, "message"), count(store, "hole")) == (0, 0)
    store.connection.execute("DROP TRIGGER odd")
    store.write([*records, answered(3)])
    assert column(store, "state") == 1


def test_a_batch_whose_payloads_find_no_room_writes_no_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a row that points to bytes which are not there
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", lambda *_: 3)
        with pytest.raises(OSError, match="No space"):
            store.write(published_hole(1))
    assert count(store, "message") == 0
    store.write(published_hole(1))
    assert look_through(store).damaged == []


def test_a_transaction_of_housekeeping_is_whole_or_nothing_too(store: Store) -> None:
    store.write([*published_hole(1), *published_hole(11)])
    with pytest.raises(sqlite3.Error):
        store.transaction([("DELETE FROM hole WHERE id = ?", (3,)), ("DELETE FROM nowhere", ())])
    assert count(store, "hole") == 2
    store.transaction([("DELETE FROM hole WHERE id = ?", (3,))])
    assert count(store, "hole") == 1


# ---- who may open it -----------------------------------------------------------------------------


def test_a_second_broker_is_refused_and_does_no_harm(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: two brokers that answer the same holes and write over each other's segments
    monkeypatch.setattr(store_module, "LOCK_TIMEOUT_S", 0.0)
    with pytest.raises(StateError, match=r"another broker process holds.*--state-dir"):
        open_store(tmp_path)
    store.write(published_hole(1))


HOLDER = """
import sys
from pathlib import Path
from farm.journal.store import Store
store = Store(Path(sys.argv[1]), durability="process", segment_bytes=1000)
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_broker_is_free_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a broker that can't be replaced since its predecessor left a lock file behind
    monkeypatch.setattr(store_module, "LOCK_TIMEOUT_S", 0.0)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StateError):
            open_store(tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    open_store(tmp_path).close(is_clean=True)


def test_a_broker_that_is_just_ending_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a restart that fails since the old process dies a moment after the new one starts
    first = open_store(tmp_path)
    monkeypatch.setattr(store_module.time, "sleep", lambda _s: first.close(is_clean=True))
    open_store(tmp_path).close(is_clean=True)


def test_a_folder_that_can_not_be_made_is_said_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"No such file or directory.*--state-dir"):
        open_store(tmp_path / "missing")
    (tmp_path / DIRECTORY_NAME).touch()
    with pytest.raises(StateError, match="can't be kept"):
        open_store(tmp_path)


# ---- lives ---------------------------------------------------------------------------------------


def test_every_life_has_a_number_of_its_own(tmp_path: Path) -> None:
    # prevents: an id given twice, by which a late answer is taken for that of another hole
    lives = []
    for is_clean in (True, False, True):
        store = open_store(tmp_path)
        lives.append(store.life)
        store.close(is_clean=is_clean)
    assert lives == [lives[0], lives[0] + 1, lives[0] + 2]


def test_what_was_committed_survives_a_crash_and_the_rest_never_was(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    store = open_store(tmp_path / "a")
    store.write(whole_hole(1)[1])
    store.segments.append([b"in no row"])
    store.connection.execute("BEGIN IMMEDIATE")
    store.connection.execute("DELETE FROM hole")
    reopened = open_store(crash(store, tmp_path / "b"))
    found = look_through(reopened)
    assert [hole.hole_id for hole in found.holes] == [3]
    assert reopened.connection.execute("SELECT count(*) FROM message").fetchone() == (2,)
    reopened.close(is_clean=True)


def test_power_syncs_every_commit_and_process_does_not(tmp_path: Path) -> None:
    for durability, expected in (("process", 1), ("power", 2)):
        store = open_store(tmp_path, durability=durability)
        assert store.connection.execute("PRAGMA synchronous").fetchone() == (expected,)
        store.write(published_hole(1))
        store.close(is_clean=True)


# ---- damage --------------------------------------------------------------------------------------


def test_what_is_no_database_is_refused_with_the_cure_and_stays_as_it_is(tmp_path: Path) -> None:
    # prevents: an empty journal made over a damaged one; and a lock that is held by nobody any more
    open_store(tmp_path).close(is_clean=True)
    database = tmp_path / DIRECTORY_NAME / DATABASE_NAME
    database.write_bytes(b"no database" * 1000)
    for _ in range(2):
        with pytest.raises(JournalError, match=r"not a database.*farm journal check.*move"):
            open_store(tmp_path)
    assert database.read_bytes() == b"no database" * 1000


def test_damage_within_is_found_after_a_crash(tmp_path: Path) -> None:
    # prevents: a broker that serves for a while from a broken tree of rows, then loses holes
    (tmp_path / "a").mkdir()
    store = open_store(tmp_path / "a")
    for i in range(300):
        store.write(dead_hole(10 * i + 1, reason="x" * 200))
    store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    state_dir = crash(store, tmp_path / "b")
    database = state_dir / DIRECTORY_NAME / DATABASE_NAME
    raw = bytearray(database.read_bytes())
    for page in range(3, len(raw) // 4096, 2):
        raw[4096 * page : 4096 * page + 100] = b"\xaa" * 100
    database.write_bytes(raw)
    with pytest.raises(JournalError, match="can't be used"):
        open_store(state_dir)


def test_the_journal_of_a_newer_farm_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.connection.execute("PRAGMA user_version = 99")
    store.close(is_clean=True)
    for _ in range(2):  # and the lock is not kept
        with pytest.raises(JournalError, match="version 99"):
            open_store(tmp_path)


def test_a_close_that_can_not_be_noted_still_gives_everything_back(tmp_path: Path) -> None:
    # prevents: a full disk at the stop, and a lock that stays held in the same process
    store = open_store(tmp_path)
    store.connection.execute("PRAGMA query_only = 1")
    store.close(is_clean=True)
    again = open_store(tmp_path)
    assert again.life == store.life + 1
    again.close(is_clean=True)


def test_the_folder_is_nobody_elses(store: Store) -> None:
    # prevents: the plant's process data, readable for every account of the machine
    assert store.directory.stat().st_mode & 0o077 == 0
    assert store.segments_directory.stat().st_mode & 0o077 == 0
