"""The `Store`: the journal on disk, written a batch at a time. Owns the files and their lock.

A batch is written as a whole or not at all: payloads go to the newest segment, everything else into
one SQLite transaction after them. So a row never points to bytes that are not there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

from farm.errors import JournalError, StateError
from farm.journal import records as r
from farm.journal.rows import INSERT_MESSAGE, ORDER, PUT_META, Row, Statement, message_row, row_of
from farm.journal.schema import prepare
from farm.journal.segments import SegmentWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

DIRECTORY_NAME: Final = "journal"
DATABASE_NAME: Final = "journal.db"
SEGMENTS_NAME: Final = "segments"
LOCK_NAME: Final = "lock"
# A broker that is being killed with its supervisor may hold the journal for another moment.
LOCK_TIMEOUT_S: Final = 5.0
LOCK_POLL_S: Final = 0.05
OLDEST_SQLITE = (3, 33)  # of August 2020; it has UPDATE … FROM
BUSY_TIMEOUT_S: Final = 10.0  # a reader of the command line is done in milliseconds
# In WAL mode NORMAL syncs at checkpoints alone: no commit waits for the disk, and a power cut costs
# the last commits, never the file. FULL syncs each commit.
_SYNCHRONOUS: Final = {"process": "NORMAL", "power": "FULL"}


class Store:
    """See the module. Holds the journal's lock from construction to `close`.

    Args:
        state_dir: the farm's; the journal is a folder in it.
        durability: "process" or "power".
        segment_bytes: see `SegmentWriter`.

    Raises:
        StateError: another process holds the journal, or its disk fails or is full.
        JournalError: it is damaged, or of another version.
    """

    def __init__(self, state_dir: Path, *, durability: str, segment_bytes: int) -> None:
        self.directory = state_dir / DIRECTORY_NAME
        with contextlib.ExitStack() as undo:  # a store that could not be opened holds nothing
            try:
                self.directory.mkdir(mode=0o700, exist_ok=True)
                self._lock = _hold(self.directory / LOCK_NAME)
                undo.callback(os.close, self._lock)
                self.segments = SegmentWriter(
                    self.segments_directory,
                    segment_bytes=segment_bytes,
                    is_synced=durability == "power",
                )
            except OSError as error:
                raise StateError(
                    f"the journal in {self.directory} can't be kept ({error.strerror}): make room, "
                    "or choose another folder with --state-dir"
                ) from error
            try:
                self.connection = connect(self.directory / DATABASE_NAME)
                undo.callback(self.connection.close)
                self._open(durability)
            except sqlite3.OperationalError as error:
                raise StateError(
                    f"the journal in {self.directory} can't be opened now ({error}): make room on "
                    "its disk, or look at its health"
                ) from error
            except sqlite3.DatabaseError as error:
                raise JournalError(
                    f"the journal in {self.directory} can't be used ({error}): look at its disk, "
                    "run `farm journal check`, or move the folder away and lose what is open in it"
                ) from error
            undo.pop_all()

    @property
    def segments_directory(self) -> Path:
        """Where the payloads lie."""
        return self.directory / SEGMENTS_NAME

    def write(self, batch: Sequence[r.Record]) -> None:
        """Write a batch, whole or not at all.

        Raises:
            OSError: the disk is full or fails.
            sqlite3.OperationalError: likewise; the batch may be written again later.
        """
        messages = [record for record in batch if isinstance(record, r.Message)]
        rows: dict[Statement, list[Row]] = {}
        try:
            places = self.segments.append([message.payload for message in messages])
            rows[INSERT_MESSAGE] = [
                message_row(message, *place)
                for message, place in zip(messages, places, strict=True)
            ]
            for record in batch:
                if not isinstance(record, r.Message):
                    statement, row = row_of(record)
                    rows.setdefault(statement, []).append(row)
            self._commit(rows)
        except (OSError, sqlite3.Error):
            self.segments.roll_back()
            raise
        self.segments.commit()

    def transaction(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Some statements, all or none; for housekeeping."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in statements:
                self.connection.execute(statement, values)
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self._abandon()
            raise

    def close(self, *, is_clean: bool) -> None:
        """Give everything back; `is_clean`: all that was to be written is written."""
        if is_clean:
            with contextlib.suppress(sqlite3.Error):  # then the next start looks for damage
                self.connection.execute(PUT_META, ("clean", 1))
        with contextlib.suppress(sqlite3.Error):
            self.connection.close()
        self.segments.close()
        os.close(self._lock)

    def _open(self, durability: str) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            wanted = ".".join(map(str, OLDEST_SQLITE))
            raise JournalError(
                f"this Python has SQLite {sqlite3.sqlite_version}, and the journal needs {wanted}: "
                "use a newer Python, or set journal.durability to off"
            )
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
        self.connection.execute("PRAGMA wal_autocheckpoint = 0")  # the `Checkpointer` does it
        self._check_after_crash()
        prepare(self.connection)
        self.life = self._begin_life()

    def _commit(self, rows: dict[Statement, list[Row]]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in ORDER:
                for sql, values in statement.calls(rows.get(statement, ())):
                    self.connection.execute(sql, values)
            self.connection.execute("COMMIT")
        except sqlite3.Error:
            self._abandon()
            raise

    def _abandon(self) -> None:
        # some errors (a full disk) have ended the transaction already
        with contextlib.suppress(sqlite3.Error):
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")

    def _check_after_crash(self) -> None:
        """Look for damage, unless the last life closed the journal in good order."""
        (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            return
        clean = self.connection.execute("SELECT value FROM meta WHERE key = 'clean'").fetchone()
        if clean and clean[0]:
            return
        (found,) = self.connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _begin_life(self) -> int:
        (life,) = self.connection.execute("SELECT value FROM meta WHERE key = 'life'").fetchone()
        life = int(life) + 1
        self.transaction([(PUT_META, ("life", life)), (PUT_META, ("clean", 0))])
        return life


def connect(path: Path, *, is_read_only: bool = False) -> sqlite3.Connection:
    """A connection to the database, without transactions of its own making."""
    mode = "ro" if is_read_only else "rwc"
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )


def _hold(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    give_up_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up_s:
                os.close(descriptor)
                raise StateError(
                    f"another broker process holds the journal in {path.parent}: stop it or give "
                    "this farm its own --state-dir"
                ) from None
            time.sleep(LOCK_POLL_S)
        else:
            return descriptor
