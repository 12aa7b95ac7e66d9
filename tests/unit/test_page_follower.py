"""How the page follows a journal: short looks, whatever becomes of it."""

from __future__ import annotations

import shutil

import journals
import pytest
from pages import Page

from farm.journal.store import DIRECTORY_NAME
from farm.journal.tail import PIECE


@pytest.fixture
def store(tmp_path):
    made = journals.open_store(tmp_path)
    yield made
    made.close(is_clean=True)


def ids(page):
    return [row.hole_id for row in page.index._rows.values()]


def test_a_start_takes_no_more_than_is_kept(tmp_path, store):
    # prevents: a start that reads a day's holes to show the last of them
    for number in range(30):
        store.write(journals.published_hole(10 * number + 1))
    page = Page(tmp_path, capacity=12)
    assert ids(page) == [10 * number + 3 for number in range(18, 30)]
    store.write(journals.published_hole(1001))
    page.look()
    assert ids(page)[-1] == 1003


def test_many_new_holes_are_read_over_several_looks(tmp_path, store, monkeypatch):
    # prevents: a look of seconds after a pause, and holes that are passed over in it
    monkeypatch.setattr("farm.page.following.MAX_PIECES", 2)
    page = Page(tmp_path, capacity=100_000)
    count = 5 * PIECE + 3
    store.write([journals.opened(i + 1, {"result": 1}) for i in range(count)])
    looks = 0
    while len(page.index) < count:
        page.look()
        looks += 1
    assert looks == 3
    assert ids(page) == list(range(1, count + 1))


def test_another_journal_in_its_place_is_begun_anew(tmp_path, store):
    # prevents: a page that shows holes of a journal that was moved away, and none of the new one
    store.write(journals.published_hole(5001))
    page = Page(tmp_path)
    (tmp_path / DIRECTORY_NAME).rename(tmp_path / "old")
    assert "there is no journal" in page.look()
    assert ids(page) == [5003]
    second = journals.open_store(tmp_path)
    second.write(journals.published_hole(11))
    assert page.look() == ""
    assert ids(page) == [13]
    second.close(is_clean=True)


def test_nothing_of_the_journal_is_held_between_looks(tmp_path):
    # prevents: a page that keeps the log of a journal from ending, or a folder from going
    store = journals.open_store(tmp_path)
    store.write(journals.published_hole(1))
    page = Page(tmp_path)
    page.look()
    (busy, _, _) = store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    store.close(is_clean=True)
    left = {path.name for path in (tmp_path / DIRECTORY_NAME).glob("*-wal")}
    assert left == set()
    assert page.look() == ""  # over a stopped farm's journal
    assert ids(page) == [3]
    shutil.rmtree(tmp_path / DIRECTORY_NAME)


def test_what_leaves_the_journal_leaves_the_list(tmp_path, store):
    # prevents: links to holes that are gone, as soon as one older dead letter stays for good
    store.write(journals.dead_hole(1))
    for first in (11, 21, 31):
        store.write(journals.published_hole(first))
    page = Page(tmp_path)
    store.transaction([("DELETE FROM hole WHERE id IN (?, ?)", (13, 33))])
    page.look()
    assert ids(page) == [3, 23]
    store.transaction([("DELETE FROM hole", ())])
    page.look()
    assert ids(page) == []
    store.write(journals.published_hole(41))
    page.look()
    assert ids(page) == [43]


def test_one_in_the_same_file_is_another_journal(tmp_path, store):
    # prevents: a new journal whose file got the number of the old one's (ext4 gives it again), and
    # a page that waits for ids beyond the old ones
    for first in (5001, 5011):
        store.write(journals.published_hole(first))
    page = Page(tmp_path)
    # as a new one has it: another id, and holes that may begin anywhere
    store.transaction([
        ("DELETE FROM hole WHERE id = 5003", ()),
        ("UPDATE meta SET value = 'another' WHERE key = 'journal'", ()),
    ])  # fmt: skip
    page.look()
    assert ids(page) == [5013]
    # one of an older farm has no id, but it begins below
    store.transaction([
        ("DELETE FROM meta WHERE key = 'journal'", ()),
        ("UPDATE hole SET id = 17", ()),
    ])  # fmt: skip
    page.look()
    assert ids(page) == [17]


def test_a_journal_that_begins_below_is_another_one(tmp_path, store):
    # prevents: the same where the journal is of a farm that gave it no id
    store.transaction([("DELETE FROM meta WHERE key = 'journal'", ())])
    store.write(journals.published_hole(5001))
    page = Page(tmp_path)
    store.transaction([("UPDATE hole SET id = 17", ())])
    page.look()
    assert ids(page) == [17]
