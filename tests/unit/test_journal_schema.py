"""The journal's tables: made once, brought up to date in one step or not at all."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from farm.errors import JournalError
from farm.journal.schema import VERSION, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()[0]


def tables(db: sqlite3.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_a_new_journal_gets_its_tables_and_a_random_first_life(db: sqlite3.Connection) -> None:
    prepare(db)
    assert version(db) == VERSION
    assert tables(db) == {"meta", "message", "hole", "rejection"}
    (life,) = db.execute("SELECT value FROM meta WHERE key = 'life'").fetchone()
    assert 0 <= life < 2**14


def test_preparing_twice_changes_nothing(db: sqlite3.Connection) -> None:
    prepare(db)
    before = db.execute("SELECT * FROM meta").fetchall()
    prepare(db)
    assert db.execute("SELECT * FROM meta").fetchall() == before


def test_an_older_journal_is_brought_up_to_date_step_by_step(db: sqlite3.Connection) -> None:
    prepare(db)
    steps = {
        1: "ALTER TABLE hole ADD COLUMN colour TEXT; CREATE TABLE one (x);",
        2: "ALTER TABLE one ADD COLUMN y; INSERT INTO one VALUES (1, 2)",
    }
    prepare(db, version=3, migrations=steps)
    assert version(db) == 3
    assert db.execute("SELECT * FROM one").fetchall() == [(1, 2)]
    assert db.execute("SELECT colour FROM hole").fetchall() == []


def test_a_step_that_fails_leaves_the_journal_as_it_was(db: sqlite3.Connection) -> None:
    # prevents: half a migration, after which neither the old farm nor the new one can start; and a
    # transaction that stays open, so that the next try finds the database locked
    prepare(db)
    steps = {1: "CREATE TABLE one (x); INSERT INTO nowhere VALUES (1)"}
    with pytest.raises(sqlite3.Error):
        prepare(db, version=2, migrations=steps)
    assert not db.in_transaction
    assert version(db) == 1
    assert "one" not in tables(db)
    prepare(db, version=2, migrations={1: "CREATE TABLE one (x)"})
    assert version(db) == 2


@pytest.mark.parametrize("found", [VERSION + 1, 99])
def test_a_newer_journal_is_refused_with_both_versions(db: sqlite3.Connection, found: int) -> None:
    # prevents: an old farm that writes what the newer one, started again, can't read
    prepare(db)
    db.execute(f"PRAGMA user_version = {found}")
    with pytest.raises(JournalError, match=rf"version {found}.*knows {VERSION}"):
        prepare(db)
    assert version(db) == found
