"""Housekeeping: what leaves the journal and when, in steps so small that no commit waits for them.

Owns retention and checkpoints. The oldest segment goes as a whole once it is too old, or once there
is too much in all; what is still needed of it (open holes, dead letters) is first copied to the
newest one.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from farm import log
from farm.errors import JournalError
from farm.journal.records import HoleState, Message
from farm.journal.rows import unpack
from farm.journal.segments import Place, SegmentReader, numbers, path_of
from farm.journal.store import DATABASE_NAME, connect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.journal.store import Store

LOOK_EVERY_S: Final = 5.0
ROWS_PER_STEP: Final = 500
COPIES_PER_STEP: Final = 20
CHECKPOINT_EVERY_S: Final = 0.5
CHECKPOINT_BYTES: Final = 4_000_000  # of the write-ahead log; SQLite's own habit is 4 MB
# With writing that never pauses a checkpoint can't start the log anew. From here on it waits for a
# moment's quiet, and commits wait for it: 64 MB take about 0.1 s.
FORCE_BYTES: Final = 64_000_000

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
    """

    def __init__(
        self, *, keep_s: float, keep_bytes: int, keep_dead_s: float, utc: Callable[[], float]
    ) -> None:
        self._keep_s = keep_s
        self._keep_bytes = keep_bytes
        self._keep_dead_s = keep_dead_s
        self._utc = utc
        self._next_look_s = 0.0
        self._segment: int | None = None  # that is being emptied
        self._needed: list[int] = []  # messages of it that must be copied first
        self._gone_to = 0  # the newest message that was deleted
        self._walked_to = 0  # holes up to here are gone, or stay as dead letters

    def step(self, store: Store) -> bool:
        """Do a little; returns whether there is more to do at once."""
        if self._segment is None:
            now_s = time.monotonic()
            if now_s < self._next_look_s:
                return False
            self._next_look_s = now_s + LOOK_EVERY_S
            self._segment = self._choose(store)
            if self._segment is not None:
                self._needed = self._needed_of(store, self._segment)
                return True
            return self._forget_old(store)
        if self._needed:
            self._copy(store, self._segment)
        elif self._delete(store, self._segment) < ROWS_PER_STEP:
            path_of(store.segments_directory, self._segment).unlink(missing_ok=True)
            self._segment = None
            self._next_look_s = 0.0
        return True

    def _choose(self, store: Store) -> int | None:
        """The oldest segment, if it is to go."""
        directory = store.segments_directory
        found = [n for n in numbers(directory) if n != store.segments.number]
        if not found:
            return None
        total = sum(path_of(directory, n).stat().st_size for n in numbers(directory))
        if total > self._keep_bytes:
            return found[0]
        row = store.connection.execute(
            # its last message is the newest: rows of one segment have rising ids
            "SELECT at FROM message WHERE segment = ? ORDER BY id DESC LIMIT 1",
            (found[0],),
        ).fetchone()
        return found[0] if row is None or row[0] < self._utc() - self._keep_s else None

    def _needed_of(self, store: Store, segment: int) -> list[int]:
        db = store.connection
        dead_since_s = self._utc() - self._keep_dead_s
        needed = {
            message_id
            for (parts,) in db.execute(_NEEDED, (dead_since_s,))
            for message_id in unpack(parts).values()
        }
        watermark = db.execute("SELECT value FROM meta WHERE key = 'watermark'").fetchone()
        rows = db.execute("SELECT id, note FROM message WHERE segment = ?", (segment,))
        waiting_from = watermark[0] if watermark else 0
        return [i for i, note in rows if i in needed or (i >= waiting_from and not note)]

    def _copy(self, store: Store, segment: int) -> None:
        chosen, self._needed = self._needed[:COPIES_PER_STEP], self._needed[COPIES_PER_STEP:]
        marks = ", ".join("?" * len(chosen))
        query = (
            "SELECT id, at, kind, source, part_id, topic, position, length, crc, note"  # noqa: S608
            f" FROM message WHERE id IN ({marks})"  # question marks
        )
        rows = store.connection.execute(query, chosen).fetchall()
        with contextlib.closing(SegmentReader(store.segments_directory)) as reader:
            copies = [message for row in rows if (message := _message(reader, segment, row))]
        store.write(copies)  # replaces the rows: they point to the newest segment now

    def _delete(self, store: Store, segment: int) -> int:
        """Delete some rows of a segment; returns how many."""
        found = store.connection.execute(
            "SELECT id FROM message WHERE segment = ? LIMIT ?", (segment, ROWS_PER_STEP)
        ).fetchall()
        store.transaction(("DELETE FROM message WHERE id = ?", row) for row in found)
        self._gone_to = max([self._gone_to, *(row[0] for row in found)])
        return len(found)

    def _forget_old(self, store: Store) -> bool:
        """Delete some holes and rejections that are too old, or whose messages are gone."""
        db, now_s = store.connection, self._utc()
        holes = self._old_holes(store, now_s - self._keep_s)
        dead = db.execute(
            "SELECT id FROM hole WHERE terminal IN ('dead', 'shed') AND resolved IS NULL"
            " AND ended < ? LIMIT ?",
            (now_s - self._keep_dead_s, ROWS_PER_STEP),
        ).fetchall()
        rejections = db.execute(
            "SELECT id FROM (SELECT * FROM rejection ORDER BY id LIMIT ?)"
            " WHERE state = 2 AND (ended < ? OR message <= ?)",
            (ROWS_PER_STEP, now_s - self._keep_s, self._gone_to),
        ).fetchall()
        store.transaction(
            [
                *(("DELETE FROM hole WHERE id = ?", row) for row in [*holes, *dead]),
                *(("DELETE FROM rejection WHERE id = ?", row) for row in rejections),
            ]
        )
        return bool(holes or dead or rejections)

    def _old_holes(self, store: Store, ended_before_s: float) -> list[tuple[int]]:
        """Walks from the oldest hole on, over those that stay, to the first that is too young."""
        rows = store.connection.execute(
            "SELECT id, state, ended, newest_message, terminal IN ('dead', 'shed') AND"
            " resolved IS NULL FROM hole WHERE id > ? ORDER BY id LIMIT ?",
            (self._walked_to, ROWS_PER_STEP),
        ).fetchall()
        old = []
        for hole_id, state, ended_s, newest_message, is_dead in rows:
            if state != HoleState.ENDED:
                break
            if not is_dead:
                if ended_s >= ended_before_s and newest_message > self._gone_to:
                    break
                old.append((hole_id,))
            self._walked_to = hole_id
        return old


def _message(reader: SegmentReader, segment: int, row: tuple[Any, ...]) -> Message | None:
    """The message of a row; None where its bytes are damaged: whoever needs them will say so."""
    message_id, at_s, kind, source, part_id, topic, position, length, crc, note = row
    try:
        payload = reader.read(Place(segment, position, length, crc))
    except JournalError as error:
        log.get().error("journal_damaged", message=row[0], reason=str(error))
        return None
    return Message(message_id, at_s, kind, source, part_id, topic, payload, crc, note)


class Checkpointer:
    """Moves the write-ahead log into the database, on a thread and a connection of its own.

    So a commit never waits for the 20 to 35 ms that it takes.
    """

    def __init__(self, directory: Path, *, is_synced: bool) -> None:
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
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._is_synced else 'NORMAL'}")
            while not self._stopping.wait(CHECKPOINT_EVERY_S):
                try:
                    self._look(connection)
                # a full disk: the log grows meanwhile, and the next try may succeed
                except (OSError, sqlite3.Error) as error:
                    self._limited.warning("journal_checkpoint_failed", reason=str(error))

    def _look(self, connection: sqlite3.Connection) -> None:
        size = self._log_path.stat().st_size if self._log_path.exists() else 0
        if size >= CHECKPOINT_BYTES:
            how = "TRUNCATE" if size >= FORCE_BYTES else "PASSIVE"
            connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
