"""Recovery: what a start finds in the journal of the lives before. Reads, decides nothing.

Found are the messages that wait for partners, the holes without an answer, the answers that MQTT
has not confirmed, and what the stations must remember: which joins have just ended, the newest
optional parts, the values that the answerer judged lately.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from farm.adapter import Finished, Status
from farm.errors import JournalBusyError, JournalError
from farm.journal.rows import unpack
from farm.journal.schema import COUNT_DEAD_LETTERS
from farm.journal.segments import Place, SegmentReader

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Iterator
    from pathlib import Path

_MESSAGE = "SELECT id, kind, source, part_id, segment, position, length, crc FROM message"
# of each source; one that was refused was never taken
NEWEST = (
    "SELECT max(id) FROM message WHERE kind = ? AND id NOT IN (SELECT message FROM rejection)"
    " GROUP BY source"
)
MAX_PAST = 50_000  # ended joins that are remembered at most


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message of a former life."""

    message_id: int
    kind: str
    source: str
    part_id: str | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class FoundHole:
    """A hole without an answer. Times are seconds since 1970."""

    hole_id: int
    source: str
    part_id: str
    messages: dict[str, int]  # their ids by kind
    payload_bytes: int
    deaths: int
    at_s: float
    first_s: float
    last_s: float
    story: list[Any]


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """Publications that MQTT has not confirmed: of a hole, or (terminal None) of a rejection."""

    letter_id: int
    source: str
    part_id: str
    terminal: str | None
    count: int
    first_s: float
    last_s: float
    answered_s: float


@dataclass(frozen=True, slots=True)
class FoundPast:
    """A join that ended shortly before the last life did."""

    source: str
    part_id: str
    age_s: float  # at the end of that life
    prints: dict[str, tuple[int, int]]  # checksum and length of its messages, by kind


@dataclass(slots=True)
class Found:
    """Everything that a start has to take up. All lists are oldest first."""

    waiting: list[FoundMessage] = field(default_factory=list)
    newest: list[FoundMessage] = field(default_factory=list)
    holes: list[FoundHole] = field(default_factory=list)
    letters: list[FoundLetter] = field(default_factory=list)
    past: list[FoundPast] = field(default_factory=list)
    judged: list[tuple[Finished, float]] = field(default_factory=list)  # with the UTC of each
    damaged: list[str] = field(default_factory=list)  # what could not be read, as sentences
    dead_letters: int = 0
    is_paused: bool = False


def recover(
    db: sqlite3.Connection,
    segments_directory: Path,
    *,
    optional_kinds: Collection[str],
    past_s: float,
    judged_since_s: float,
) -> Found:
    """Look through the journal.

    Args:
        db: the database.
        segments_directory: where the payloads lie.
        optional_kinds: kinds of part of which the newest of each source is remembered.
        past_s: how far back, from the last message on, ended joins are remembered.
        judged_since_s: UTC from which on judged values are remembered.
    """
    reader = SegmentReader(segments_directory)
    try:
        found = Found()
        settings = dict(db.execute("SELECT key, value FROM meta"))
        found.is_paused = settings.get("paused") == "1"
        # those that MQTT has not confirmed are counted when it does
        (found.dead_letters,) = db.execute(COUNT_DEAD_LETTERS).fetchone()
        found.waiting = list(_waiting(db, reader, int(settings.get("watermark", 0)), found.damaged))
        found.newest = list(_newest(db, reader, optional_kinds))
        found.holes = list(_holes(db))
        found.letters = list(_letters(db))
        found.past = list(_past(db, past_s))
        found.judged = list(_judged(db, judged_since_s))
        return found
    finally:
        reader.close()


def _waiting(
    db: sqlite3.Connection, reader: SegmentReader, watermark: int, damaged: list[str]
) -> Iterator[FoundMessage]:
    """The messages since the watermark that are closed by no note and in no hole."""
    taken = {
        message_id
        for (parts,) in db.execute("SELECT parts FROM hole WHERE newest_message >= ?", (watermark,))
        for message_id in unpack(parts).values()
    }
    rows = db.execute(f"{_MESSAGE} WHERE id >= ? AND note = '' ORDER BY id", (watermark,))
    for row in rows:
        if row[0] in taken:
            continue
        try:
            yield _read(reader, row)
        except JournalBusyError:
            raise  # to start without it would be to lose it
        except JournalError as error:
            damaged.append(f"a {row[1]} message of {row[2]} with id {row[3]}: {error}")


def _newest(
    db: sqlite3.Connection, reader: SegmentReader, kinds: Collection[str]
) -> Iterator[FoundMessage]:
    for kind in kinds:
        query = f"{_MESSAGE} WHERE id IN ({NEWEST})"
        for row in db.execute(query, (kind,)).fetchall():
            try:
                yield _read(reader, row)
            except JournalError:  # it only would have been of help
                continue


def _holes(db: sqlite3.Connection) -> Iterator[FoundHole]:
    rows = db.execute(
        "SELECT id, source, part_id, parts, deaths, at, first, last, story FROM hole"
        " WHERE state = 0 ORDER BY id"
    )
    for hole_id, source, part_id, parts, deaths, at_s, first_s, last_s, story in rows.fetchall():
        messages = unpack(parts)
        size = 0
        for message_id in messages.values():
            row = db.execute("SELECT length FROM message WHERE id = ?", (message_id,)).fetchone()
            size += row[0] if row else 0
        yield FoundHole(
            *(hole_id, source, part_id, messages, size),
            *(deaths, at_s, first_s, last_s, unpack(story) or []),
        )


def _letters(db: sqlite3.Connection) -> Iterator[FoundLetter]:
    holes = db.execute(
        "SELECT id, source, part_id, terminal, publications, first, last, answered FROM hole"
        " WHERE state = 1"
    )
    rejections = db.execute(
        "SELECT id, source, '', NULL, publications, at, at, at FROM rejection WHERE state = 1"
    )
    for row in sorted([*holes, *rejections]):
        letter_id, source, part_id, terminal, publications, first_s, last_s, answered_s = row
        count = len(unpack(publications))
        yield FoundLetter(letter_id, source, part_id, terminal, count, first_s, last_s, answered_s)


def _past(db: sqlite3.Connection, past_s: float) -> Iterator[FoundPast]:
    (last_s,) = db.execute("SELECT at FROM message ORDER BY id DESC LIMIT 1").fetchone() or (0.0,)
    rows = db.execute(
        "SELECT source, part_id, parts, at FROM hole WHERE retry_of IS NULL"
        " ORDER BY id DESC LIMIT ?",
        (MAX_PAST,),
    )
    found = []
    for source, part_id, parts, at_s in rows:
        age_s = max(last_s - at_s, 0.0)
        if age_s > past_s:
            break
        found.append((source, part_id, age_s, unpack(parts)))
    for source, part_id, age_s, parts in reversed(found):
        prints = {}
        for kind, message_id in parts.items():
            query = "SELECT crc, length FROM message WHERE id = ?"
            if row := db.execute(query, (message_id,)).fetchone():
                prints[kind] = row
        yield FoundPast(source, part_id, age_s, prints)


def _judged(db: sqlite3.Connection, since_s: float) -> Iterator[tuple[Finished, float]]:
    rows = db.execute(
        "SELECT source, part_id, status, value, reason, provenance, model_version, model_hash,"
        " answered FROM hole WHERE answered IS NOT NULL AND status IS NOT NULL"
        " ORDER BY id DESC LIMIT ?",
        (MAX_PAST,),
    )
    found = []
    for source, part_id, status, value, reason, provenance, version, content_hash, at_s in rows:
        if at_s < since_s:
            break
        finished = Finished(
            *(source, part_id, Status(status), unpack(value), reason or ""),
            *(unpack(provenance) or {}, version or "", content_hash or ""),
        )
        found.append((finished, at_s))
    yield from reversed(found)


def _read(reader: SegmentReader, row: tuple[Any, ...]) -> FoundMessage:
    message_id, kind, source, part_id, segment, position, length, crc = row
    payload = reader.read(Place(segment, position, length, crc))
    return FoundMessage(message_id, kind, source, part_id, payload)
