"""Reads a farm's journal as an auditor does: from outside, by its tables alone.

Uses none of the journal's own code, which is what is being checked.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped] # ships none

from farm.errors import FarmError
from farm.simulation.chaos.history import HoleRow, Records, RejectionRow

if TYPE_CHECKING:
    from pathlib import Path

DATABASE: Final = "journal/journal.db"  # in the state directory
BUSY_TIMEOUT_S: Final = 10.0
ENDED: Final = 2  # the state of what needs nothing more
_HOLES: Final = (
    "SELECT id, source, part_id, state, terminal, reason, publications, at, answered, ended,"
    " deaths, retry_of FROM hole ORDER BY id"
)
_REJECTIONS: Final = (
    "SELECT message.source, message.crc, message.length, rejection.reason, rejection.publications,"
    " rejection.state FROM rejection JOIN message ON message.id = rejection.message"
)


def read_records(state_dir: Path) -> Records:
    """What the journal of a farm says of its holes.

    Raises:
        FarmError: it can't be read.
    """
    path = state_dir / DATABASE
    since_1970_s = time.time() - time.monotonic()
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as db:
            return Records(
                [_hole(row, since_1970_s) for row in db.execute(_HOLES)],
                [_rejection(row) for row in db.execute(_REJECTIONS)],
            )
    except sqlite3.Error as error:
        raise FarmError(f"the journal {path} can't be read: {error}") from error


def _hole(row: tuple[Any, ...], since_1970_s: float) -> HoleRow:
    hole_id, source, part_id, state, terminal, reason, publications, *times, deaths, retry_of = row
    at_s, answered_s, ended_s = (None if at is None else at - since_1970_s for at in times)
    assert at_s is not None
    return HoleRow(
        *(hole_id, source, part_id, state, terminal, reason or ""),
        *(_publications(publications), at_s, answered_s, ended_s, deaths, retry_of),
    )


def _rejection(row: tuple[Any, ...]) -> RejectionRow:
    source, crc, length, reason, publications, state = row
    return RejectionRow(source, crc, length, reason, _publications(publications), state == ENDED)


def _publications(packed: bytes | None) -> tuple[tuple[str, bytes], ...]:
    rows = [] if packed is None else msgpack.unpackb(packed)
    return tuple((topic, payload) for topic, payload, *_ in rows)
