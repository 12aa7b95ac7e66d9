"""The `JournalTail`: the newest holes of a journal in short, for the page's list.

Reads a few columns of a few rows at a time, each in a transaction of its own that ends with the
call: a long one would keep the journal's log from ending.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from farm.journal.reader import JournalReader
from farm.journal.records import HoleState
from farm.journal.rows import unpack
from farm.journal.schema import DEAD_LETTER
from farm.journal.store import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from farm.journal.reader import KeptHole

PIECE: Final = 500  # holes in one look
Identity: TypeAlias = tuple[int, int, str]  # device, number of the file, id ("" in an old journal)
_BRIEF: Final = (
    "SELECT id, source, part_id, parts, first, last, answered, ended, deaths, state, terminal,"
    " reason, value FROM hole"
)


class BriefHole(NamedTuple):
    """What a list shows of a hole. Times are seconds since 1970 (UTC); None: not yet."""

    hole_id: int
    source: str
    part_id: str
    kinds: tuple[str, ...]  # of the parts that came
    first_s: float
    last_s: float
    answered_s: float | None
    ended_s: float | None
    deaths: int
    state: HoleState
    terminal: str  # "" while it is open
    reason: str
    value: Any


class JournalTail(JournalReader):
    """See the module; a context manager, to be closed after a few looks."""

    def begin_of_last(self, count: int) -> int:
        """The id before the last `count` holes; -1 where there are fewer."""
        rows = list(self._fetch("SELECT id FROM hole ORDER BY id DESC LIMIT 1 OFFSET ?", count))
        return int(rows[0][0]) if rows else -1

    def newest_id(self) -> int:
        """Of all holes; -1 where there are none."""
        [(newest,)] = self._fetch("SELECT max(id) FROM hole")
        return -1 if newest is None else int(newest)

    def gone(self, hole_ids: Sequence[int]) -> set[int]:
        """Those of these holes that the journal no longer has, at most `PIECE` ids a call.

        Any may be among them: a dead letter stays while younger holes leave.
        """
        marks = ", ".join("?" * len(hole_ids))
        found = self._fetch(f"SELECT id FROM hole WHERE id IN ({marks})", *hole_ids)  # noqa: S608
        return set(hole_ids).difference(i for (i,) in found)

    def after(self, hole_id: int, limit: int = PIECE) -> list[BriefHole]:
        """The next holes after this one, oldest first."""
        return self._briefs("WHERE id > ? ORDER BY id LIMIT ?", hole_id, limit)

    def of(self, hole_ids: Sequence[int]) -> list[BriefHole]:
        """These holes, as far as something has happened to them, at most `PIECE` ids a call."""
        marks = ", ".join("?" * len(hole_ids))
        return self._briefs(f"WHERE id IN ({marks}) AND state > 0", *hole_ids)

    def dead_before(self, hole_id: int | None, limit: int) -> list[KeptHole]:
        """Dead letters, newest first, older than this one."""
        below = hole_id if hole_id is not None else 2**63 - 1
        where = f"WHERE {DEAD_LETTER} AND id < ? ORDER BY id DESC LIMIT ?"
        return list(self._holes(where, below, limit))

    def identity(self) -> Identity:
        """Another one where the journal was moved away and a new one begun.

        The file's number alone does not tell: a file system may give it again.
        """
        try:
            found = (self.directory / DATABASE_NAME).stat()
        except OSError as error:
            raise self._unreadable(error) from error
        rows = list(self._fetch("SELECT value FROM meta WHERE key = 'journal'"))
        return found.st_dev, found.st_ino, str(rows[0][0]) if rows else ""

    def _briefs(self, where: str, *values: Any) -> list[BriefHole]:
        return [_brief(row) for row in self._fetch(f"{_BRIEF} {where}", *values)]


def _brief(row: Iterable[Any]) -> BriefHole:
    hole_id, source, part_id, parts, first, last, answered, ended, deaths, state, *rest = row
    terminal, reason, value = rest
    return BriefHole(
        *(hole_id, source, part_id, tuple(unpack(parts)), first, last, answered, ended, deaths),
        *(HoleState(state), terminal or "", reason or "", unpack(value)),
    )
