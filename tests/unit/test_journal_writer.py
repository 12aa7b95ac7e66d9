"""The writer: groups what comes, keeps its order, and passes over nothing when the disk fails."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from journals import look_through, message, open_store, published_hole
from rig import eventually

from farm.journal import writer as writer_module
from farm.journal.records import Record, Watermark
from farm.journal.writer import LAST_RETRY_S, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PATIENCE_S = 20.0  # far beyond what any of this takes
NEVER_S = 3600.0


class FakeStore:
    """Takes batches; fails, or waits for a gate, where a test says so."""

    directory = Path("/nowhere")

    def __init__(self) -> None:
        self.batches: list[list[Record]] = []
        self.errors: list[Exception] = []  # raised by the next writes, one each
        self.fails_always: Exception | None = None
        self.attempts = 0
        self.gate = threading.Event()
        self.gate.set()
        self.is_entered = threading.Event()

    def write(self, batch: Sequence[Record]) -> None:
        self.attempts += 1
        self.is_entered.set()
        assert self.gate.wait(PATIENCE_S)
        if self.fails_always is not None:
            raise self.fails_always
        if self.errors:
            raise self.errors.pop(0)
        self.batches.append(list(batch))

    @property
    def written(self) -> list[Record]:
        return [record for batch in self.batches for record in batch]


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def make(store: FakeStore) -> Iterator[Callable[..., Writer]]:
    """Starts writers; they end with the test."""
    made: list[Writer] = []

    def make_one(**options: Any) -> Writer:
        chosen = {
            "commit_records": 100,
            "commit_bytes": 10**6,
            "commit_interval_s": NEVER_S,
            "wake": lambda: None,
        } | options
        writer = Writer(store, **chosen)
        made.append(writer)
        writer.start()
        return writer

    yield make_one
    store.gate.set()
    store.fails_always = None
    for writer in made:
        writer.stop(PATIENCE_S)


def marks(*numbers: int) -> list[Record]:
    return [Watermark(number) for number in numbers]


def wait_durable(writer: Writer) -> None:
    eventually(lambda: writer.durable == writer.position, PATIENCE_S, "all is written")


def held_up(store: FakeStore, writer: Writer, first: Record) -> None:
    """Have a first record on its way to a disk that does not come back."""
    store.gate.clear()
    writer.append(first, is_urgent=True)
    assert store.is_entered.wait(PATIENCE_S)


# ---- groups --------------------------------------------------------------------------------------


def test_what_nobody_waits_for_waits_for_company_and_urgent_ends_the_wait(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: a commit for each message, which at 300 messages/s costs half the broker's time
    writer = make()
    for record in marks(1, 2):
        writer.append(record)
    assert writer.append(Watermark(3), is_urgent=True) == 3
    wait_durable(writer)
    assert store.batches == [marks(1, 2, 3)]


def test_a_full_group_waits_no_longer(make: Callable[..., Writer], store: FakeStore) -> None:
    writer = make(commit_records=3)
    for record in marks(1, 2, 3):
        writer.append(record)
    wait_durable(writer)
    assert store.batches == [marks(1, 2, 3)]


def test_what_is_alone_is_written_after_the_interval(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: the last message before a silence, never acknowledged
    writer = make(commit_interval_s=0.001)
    writer.append(Watermark(1))
    wait_durable(writer)
    assert store.batches == [marks(1)]


def test_what_gathers_during_a_commit_is_cut_by_count(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: one commit of everything after a pause of the disk, for which all then wait
    writer = make(commit_records=3)
    held_up(store, writer, Watermark(0))
    for record in marks(1, 2, 3, 4):
        writer.append(record)
    writer.append(Watermark(5), is_urgent=True)
    store.gate.set()
    wait_durable(writer)
    assert store.batches == [marks(0), marks(1, 2, 3), marks(4, 5)]
    assert writer.commits == 3


def test_what_gathers_during_a_commit_is_cut_by_bytes(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    writer = make(commit_bytes=1000)
    held_up(store, writer, Watermark(0))
    large = [message(i, bytes(600)) for i in range(1, 5)]
    for record in large:
        writer.append(record, is_urgent=True)
    assert writer.queued_bytes == 2400
    store.gate.set()
    wait_durable(writer)
    assert store.batches[1:] == [large[:2], large[2:]]
    assert writer.queued_bytes == 0


def test_urgency_reaches_past_the_groups_before_it(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: an urgent answer behind full groups, that then waits for company after all
    writer = make(commit_records=2)
    held_up(store, writer, Watermark(0))
    for record in marks(1, 2):
        writer.append(record)
    writer.append(Watermark(3), is_urgent=True)
    store.gate.set()
    wait_durable(writer)
    assert store.batches == [marks(0), marks(1, 2), marks(3)]


def test_the_loop_is_woken_after_each_commit(make: Callable[..., Writer]) -> None:
    # prevents: an answer that lies on disk until the loop happens to look
    woken = threading.Event()
    writer = make(wake=woken.set)
    writer.append(Watermark(1), is_urgent=True)
    assert woken.wait(PATIENCE_S)
    assert writer.durable == 1


# ---- a disk that fails ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [full_disk(), sqlite3.OperationalError("database or disk is full")], ids=repr
)
def test_a_failure_that_passes_loses_nothing_and_keeps_the_order(
    make: Callable[..., Writer],
    store: FakeStore,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    # prevents: records passed over by a disk that was full for a minute
    monkeypatch.setattr(writer_module, "RETRY_S", 0.001)
    woken: list[str] = []
    writer = make(wake=lambda: woken.append(writer.failure), commit_records=2)
    store.gate.clear()
    store.errors = [error, error, error]
    for record in marks(1, 2, 3, 4):
        writer.append(record)
    writer.append(Watermark(5), is_urgent=True)
    store.gate.set()
    wait_durable(writer)
    assert store.written == marks(1, 2, 3, 4, 5)
    assert store.attempts == 3 + 3
    assert writer.failure == ""
    assert woken[:3] == [os.strerror(errno.ENOSPC)] * 3 or woken[:3] == [str(error)] * 3
    assert woken[3:] == ["", "", ""]
    assert not writer.is_broken


def test_the_time_of_a_group_includes_what_its_failures_took(
    make: Callable[..., Writer], store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents: commits that look quick while the disk fails, since each try is timed alone."""
    pause_s = 0.2
    monkeypatch.setattr(writer_module, "RETRY_S", pause_s)
    store.errors = [full_disk()]
    writer = make()
    writer.append(Watermark(1), is_urgent=True)
    eventually(lambda: writer.commits == 1, PATIENCE_S, "it is written")
    writer.append(Watermark(2), is_urgent=True)
    eventually(lambda: writer.commits == 2, PATIENCE_S, "so is the next")
    eventually(lambda: writer.commit_times.count == 2, PATIENCE_S, "both are timed")
    assert writer.commit_times.max_s >= pause_s


def test_nothing_counts_while_it_fails(
    make: Callable[..., Writer], store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: an acknowledgement for what is on no disk
    monkeypatch.setattr(writer_module, "RETRY_S", 0.001)
    writer = make()
    store.fails_always = full_disk()
    writer.append(Watermark(1), is_urgent=True)
    eventually(lambda: store.attempts > 3, PATIENCE_S, "it is tried again")
    assert (writer.durable, writer.position) == (0, 1)
    assert writer.failure == os.strerror(errno.ENOSPC)
    store.fails_always = None
    wait_durable(writer)
    assert writer.failure == ""


def test_an_error_that_trying_again_can_not_cure_is_told(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: a broker that takes in, and acknowledges nothing for ever, since its writer is dead
    woken = threading.Event()
    writer = make(wake=woken.set)
    store.errors = [sqlite3.DatabaseError("database disk image is malformed")]
    writer.append(Watermark(1), is_urgent=True)
    assert woken.wait(PATIENCE_S)
    assert writer.is_broken
    assert writer.durable == 0
    assert not writer.stop(PATIENCE_S)


# ---- the end -------------------------------------------------------------------------------------


def test_a_stop_writes_what_is_queued(make: Callable[..., Writer], store: FakeStore) -> None:
    # prevents: the last messages before every restart, delivered and computed again
    writer = make(commit_records=2)
    for record in marks(1, 2, 3):
        writer.append(record)
    assert writer.stop(PATIENCE_S)
    assert store.written == marks(1, 2, 3)


def test_a_stop_ends_in_time_on_a_disk_that_fails_and_does_not_hammer_it(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: a farm that can't be stopped; and thousands of tries a second until it is
    writer = make()
    store.fails_always = full_disk()
    for record in marks(1, 2):
        writer.append(record)
    assert not writer.stop(4 * LAST_RETRY_S)
    assert not writer._thread.is_alive()
    assert writer.durable == 0
    assert 1 <= store.attempts <= 6  # each followed by a pause


def test_a_stop_waits_for_a_disk_that_recovers_in_time(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    writer = make()
    store.errors = [full_disk(), full_disk()]
    writer.append(Watermark(1))
    assert writer.stop(PATIENCE_S)
    assert store.written == marks(1)


def test_a_stop_cuts_the_pause_after_a_failure_short(
    make: Callable[..., Writer], store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # prevents: a stop that sleeps through its own time while the disk would take it all
    monkeypatch.setattr(writer_module, "RETRY_S", NEVER_S)
    writer = make()
    store.errors = [full_disk()]
    writer.append(Watermark(1), is_urgent=True)
    eventually(lambda: writer.failure, PATIENCE_S, "it has failed once")
    assert writer.stop(PATIENCE_S)
    assert store.written == marks(1)


# ---- housekeeping --------------------------------------------------------------------------------


def test_the_house_is_kept_between_commits_and_records_go_first(
    make: Callable[..., Writer], store: FakeStore
) -> None:
    # prevents: an answer that waits until gigabytes are tidied
    seen: list[int] = []

    def housekeep(_store: Any) -> bool:
        seen.append(len(store.batches))
        return True  # there is always more to do

    writer = make(housekeep=housekeep, commit_interval_s=0.0)
    for number in range(1, 4):
        writer.append(Watermark(number), is_urgent=True)
        wait_durable(writer)
    assert store.written == marks(1, 2, 3)
    assert seen


def test_housekeeping_without_end_does_not_hold_up_the_stop(make: Callable[..., Writer]) -> None:
    # prevents: a journal that is closed while its thread still deletes from it
    is_keeping = threading.Event()

    def housekeep(_store: Any) -> bool:
        is_keeping.set()
        return True

    writer = make(housekeep=housekeep)
    writer.append(Watermark(1), is_urgent=True)
    assert is_keeping.wait(PATIENCE_S)
    assert writer.stop(PATIENCE_S)
    assert not writer._thread.is_alive()


@pytest.mark.parametrize("error", [full_disk(), sqlite3.OperationalError("full")], ids=repr)
def test_housekeeping_that_fails_keeps_nothing_from_being_written(
    make: Callable[..., Writer], error: Exception
) -> None:
    def housekeep(_store: Any) -> bool:
        raise error

    writer = make(housekeep=housekeep)
    for number in range(3):
        writer.append(Watermark(number), is_urgent=True)
        wait_durable(writer)
    assert not writer.is_broken
    assert writer.failure == ""


# ---- with a real store ---------------------------------------------------------------------------


def test_a_real_store_that_fills_up_and_is_emptied_has_everything_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "RETRY_S", 0.001)
    store = open_store(tmp_path)
    real, fails = os.pwritev, threading.Event()
    monkeypatch.setattr(os, "pwritev", lambda *a: 1 if fails.is_set() else real(*a))
    writer = Writer(
        store, commit_records=7, commit_bytes=10**6, commit_interval_s=0.0, wake=lambda: None
    )
    writer.start()
    for i in range(30):
        if i == 10:
            fails.set()
        for record in published_hole(10 * i + 1):
            writer.append(record)
    eventually(lambda: writer.failure, PATIENCE_S, "the disk is full")
    fails.clear()
    assert writer.stop(PATIENCE_S)
    found = look_through(store)
    assert len(found.past) == 30
    assert found.waiting == found.holes == found.letters == found.damaged == []
    store.close(is_clean=True)
