"""Records as rows: the statement that writes each kind of record, and its values.

Owns what is packed and how; `unpack` is the way back, for recovery and the command line.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped] # ships none

from farm.adapter import Publication
from farm.journal import records as r

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Row = tuple[Any, ...]

_CHUNKS: Final = (32, 8, 1)


class Statement(NamedTuple):
    """What writes records of one kind, several with one call.

    Each call into SQLite gives up the interpreter's lock and has to wait for it again while the
    loop is busy: a call for each row would cost a commit of 500 rows tens of milliseconds.
    """

    head: str
    columns: int
    tail: str = ""
    is_update: bool = False  # the last column is the id of what is changed

    @lru_cache(maxsize=256)  # noqa: B019 - statements are constants
    def sql(self, rows: int) -> str:
        """The statement for so many rows at once."""
        row = f"({', '.join('?' * self.columns)})"
        return f"{self.head}{', '.join([row] * rows)}{self.tail}"

    def calls(self, rows: Sequence[Row]) -> Iterator[tuple[str, list[Any]]]:
        """What to execute for these rows, as (SQL, values)."""
        if self.is_update:
            # one statement changes a row once: the last word on it
            rows = list({row[-1]: row for row in rows}.values())
        at = 0
        for size in _CHUNKS:
            sql = self.sql(size)
            while len(rows) - at >= size:
                yield sql, [value for row in rows[at : at + size] for value in row]
                at += size


def _insert(into: str, columns: int) -> Statement:
    return Statement(f"INSERT OR REPLACE INTO {into} VALUES ", columns)  # noqa: S608 - ours


def _update(table: str, changes: str, *columns: str) -> Statement:
    values = [f"{name} = v.column{number}" for number, name in enumerate(columns, 1)]
    found = len(columns) + 1
    settings = ", ".join([*filter(None, [changes]), *values])
    return Statement(
        f"UPDATE {table} SET {settings} FROM (VALUES ",  # noqa: S608 - all of it is ours
        found,
        f") AS v WHERE {table}.id = v.column{found}",
        is_update=True,
    )


INSERT_MESSAGE: Final = _insert("message", 11)
_CLOSE_MESSAGE: Final = _update("message", "", "note")
_INSERT_HOLE: Final = _insert(
    "hole (id, source, part_id, parts, newest_message, at, first, last, retry_of)", 9
)
_HURT_HOLE: Final = _update("hole", "", "deaths", "story")
_ANSWER_HOLE: Final = _update(
    *("hole", "state = 1", "answered", "terminal", "status", "reason", "value", "provenance"),
    *("model_version", "model_hash", "publications", "story"),
)
_END_HOLE: Final = _update("hole", "state = 2", "ended", "terminal", "refusals")
_RESOLVE_HOLE: Final = _update("hole", "", "resolved")
_INSERT_REJECTION: Final = _insert(
    "rejection (id, message, at, source, kind, reason, publications)", 7
)
_END_REJECTION: Final = _update("rejection", "state = 2", "ended")
_PUT_META: Final = _insert("meta", 2)
PUT_META: Final = _PUT_META.sql(1)

ORDER: Final = (
    INSERT_MESSAGE,
    _CLOSE_MESSAGE,
    _INSERT_HOLE,
    _HURT_HOLE,
    _ANSWER_HOLE,
    _END_HOLE,
    _RESOLVE_HOLE,
    _INSERT_REJECTION,
    _END_REJECTION,
    _PUT_META,
)
"""The order of the statements within a batch: what a later one changes was inserted before."""


def message_row(m: r.Message, segment: int, position: int) -> Row:
    """The row of a message whose payload lies at this place."""
    part_id = None if m.part_id is None else _text(m.part_id)
    return (
        *(m.message_id, m.at_s, m.kind, _text(m.source), part_id, _text(m.topic)),
        *(segment, position, len(m.payload), m.crc, _text(m.note)),
    )


def row_of(record: r.Record) -> tuple[Statement, Row]:
    """The statement and values of any record but a message."""
    statement, values = _ROWS[type(record)]
    return statement, values(record)


def pack(value: Any) -> bytes | None:
    """A value of a stranger's as bytes; None where it can't be packed."""
    try:
        return bytes(msgpack.packb(value))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None


def unpack(packed: bytes | None) -> Any:
    """What `pack` was given; None for None."""
    return None if packed is None else msgpack.unpackb(packed, strict_map_key=False)


def unpack_publications(packed: bytes | None) -> tuple[Publication, ...]:
    """The publications of a hole or a rejection."""
    return tuple(Publication(*row) for row in unpack(packed) or ())


def _pack_publications(publications: Iterable[Publication]) -> bytes:
    # a topic may hold what is no UTF-8; the outbox sets such a one aside, and the reader shows it
    return bytes(msgpack.packb([[_text(p.topic), p.payload, p.retain] for p in publications]))


def _text(text: str) -> str:
    """A text that SQLite takes: lone surrogates, which only a hostile sender writes, escaped."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _opened(o: r.Opened) -> Row:
    newest = max(o.messages.values(), default=0)
    return (
        *(o.hole_id, _text(o.source), _text(o.part_id), msgpack.packb(dict(o.messages)), newest),
        *(o.at_s, o.first_s, o.last_s, o.retry_of),
    )


def _answered(a: r.Answered) -> Row:
    return (
        *(a.at_s, a.terminal, a.status, _text(a.reason), pack(a.value), pack(dict(a.provenance))),
        *(_text(a.model_version), _text(a.model_hash), _pack_publications(a.publications)),
        *(pack(a.story), a.hole_id),
    )


def _rejected(j: r.Rejected) -> Row:
    return (
        *(j.rejection_id, j.message_id, j.at_s, _text(j.source), j.kind, _text(j.reason)),
        _pack_publications(j.publications),
    )


_ROWS: Final[dict[type[Any], tuple[Statement, Callable[[Any], Row]]]] = {
    r.Closed: (_CLOSE_MESSAGE, lambda c: (_text(c.note), c.message_id)),
    r.Opened: (_INSERT_HOLE, _opened),
    r.Hurt: (_HURT_HOLE, lambda h: (h.deaths, pack(h.story), h.hole_id)),
    r.Answered: (_ANSWER_HOLE, _answered),
    r.Ended: (_END_HOLE, lambda e: (e.at_s, e.terminal, _text(e.refusals) or None, e.hole_id)),
    r.Resolved: (_RESOLVE_HOLE, lambda d: (d.how, d.hole_id)),
    r.Rejected: (_INSERT_REJECTION, _rejected),
    r.RejectionEnded: (_END_REJECTION, lambda e: (e.at_s, e.rejection_id)),
    r.Watermark: (_PUT_META, lambda w: ("watermark", w.message_id)),
    r.Setting: (_PUT_META, lambda s: (s.key, s.value)),
}
