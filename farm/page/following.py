"""The `Follower`: reads what is new in the journal, by short looks at it.

Opens the journal for each look and closes it again, so that nothing of it is held: neither its
write-ahead log, nor a journal that was moved away. Blocking, for a thread; touches no index: what
it has seen is put there by its caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from farm.errors import FarmError
from farm.journal.tail import PIECE, JournalTail

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from farm.journal.tail import BriefHole, Identity

MAX_PIECES: Final = 8  # of new holes in one look: 4000; the next look goes on
MAX_ASKED: Final = 4 * PIECE  # open holes that are looked after in one look


@dataclass(slots=True)
class Seen:
    """What a look has found.

    Attributes:
        is_other: it is another journal than before: forget all of that.
        pieces: holes, known ones that have changed and new ones, in the order of their ids.
        gone: known holes that have left the journal.
        problem: why it can't be read; "" where it can.
        is_behind: there is more to be read at once.
    """

    is_other: bool = False
    pieces: list[list[BriefHole]] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    problem: str = ""
    is_behind: bool = False


class Follower:
    """See the module.

    Args:
        state_dir: of the farm.
        capacity: holes that are wanted at most.
    """

    def __init__(self, state_dir: Path, capacity: int) -> None:
        self._state_dir = state_dir
        self._capacity = capacity
        self._identity: Identity | None = None
        self._was_behind = False

    def look(self, *, after: int, asked: Sequence[int], known: Sequence[int] = ()) -> Seen:
        """Read what is new.

        Args:
            after: the newest hole that is known; -1 for none.
            asked: known holes of which more is to be heard, at most MAX_ASKED.
            known: some of the known holes, to see whether they are still there, at most PIECE.
        """
        seen = Seen()
        try:
            with JournalTail(self._state_dir) as journal:
                self._read(journal, seen, after, asked, known)
        except FarmError as error:
            seen.problem = str(error)
        self._was_behind = seen.is_behind
        return seen

    def _read(
        self, journal: JournalTail, seen: Seen, after: int, asked: Sequence[int],
        known: Sequence[int],
    ) -> None:  # fmt: skip
        if (identity := journal.identity()) != self._identity or journal.newest_id() < after:
            seen.is_other = self._identity is not None
            self._identity = identity
            after, asked, known = -1, (), ()
        seen.gone = journal.gone(known)
        for begin in range(0, len(asked), PIECE):
            seen.pieces.append(journal.of(asked[begin : begin + PIECE]))
        if after < 0 or self._was_behind:  # a start, or many came at once: what can be kept
            after = max(after, journal.begin_of_last(self._capacity))
        for _ in range(MAX_PIECES):
            holes = journal.after(after)
            seen.pieces.append(holes)
            if len(holes) < PIECE:
                break
            after = holes[-1].hole_id
        else:
            seen.is_behind = True
