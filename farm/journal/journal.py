"""The `Journal`: the broker's end of it. Appends, tells how far all is on disk, reads back.

`NoJournal` is what durability `off` means: nothing is kept, and all counts as written at once.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from typing import TYPE_CHECKING, Any, Protocol

from farm.errors import JournalError
from farm.journal.housekeeping import Checkpointer, Retention
from farm.journal.ids import FIRST_LIFE_BITS
from farm.journal.recovery import Found, recover
from farm.journal.rows import unpack, unpack_publications
from farm.journal.schema import COUNT_DEAD_LETTERS, DEAD_LETTER
from farm.journal.segments import Place, SegmentReader
from farm.journal.store import DATABASE_NAME, Store, connect
from farm.journal.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from farm.adapter import Publication
    from farm.config.journal import JournalConfig
    from farm.journal.records import Record
    from farm.telemetry.histogram import Histogram

# Beyond these the disk does not keep up: the broker takes in nothing more until it has.
MAX_QUEUED_RECORDS = 20_000
MAX_QUEUED_BYTES = 64_000_000


class Recorder(Protocol):
    """What the stations of the broker need of a journal."""

    life: int
    is_durable: bool  # whether anything can be read back

    @property
    def position(self) -> int:
        """Of the last record that was appended."""
        ...

    @property
    def durable(self) -> int:
        """All records up to this position are safe."""
        ...

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that nothing more should be taken in."""
        ...

    @property
    def failure(self) -> str:
        """Why nothing can be written now; "" while it can."""
        ...

    def append(self, record: Record, *, is_urgent: bool = False) -> int:
        """Have a record written; returns its position. Urgent: somebody waits for it."""
        ...

    def parts(self, messages: Mapping[str, int]) -> dict[str, bytes]:
        """The payloads of messages by kind, from disk.

        Raises:
            JournalError: they are gone or damaged.
        """
        ...

    def publications(self, letter_id: int) -> tuple[Publication, ...]:
        """The publications of a hole or a rejection, from disk.

        Raises:
            JournalError: they can't be read now.
        """
        ...


class NoJournal:
    """Durability `off`."""

    is_durable = False
    failure = ""
    is_behind = False

    def __init__(self) -> None:
        self.life = secrets.randbits(FIRST_LIFE_BITS)
        self.position = 0

    @property
    def durable(self) -> int:
        """Everything: nothing is waited for."""
        return self.position

    def append(self, record: Record, *, is_urgent: bool = False) -> int:  # noqa: ARG002
        """Forget it."""
        self.position += 1
        return self.position

    def parts(self, messages: Mapping[str, int]) -> dict[str, bytes]:
        """Always raises: nothing was kept."""
        raise JournalError(f"nothing was kept of {len(messages)} messages: durability is off")

    def publications(self, letter_id: int) -> tuple[Publication, ...]:
        """Always raises: nothing was kept."""
        raise JournalError(f"nothing was kept of {letter_id}: durability is off")


class Journal:
    """See the module. For the broker's loop, but for what the threads in it do.

    Raises:
        StateError: another process holds the journal.
        JournalError: it is damaged, or of another version.
    """

    is_durable = True

    def __init__(
        self,
        config: JournalConfig,
        state_dir: Path,
        *,
        utc: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._store = Store(
            state_dir, durability=config.durability, segment_bytes=config.segment_bytes
        )
        self.life = self._store.life
        self.directory = self._store.directory
        self._reader = SegmentReader(self._store.segments_directory)
        self._db = connect(self.directory / DATABASE_NAME, is_read_only=True)
        self._retention = Retention(
            keep_s=config.keep_s,
            keep_bytes=config.keep_bytes,
            keep_dead_s=config.keep_dead_s,
            utc=utc,
        )
        self._writer = Writer(
            self._store,
            commit_records=config.commit_records,
            commit_bytes=config.commit_bytes,
            commit_interval_s=config.commit_interval_s,
            wake=wake,
            housekeep=self._retention.step,
        )
        self._checkpointer = Checkpointer(
            self.directory, self._store.segments.full, is_synced=config.durability == "power"
        )
        self.append = self._writer.append  # called thousands of times a second: no detour

    def recover(
        self, *, optional_kinds: Collection[str], past_s: float, judged_since_s: float
    ) -> Found:
        """What the lives before have left open; call before `start`."""
        self._retention.kept_kinds = tuple(optional_kinds)
        try:
            return recover(
                self._db,
                self._store.segments_directory,
                optional_kinds=optional_kinds,
                past_s=past_s,
                judged_since_s=judged_since_s,
            )
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise JournalError(
                f"the journal in {self.directory} can't be read ({error}): run `farm journal "
                "check`, or move the folder away and lose what is open in it"
            ) from error

    def setting(self, key: str) -> str | None:
        """What a life before has written under a key; call before `start`.

        Raises:
            JournalError: it can't be read.
        """
        try:
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal in {self.directory} can't be read ({error}): run `farm journal check`"
            ) from error
        return None if row is None else str(row[0])

    def start(self) -> None:
        """Begin to write."""
        self._writer.start()
        self._checkpointer.start()

    def close(self, timeout_s: float) -> bool:
        """Write what is left and give everything back; False: it could not be written in time."""
        is_clean = self._writer.stop(timeout_s)
        self._checkpointer.stop()
        self._db.close()
        self._reader.close()
        self._store.close(is_clean=is_clean)
        return is_clean

    @property
    def position(self) -> int:
        """Of the last record that was appended."""
        return self._writer.position

    @property
    def durable(self) -> int:
        """All records up to this position are on disk."""
        return self._writer.durable

    @property
    def is_behind(self) -> bool:
        """Whether so much waits to be written that nothing more should be taken in."""
        writer = self._writer
        queued = writer.position - writer.durable
        return (
            queued > MAX_QUEUED_RECORDS
            or writer.queued_bytes > MAX_QUEUED_BYTES
            or bool(writer.failure)
        )

    @property
    def failure(self) -> str:
        """Why nothing can be written now; "" while it can."""
        return self._writer.failure

    @property
    def is_broken(self) -> bool:
        """Whether the writer has ended by an error of its own: the process must end, too."""
        return self._writer.is_broken

    @property
    def commits(self) -> int:
        """How many groups were written in this life."""
        return self._writer.commits

    @property
    def commit_times(self) -> Histogram:
        """How long each of them took, of this life."""
        return self._writer.commit_times

    def parts(self, messages: Mapping[str, int]) -> dict[str, bytes]:
        """The payloads of messages by kind, from disk.

        Raises:
            JournalError: they are gone or damaged.
        """
        found = {}
        for kind, message_id in messages.items():
            row = self._fetch(
                "SELECT segment, position, length, crc FROM message WHERE id = ?", message_id
            )
            if row is None:
                raise JournalError(f"the {kind} message is not in the journal any more")
            found[kind] = self._reader.read(Place(*row))
        return found

    def publications(self, letter_id: int) -> tuple[Publication, ...]:
        """The publications of a hole or a rejection, from disk.

        Raises:
            JournalError: they can't be read now.
        """
        row = self._fetch(
            "SELECT publications FROM hole WHERE id = ?1"
            " UNION ALL SELECT publications FROM rejection WHERE id = ?1",
            letter_id,
        )
        if row is None:
            raise JournalError(f"letter {letter_id} is not in the journal any more")
        return unpack_publications(row[0])

    def dead_letter(self, hole_id: int) -> tuple[str, str, dict[str, int]] | None:
        """Source, part id and messages of an unresolved dead letter; None: there is none."""
        row = self._fetch(
            f"SELECT source, part_id, parts FROM hole WHERE id = ? AND {DEAD_LETTER}",  # noqa: S608
            hole_id,
        )
        return None if row is None else (row[0], row[1], unpack(row[2]))

    def newest_value(self) -> tuple[dict[str, int], Any, str] | None:
        """Messages, value and model hash of the newest hole that a model had a value for."""
        with contextlib.suppress(sqlite3.Error):
            row = self._db.execute(
                "SELECT parts, value, model_hash FROM hole WHERE status = 'ok' AND state > 0"
                " ORDER BY id DESC LIMIT 1"
            ).fetchone()
            return None if row is None else (unpack(row[0]), unpack(row[1]), row[2])
        return None

    def count_dead_letters(self) -> int:
        """How many wait for an operator, by what is written.

        Raises:
            JournalError: they can't be counted now.
        """
        row = self._fetch(COUNT_DEAD_LETTERS)
        return int(row[0]) if row else 0

    def let_go(self) -> None:
        """Give back the room of what retention has removed. Call it now and then."""
        self._reader.let_go()

    def _fetch(self, query: str, *values: int) -> tuple[Any, ...] | None:
        try:
            row: tuple[Any, ...] | None = self._db.execute(query, values).fetchone()
        except (sqlite3.Error, OverflowError) as error:
            raise JournalError(f"the journal can't be read: {error}") from error
        return row
