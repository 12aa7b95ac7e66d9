"""Reads a journal without disturbing it, beside a running farm or after one: for the commands.

A separate connection that can't write. What it reads is whole and may be a moment old.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from farm.errors import JournalError, StateError
from farm.journal.records import HoleState
from farm.journal.rows import unpack, unpack_publications
from farm.journal.schema import COUNT_DEAD_LETTERS, DEAD_LETTER, VERSION
from farm.journal.segments import Place, SegmentReader
from farm.journal.store import DATABASE_NAME, DIRECTORY_NAME, SEGMENTS_NAME, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from farm.adapter import Publication

_HOLE = (
    "SELECT id, source, part_id, parts, at, first, last, deaths, state, terminal, status, reason,"
    " value, provenance, model_version, model_hash, publications, answered, ended, refusals, story,"
    " retry_of, resolved FROM hole"
)
_MESSAGE = (
    "SELECT id, at, kind, source, part_id, topic, segment, position, length, crc, note FROM message"
)
PIECE = 500  # messages
FOR_EVER_S = 1e18
MAX_DAMAGES = 20  # more than these are counted only


@dataclass(frozen=True, slots=True)
class KeptHole:
    """A hole as the journal has it. Times are seconds since 1970 (UTC); None: not yet."""

    hole_id: int
    source: str
    part_id: str
    messages: dict[str, int]  # ids by kind
    opened_s: float
    first_s: float  # arrival of its first part
    last_s: float  # and of its last
    deaths: int
    state: HoleState
    terminal: str  # "" while it is open
    status: str
    reason: str
    value: Any
    provenance: dict[str, Any]
    model_version: str
    model_hash: str
    publications: tuple[Publication, ...]
    answered_s: float | None
    ended_s: float | None
    refusals: str
    story: list[Any]  # see `farm.broker.story.Story.told`
    retry_of: int | None
    resolved: str  # "retried" or "dropped", by an operator

    @property
    def is_dead_letter(self) -> bool:
        """Whether it waits for an operator's decision."""
        return (
            self.terminal in ("dead", "shed")
            and not self.resolved
            and self.state is HoleState.ENDED
        )


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message as the journal has it; its payload lies at `place`."""

    message_id: int
    at_s: float
    kind: str
    source: str
    part_id: str | None
    topic: str
    place: Place
    note: str  # why no hole needs it


@dataclass(slots=True)
class Checked:
    """What `JournalReader.check` found."""

    messages: int = 0
    message_bytes: int = 0
    holes: int = 0
    open_holes: int = 0
    dead_letters: int = 0
    damages: int = 0
    told: tuple[str, ...] = ()  # the first of them, as sentences


class JournalReader:
    """See the module; a context manager.

    Raises:
        JournalError: there is no journal, or it can't be read.
        StateError: this user may not read it.
    """

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / DIRECTORY_NAME
        path = self.directory / DATABASE_NAME
        try:
            path.stat()
        except PermissionError as error:
            raise StateError(
                f"{self.directory} can't be read ({error.strerror}): do it as the farm's user"
            ) from error
        except OSError:
            raise JournalError(
                f"there is no journal in {state_dir}: name the farm's folder with --state-dir or "
                "--config (with `journal.durability: off` none is kept)"
            ) from None
        self._segments = SegmentReader(self.directory / SEGMENTS_NAME)
        try:
            self._db = connect(path, is_read_only=True)
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        if version != VERSION:
            self.close()
            raise JournalError(
                f"the journal in {self.directory} is of version {version}, this farm reads "
                f"{VERSION}: use the farm that wrote it, or start this one to bring it up to date"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back."""
        self._db.close()
        self._segments.close()

    # ---- holes --------------------------------------------------------------------------------

    def hole(self, hole_id: int) -> KeptHole | None:
        """One hole."""
        return next(self._holes("WHERE id = ?", hole_id), None)

    def find(self, tool: str, part_id: str) -> list[KeptHole]:
        """All holes of a tool and result id, oldest first.

        Args:
            tool: the source ("toolbox/tool"), or the last part of it.
            part_id: the id that joins the parts.
        """
        where = "WHERE part_id = ? AND (source = ? OR source LIKE ? ESCAPE '\\') ORDER BY id"
        return list(self._holes(where, part_id, tool, _ending(tool)))

    def dead_letters(self, *, limit: int = -1) -> list[KeptHole]:
        """The holes that wait for an operator's decision, oldest first; all where limit < 0."""
        return list(self._holes(f"WHERE {DEAD_LETTER} ORDER BY id LIMIT ?", limit))

    def newest(self, limit: int) -> list[KeptHole]:
        """The holes that were opened last, newest first."""
        return list(self._holes("ORDER BY id DESC LIMIT ?", limit))

    def count_dead_letters(self) -> int:
        """How many there are."""
        [(count,)] = self._fetch(COUNT_DEAD_LETTERS)
        return int(count)

    # ---- messages -----------------------------------------------------------------------------

    def messages_of(self, hole: KeptHole) -> list[KeptMessage]:
        """The messages of a hole that are still kept, in order of arrival."""
        marks = ", ".join("?" * len(hole.messages))
        return list(self._messages(f"WHERE id IN ({marks}) ORDER BY id", *hole.messages.values()))

    def others_of(self, tool: str, part_id: str) -> list[KeptMessage]:
        """The messages of a key that are in no hole: duplicates, and parts that wait. Slow."""
        where = "WHERE part_id = ? AND (source = ? OR source LIKE ? ESCAPE '\\') ORDER BY id"
        taken = {i for hole in self.find(tool, part_id) for i in hole.messages.values()}
        found = self._messages(where, part_id, tool, _ending(tool))
        return [message for message in found if message.message_id not in taken]

    def messages(
        self, *, since_s: float = 0.0, until_s: float = FOR_EVER_S
    ) -> Iterator[KeptMessage]:
        """All messages that arrived in a time and are still kept, in the order of their arrival."""
        last_id = -1
        where = "WHERE id > ? AND at >= ? AND at < ? ORDER BY id LIMIT ?"
        while some := list(self._messages(where, last_id, since_s, until_s, PIECE)):
            last_id = some[-1].message_id
            yield from some

    def answers(
        self, *, since_s: float = 0.0, until_s: float = FOR_EVER_S
    ) -> Iterator[tuple[float, str, Publication]]:
        """What was published about the messages of a time: when (UTC), for which source, and what.

        The holes come first, then what belongs to no hole; each in the order of arrival.
        """
        holes = (
            "SELECT id, answered, source, publications FROM hole WHERE id > ? AND"
            " answered IS NOT NULL AND first >= ? AND last < ? ORDER BY id LIMIT ?"
        )
        rejections = (
            "SELECT id, at, source, publications FROM rejection WHERE id > ? AND at >= ? AND at < ?"
            " ORDER BY id LIMIT ?"
        )
        for query in (holes, rejections):
            last_id = -1
            while some := list(self._fetch(query, last_id, since_s, until_s, PIECE)):
                last_id = some[-1][0]
                for _, at_s, source, publications in some:
                    for publication in unpack_publications(publications):
                        yield at_s, source, publication

    def payload(self, message: KeptMessage) -> bytes:
        """The bytes of a message.

        Raises:
            JournalError: they are gone or damaged.
        """
        return self._segments.read(message.place)

    def parts(self, hole: KeptHole) -> dict[str, bytes]:
        """The payloads of a hole by kind.

        Raises:
            JournalError: one is gone or damaged.
        """
        found = {message.kind: message for message in self.messages_of(hole)}
        if missing := ", ".join(hole.messages.keys() - found.keys()):
            raise JournalError(
                f"not in the journal any more: {missing} (it keeps them for journal.keep_s)"
            )
        return {kind: self.payload(found[kind]) for kind in hole.messages}

    # ---- integrity ----------------------------------------------------------------------------

    def count_messages(self) -> int:
        """How many messages are kept: the work that `check` has."""
        [(count,)] = self._fetch("SELECT count(*) FROM message")
        return int(count)

    def check(self, progress: Callable[[int], None] = lambda _: None) -> Checked:
        """Look for damage in the database, and compare every payload with its checksum.

        Args:
            progress: is told how many more messages were looked at.
        """
        checked = Checked()
        for (sentence,) in self._fetch(f"PRAGMA integrity_check({MAX_DAMAGES})"):
            if sentence != "ok":
                _note(checked, f"the database: {sentence}")
        last_id = -1
        # in pieces: a long look at one state of the database would keep its log from ending
        while some := list(self._messages("WHERE id > ? ORDER BY id LIMIT ?", last_id, PIECE)):
            last_id = some[-1].message_id
            for message in some:
                self._check_message(message, checked)
            progress(len(some))
        [(checked.holes, is_open)] = self._fetch("SELECT count(*), sum(state < 2) FROM hole")
        checked.open_holes = is_open or 0
        checked.dead_letters = self.count_dead_letters()
        return checked

    def _check_message(self, message: KeptMessage, checked: Checked) -> None:
        checked.messages += 1
        checked.message_bytes += message.place.length
        try:
            self.payload(message)
        except JournalError as error:
            # retention may have moved it, or let it go, since the row was read
            now = next(self._messages("WHERE id = ?", message.message_id), None)
            if now is not None and now.place == message.place:
                _note(checked, f"a {message.kind} of {message.source}, {message.part_id}: {error}")

    # ---- inside -------------------------------------------------------------------------------

    def _holes(self, where: str, *values: Any) -> Iterator[KeptHole]:
        for row in self._fetch(f"{_HOLE} {where}", *values):
            hole_id, source, part_id, parts, at_s, first_s, last_s, deaths, state, *rest = row
            terminal, status, reason, value, provenance, version, model_hash, *rest = rest
            publications, answered_s, ended_s, refusals, story, retry_of, resolved = rest
            yield KeptHole(
                *(hole_id, source, part_id, unpack(parts), at_s, first_s, last_s),
                *(deaths, HoleState(state), terminal or "", status or "", reason or ""),
                *(unpack(value), unpack(provenance) or {}, version or "", model_hash or ""),
                *(unpack_publications(publications), answered_s, ended_s, refusals or ""),
                *(unpack(story) or [], retry_of, resolved or ""),
            )

    def _messages(self, where: str, *values: Any) -> Iterator[KeptMessage]:
        for row in self._fetch(f"{_MESSAGE} {where}", *values):
            message_id, at_s, kind, source, part_id, topic, *place, note = row
            yield KeptMessage(message_id, at_s, kind, source, part_id, topic, Place(*place), note)

    def _fetch(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(query, values)
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> JournalError:
        return JournalError(f"the journal in {self.directory} can't be read: {error}")


def _ending(tool: str) -> str:
    """A pattern for the sources that end with a tool."""
    escaped = tool.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%/{escaped}"


def _note(checked: Checked, sentence: str) -> None:
    checked.damages += 1
    if len(checked.told) < MAX_DAMAGES:
        checked.told += (sentence,)
