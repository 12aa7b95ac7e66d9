"""Records as rows: the statement that writes each kind of record, and its values.

Owns what is packed and how; `unpack` is the way back, for recovery and the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped] # ships none

from farm.adapter import Publication
from farm.journal import records as r

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row = tuple[Any, ...]

INSERT_MESSAGE: Final = "INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CLOSE_MESSAGE: Final = "UPDATE message SET note = ? WHERE id = ?"
_INSERT_HOLE: Final = (
    "INSERT OR REPLACE INTO hole (id, source, part_id, parts, newest_message, at, first, last,"
    " retry_of) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_HURT_HOLE: Final = "UPDATE hole SET deaths = ?, story = ? WHERE id = ?"
_ANSWER_HOLE: Final = (
    "UPDATE hole SET state = 1, answered = ?, terminal = ?, status = ?, reason = ?, value = ?,"
    " provenance = ?, model_version = ?, model_hash = ?, publications = ?, story = ? WHERE id = ?"
)
_END_HOLE: Final = "UPDATE hole SET state = 2, ended = ?, terminal = ?, refusals = ? WHERE id = ?"
_RESOLVE_HOLE: Final = "UPDATE hole SET resolved = ? WHERE id = ?"
_INSERT_REJECTION: Final = (
    "INSERT OR REPLACE INTO rejection (id, message, at, source, kind, reason, publications)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_END_REJECTION: Final = "UPDATE rejection SET state = 2, ended = ? WHERE id = ?"
PUT_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

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
    PUT_META,
)
"""The order of the statements within a batch: what a later one changes was inserted before."""


def message_row(m: r.Message, segment: int, position: int) -> Row:
    """The row of a message whose payload lies at this place."""
    part_id = None if m.part_id is None else _text(m.part_id)
    return (
        *(m.message_id, m.at_s, m.kind, _text(m.source), part_id, _text(m.topic)),
        *(segment, position, len(m.payload), m.crc, _text(m.note)),
    )


def row_of(record: r.Record) -> tuple[str, Row]:
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


_ROWS: Final[dict[type[Any], tuple[str, Callable[[Any], Row]]]] = {
    r.Closed: (_CLOSE_MESSAGE, lambda c: (_text(c.note), c.message_id)),
    r.Opened: (_INSERT_HOLE, _opened),
    r.Hurt: (_HURT_HOLE, lambda h: (h.deaths, pack(h.story), h.hole_id)),
    r.Answered: (_ANSWER_HOLE, _answered),
    r.Ended: (_END_HOLE, lambda e: (e.at_s, e.terminal, _text(e.refusals) or None, e.hole_id)),
    r.Resolved: (_RESOLVE_HOLE, lambda d: (d.how, d.hole_id)),
    r.Rejected: (_INSERT_REJECTION, _rejected),
    r.RejectionEnded: (_END_REJECTION, lambda e: (e.at_s, e.rejection_id)),
    r.Watermark: (PUT_META, lambda w: ("watermark", w.message_id)),
    r.Setting: (PUT_META, lambda s: (s.key, s.value)),
}
