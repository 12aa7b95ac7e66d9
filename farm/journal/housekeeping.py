"""Housekeeping: what leaves the journal and when, in steps so small that no commit waits for them.

Owns retention and checkpoints. The oldest segment goes as a whole once it is too old, or once there
is too much in all; what is still needed of it (open holes, dead letters, the newest optional part
of each source) is first copied to the newest one. One that is needed for the most part stays.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from farm import log
from farm.errors import JournalBusyError, JournalError
from farm.journal.records import HoleState, Message
from farm.journal.recovery import NEWEST
from farm.journal.rows import unpack
from farm.journal.segments import Place, SegmentReader, numbers, path_of
from farm.journal.store import DATABASE_NAME, connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.journal.segments import FullSegments
    from farm.journal.store import Store

LOOK_EVERY_S: Final = 5.0
ROWS_PER_STEP: Final = 500
COPIES_PER_STEP: Final = 20
# To copy a segment that is needed for the most part frees little, and where dead letters alone are
# more than may be kept it would never end.
MAX_NEEDED_SHARE: Final = 0.5
WALK_AGAIN_S: Final = 3600.0  # dead letters that were passed and dealt with since go that late
CHECKPOINT_EVERY_S: Final = 0.5
CHECKPOINT_BYTES: Final = 4_000_000  # of the write-ahead log; SQLite's own habit is 4 MB
# With writing that never pauses a checkpoint can't start the log anew. From here on it waits for a
# moment's quiet, and commits wait for it: 64 MB take about 0.1 s.
FORCE_BYTES: Final = 64_000_000
CHECKPOINT_WAIT_MS: Final = 50

_NEEDED: Final = """
SELECT parts FROM hole WHERE state < 2
UNION ALL SELECT parts FROM hole
WHERE terminal IN ('dead', 'shed') AND resolved IS NULL AND ended > ?
"""


class Retention:
    """Called between commits by the writer's thread; one small step a call.

    Args:
        keep_s: age from which on ended holes go.
        keep_bytes: payload bytes on disk beyond which the oldest go early.
        keep_dead_s: age from which on dead letters go.
        utc: the time, seconds since 1970.

    `kept_kinds` are those of which the newest of each source stays: a hole to come may take it.
    """

    def __init__(
        self, *, keep_s: float, keep_bytes: int, keep_dead_s: float, utc: Callable[[], float]
    ) -> None:
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._keep_dead_s = keep_dead_s
        self._utc = utc
        self.kept_kinds: tuple[str, ...] = ()
        self._next_look_s = 0.0
        self._segment: int | None = None  # that is being emptied
        self._needed: list[int] = []  # messages of it that must be copied first
        self._walked_to = 0  # holes up to here are gone, or stay as dead letters
        self._walk_again_s = 0.0

    def step(self, store: Store) -> bool:
        """Do a little; returns whether there is more to do at once."""
        if self._segment is None:
            now_s = time.monotonic()
            if now_s < self._next_look_s:
                return False
            self._next_look_s = now_s + LOOK_EVERY_S
            if (chosen := self._choose(store)) is not None:
                self._segment, self._needed = chosen
                return True
            if not self._forget_old(store, now_s):
                return False
            self._next_look_s = 0.0
            return True
        if self._needed:
            self._copy(store, self._segment)
        elif self._delete(store, self._segment) < ROWS_PER_STEP:
            path_of(store.segments_directory, self._segment).unlink(missing_ok=True)
            self._segment = None
            self._next_look_s = 0.0
        return True

    def _choose(self, store: Store) -> tuple[int, list[int]] | None:
        """The segment that is to go, and the messages of it that are needed; None: none is."""
        directory = store.segments_directory
        sizes = {n: path_of(directory, n).stat().st_size for n in numbers(directory)}
        is_too_much = sum(sizes.values()) > self._keep_bytes
        needed: set[int] | None = None
        for segment in sorted(sizes.keys() - {store.segments.number}):
            if not (is_too_much or self._is_old(store, segment)):
                return None
            if needed is None:
                needed = self._needed_at_all(store)
            chosen, chosen_bytes = self._needed_of(store, segment, needed)
            if chosen_bytes <= MAX_NEEDED_SHARE * sizes[segment]:
                return segment, chosen
        return None

    def _is_old(self, store: Store, segment: int) -> bool:
        row = store.connection.execute(
            # its last message is the newest: rows of one segment have rising ids
            "SELECT at FROM message WHERE segment = ? ORDER BY id DESC LIMIT 1",
            (segment,),
        ).fetchone()
        return row is None or row[0] < self._utc() - self._keep_s

    def _needed_at_all(self, store: Store) -> set[int]:
        """The messages of holes that must stay whole, wherever they lie."""
        db = store.connection
        dead_since_s = self._utc() - self._keep_dead_s
        needed = {
            message_id
            for (parts,) in db.execute(_NEEDED, (dead_since_s,))
            for message_id in unpack(parts).values()
        }
        for kind in self.kept_kinds:
            needed.update(row[0] for row in db.execute(NEWEST, (kind,)))
        return needed

    def _needed_of(self, store: Store, segment: int, needed: set[int]) -> tuple[list[int], int]:
        """The messages of a segment that are needed, or may wait for a partner; and their size."""
        db = store.connection
        waiting_from = _watermark(store)
        rows = db.execute("SELECT id, note, length FROM message WHERE segment = ?", (segment,))
        chosen = {
            message_id: length
            for message_id, note, length in rows
            if message_id in needed or (message_id >= waiting_from and not note)
        }
        return list(chosen), sum(chosen.values())

    def _copy(self, store: Store, segment: int) -> None:
        chosen = self._needed[:COPIES_PER_STEP]
        marks = ", ".join("?" * len(chosen))
        query = (
            "SELECT id, at, kind, source, part_id, topic, position, length, crc, note"  # noqa: S608
            f" FROM message WHERE id IN ({marks})"  # question marks
        )
        rows = store.connection.execute(query, chosen).fetchall()
        with contextlib.closing(SegmentReader(store.segments_directory)) as reader:
            copies = [message for row in rows if (message := _message(reader, segment, row))]
        store.write(copies)  # replaces the rows: they point to the newest segment now
        self._needed = self._needed[COPIES_PER_STEP:]  # only now: the disk may have been full

    def _delete(self, store: Store, segment: int) -> int:
        """Delete some rows of a segment; returns how many."""
        found = store.connection.execute(
            "SELECT id FROM message WHERE segment = ? LIMIT ?", (segment, ROWS_PER_STEP)
        ).fetchall()
        store.transaction(("DELETE FROM message WHERE id = ?", row) for row in found)
        return len(found)

    def _forget_old(self, store: Store, now_s: float) -> bool:
        """Delete some holes or rejections that are too old, or whose messages are gone."""
        if now_s >= self._walk_again_s:
            self._walk_again_s = now_s + WALK_AGAIN_S
            self._walked_to = 0
        old_s = self._utc() - self._keep_s
        if holes := self._old_holes(store, old_s) or self._old_letters(store):
            store.transaction(("DELETE FROM hole WHERE id = ?", row) for row in holes)
        elif rejections := self._old_rejections(store):
            store.transaction(("DELETE FROM rejection WHERE id = ?", row) for row in rejections)
        else:
            return False
        return True

    def _old_letters(self, store: Store) -> list[tuple[int]]:
        return store.connection.execute(
            "SELECT id FROM hole WHERE terminal IN ('dead', 'shed') AND resolved IS NULL"
            " AND ended < ? AND newest_message < ? LIMIT ?",
            (self._utc() - self._keep_dead_s, _watermark(store), ROWS_PER_STEP),
        ).fetchall()

    def _old_rejections(self, store: Store) -> list[tuple[int]]:
        return store.connection.execute(
            # as long as the message is there, it must be known for one that was refused
            "SELECT id FROM (SELECT * FROM rejection ORDER BY id LIMIT ?) AS r WHERE r.state = 2"
            " AND NOT EXISTS (SELECT 1 FROM message WHERE message.id = r.message)",
            (ROWS_PER_STEP,),
        ).fetchall()

    def _old_holes(self, store: Store, ended_before_s: float) -> list[tuple[int]]:
        """Walks from the oldest hole on, over those that stay, to the first that is too young."""
        rows = store.connection.execute(
            "SELECT id, state, ended, EXISTS (SELECT 1 FROM message WHERE id = newest_message),"
            " terminal IN ('dead', 'shed') AND resolved IS NULL"
            # a message after the watermark that is in no hole would be taken for one that waits
            " FROM hole WHERE id > ? AND newest_message < ? ORDER BY id LIMIT ?",
            (self._walked_to, _watermark(store), ROWS_PER_STEP),
        ).fetchall()
        old = []
        for hole_id, state, ended_s, has_messages, is_dead in rows:
            if state != HoleState.ENDED:
                break
            if not is_dead:
                if ended_s >= ended_before_s and has_messages:
                    break
                old.append((hole_id,))
            self._walked_to = hole_id
        return old


def _watermark(store: Store) -> int:
    """No message before this one waits for a partner."""
    row = store.connection.execute("SELECT value FROM meta WHERE key = 'watermark'").fetchone()
    return int(row[0]) if row else 0


def _message(reader: SegmentReader, segment: int, row: tuple[Any, ...]) -> Message | None:
    """The message of a row; None where its bytes are damaged: whoever needs them will say so."""
    message_id, at_s, kind, source, part_id, topic, position, length, crc, note = row
    try:
        payload = reader.read(Place(segment, position, length, crc))
    except JournalBusyError:
        raise  # it must not be let go of for that
    except JournalError as error:
        log.get().error("journal_damaged", message=row[0], reason=str(error))
        return None
    return Message(message_id, at_s, kind, source, part_id, topic, payload, crc, note)


class Checkpointer:
    """Moves the write-ahead log into the database, and full segments out of memory.

    On a thread and a connection of its own: so a commit never waits for the 20 to 35 ms that each
    of them takes.
    """

    def __init__(self, directory: Path, full: FullSegments, *, is_synced: bool) -> None:
        self._full = full
        self._path = directory / DATABASE_NAME
        self._log_path = directory / f"{DATABASE_NAME}-wal"
        self._is_synced = is_synced
        self._stopping = threading.Event()
        self._limited = log.Limited()
        self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        connection = connect(self._path)
        with contextlib.closing(connection):
            # While it waits for a reader's end, commits wait for it: better tried again later.
            connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._is_synced else 'NORMAL'}")
            while not self._stopping.wait(CHECKPOINT_EVERY_S):
                try:
                    self._look(connection)
                # a full disk: the log grows meanwhile, and the next try may succeed
                except (OSError, sqlite3.Error) as error:
                    self._limited.warning("journal_checkpoint_failed", reason=str(error))
                self._settle()

    def _settle(self) -> None:
        try:
            self._full.settle()
        # whoever needs what was lost will say so: each message has a checksum
        except OSError as error:
            self._limited.warning("journal_disk_fails", reason=error.strerror, cure="look after it")

    def _look(self, connection: sqlite3.Connection) -> None:
        size = self._log_path.stat().st_size if self._log_path.exists() else 0
        if size >= CHECKPOINT_BYTES:
            how = "TRUNCATE" if size >= FORCE_BYTES else "PASSIVE"
            connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
