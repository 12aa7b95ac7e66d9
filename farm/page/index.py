"""The `HoleIndex`: the newest holes in memory, for lists, filters and trends.

A decision without I/O: brief holes of the journal go in, rows and sums come out. So the broker's
writer keeps no index for the page. Bounded: the oldest go as new ones come. Used from one thread at
a time; `farm.page.following` fills it.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from farm.journal.ids import told
from farm.journal.records import HoleState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from farm.journal.tail import BriefHole

OPEN: Final = "open"
OUTCOMES: Final = ("published", "insufficient", "skipped", "shed", "dead", OPEN)
QUALITY: Final = "quality"
MAX_REASON_CHARS: Final = 200  # of a row; the hole's own page has all of it
MAX_TOOLS: Final = 1000  # in one list


@dataclass(slots=True)
class Row:
    """One hole as the list has it. Times are seconds since 1970 (UTC); None: not yet."""

    hole_id: int
    source: str
    part_id: str
    outcome: str
    reason: str
    first_s: float
    last_s: float
    answered_s: float | None
    ended_s: float | None
    kinds: tuple[str, ...]
    figures: Mapping[str, float]

    def as_data(self) -> dict[str, Any]:
        """For the browser."""
        return {
            "hole": told(self.hole_id),
            "source": self.source,
            "id": self.part_id,
            "outcome": self.outcome,
            "reason": self.reason,
            "first_s": round(self.first_s, 3),
            "figures": self.figures,
        }


@dataclass(frozen=True, slots=True)
class Filter:
    """Which holes are wanted; what is empty or None is not asked for."""

    text: str = ""  # in the tool, or how the id begins
    source: str = ""
    outcomes: frozenset[str] = frozenset()
    quality_below: float | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all are wanted."""
        return self == Filter()

    def fits(self, row: Row) -> bool:
        """Whether a hole is wanted."""
        if self.source and row.source != self.source:
            return False
        if self.outcomes and row.outcome not in self.outcomes:
            return False
        if self.quality_below is not None:
            quality = row.figures.get(QUALITY)
            if quality is None or quality >= self.quality_below:
                return False
        if not self.text:
            return True
        return self.text in row.source.lower() or row.part_id.lower().startswith(self.text)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the holes that fit, newest first."""

    rows: list[Row]
    total: int  # how many fit, at the moment that `upto` names
    upto: int  # id of the newest hole then: pages that are asked for with it don't shift
    newer: int  # how many fitting ones have come since


@dataclass(slots=True)
class HoleIndex:
    """See the module.

    Args:
        capacity: holes that are kept.
        needs: the kinds of part that a hole must have.
        figures: gives the numbers of an answer, by key.
    """

    capacity: int
    needs: frozenset[str]
    figures: Callable[[Any], Mapping[str, float]]
    name: str = ""  # tells this index from one of another process
    _changes: int = 0
    _rows: dict[int, Row] = field(default_factory=dict)  # by id, rising
    _ids: list[int] = field(default_factory=list)  # the same ids; the front part may be gone
    _gone: int = 0  # so many of them
    _open: dict[int, None] = field(default_factory=dict)
    _outcomes: Counter[str] = field(default_factory=Counter)
    _turn: int = -1  # the last id that `in_turn` gave

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def edition(self) -> str:
        """Another one whenever something has changed."""
        return f"{self.name}-{self._changes}"

    @property
    def newest_id(self) -> int:
        """-1 where there is none."""
        return self._ids[-1] if self._rows else -1

    def unfinished(self, count: int) -> list[int]:
        """Up to `count` holes of which more will be heard, those not asked for longest first."""
        chosen = list(islice(self._open, count))
        for hole_id in chosen:  # to the end of the queue
            del self._open[hole_id]
            self._open[hole_id] = None
        return chosen

    def in_turn(self, count: int) -> list[int]:
        """The next `count` holes, from the oldest to the newest and then from the oldest again."""
        first = bisect.bisect_right(self._ids, self._turn, self._gone)
        chosen = self._ids[first : first + count]
        self._turn = chosen[-1] if first + count < len(self._ids) else -1
        return chosen

    def clear(self) -> None:
        """Forget all: it is another journal."""
        self._rows.clear()
        self._ids.clear()
        self._open.clear()
        self._outcomes.clear()
        self._gone = 0
        self._changes += 1

    def put(self, holes: Iterable[BriefHole]) -> None:
        """New holes, in the order of their ids, or what became of known ones."""
        for hole in holes:
            known = self._rows.get(hole.hole_id)
            if known is None:
                if hole.hole_id <= self.newest_id:
                    continue  # has left already
                self._ids.append(hole.hole_id)
            if hole.state is HoleState.ENDED:
                self._open.pop(hole.hole_id, None)
            else:
                self._open.setdefault(hole.hole_id)
            if (row := self._row(hole)) != known:
                self._rows[hole.hole_id] = row
                self._outcomes[row.outcome] += 1
                if known is not None:
                    self._outcomes[known.outcome] -= 1
                self._changes += 1
        self._let_go()

    def forget(self, gone: Collection[int]) -> None:
        """The journal has these no more."""
        if not (gone := self._rows.keys() & gone):
            return
        for hole_id in gone:
            self._drop(hole_id)
        self._ids = [i for i in self._ids[self._gone :] if i not in gone]
        self._gone = 0
        self._changes += 1

    # ---- lists --------------------------------------------------------------------------------

    def page(self, wanted: Filter, *, offset: int, limit: int, upto: int | None = None) -> Page:
        """Some holes, newest first.

        Args:
            wanted: which.
            offset: how many fitting ones to pass over.
            limit: how many at most.
            upto: `Page.upto` of the page that this one goes on from; None: from the newest.
        """
        until = self.newest_id if upto is None else upto
        end = bisect.bisect_right(self._ids, until, self._gone)
        if wanted.is_empty:
            first = max(end - offset - limit, self._gone)
            ids = self._ids[first : max(end - offset, first)]
            rows = [self._rows[i] for i in reversed(ids)]
            return Page(rows, end - self._gone, until, len(self._ids) - end)
        fitting = [row for row in self._newest_first(end) if wanted.fits(row)]
        newer = sum(wanted.fits(self._rows[i]) for i in self._ids[end:])
        return Page(fitting[offset : offset + limit], len(fitting), until, newer)

    def outcomes(self) -> dict[str, int]:
        """How many holes are in each state, where there are any."""
        return {name: count for name, count in self._outcomes.items() if count}

    # ---- tools --------------------------------------------------------------------------------

    def tools(self) -> tuple[list[dict[str, Any]], int]:
        """One row for each tool, the one heard of last first, at most MAX_TOOLS; and how many."""
        by_source: dict[str, list[Row]] = defaultdict(list)
        for row in self._newest_first(len(self._ids)):
            by_source[row.source].append(row)
        chosen = islice(by_source.items(), MAX_TOOLS)
        return [{"source": s, **self._sums(rows)} for s, rows in chosen], len(by_source)

    def last_of(self, source: str, count: int) -> list[Row]:
        """The last holes of a tool, oldest first."""
        found = (row for row in self._newest_first(len(self._ids)) if row.source == source)
        return list(islice(found, count))[::-1]

    def neighbours(self, source: str, hole_id: int) -> tuple[int | None, int | None]:
        """The holes of a tool just before and just after this one."""
        newer = None
        for row in self._newest_first(len(self._ids)):
            if row.source != source or row.hole_id == hole_id:
                continue
            if row.hole_id < hole_id:
                return row.hole_id, newer
            newer = row.hole_id
        return None, newer

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """What `tools` says, of these."""
        return self._sums(rows)

    def _sums(self, rows: Sequence[Row]) -> dict[str, Any]:
        counted = Counter(row.outcome for row in rows)
        parts = sum(len(row.kinds) for row in rows)
        unpaired = sum(len(row.kinds) for row in rows if not self.is_paired(row))
        skews = [row.last_s - row.first_s for row in rows if self.is_paired(row)]
        qualities = [q for row in rows if (q := row.figures.get(QUALITY)) is not None]
        return {
            "holes": len(rows),
            "outcomes": counted,
            "last_s": max((row.last_s for row in rows), default=None),
            "parts": parts,
            "unpaired_parts": unpaired,
            "skew_s": median(skews) if skews else None,
            "skew_max_s": max(skews, default=None),
            "quality": median(qualities) if qualities else None,
        }

    def is_paired(self, row: Row) -> bool:
        """Whether all parts came that a hole must have."""
        return self.needs.issubset(row.kinds)

    # ---- inside -------------------------------------------------------------------------------

    def _newest_first(self, end: int) -> Iterator[Row]:
        for place in range(end - 1, self._gone - 1, -1):
            yield self._rows[self._ids[place]]

    def _row(self, hole: BriefHole) -> Row:
        return Row(
            hole_id=hole.hole_id,
            source=hole.source,
            part_id=hole.part_id,
            outcome=hole.terminal or OPEN,
            reason=hole.reason[:MAX_REASON_CHARS],
            first_s=hole.first_s,
            last_s=hole.last_s,
            answered_s=hole.answered_s,
            ended_s=hole.ended_s,
            kinds=hole.kinds,
            figures=self.figures(hole.value),
        )

    def _drop(self, hole_id: int) -> None:
        self._outcomes[self._rows.pop(hole_id).outcome] -= 1
        self._open.pop(hole_id, None)

    def _let_go(self) -> None:
        while len(self._rows) > self.capacity:
            self._drop(self._ids[self._gone])
            self._gone += 1
            self._changes += 1
        if self._gone > self.capacity:  # now and then: to shift the list each time would cost
            del self._ids[: self._gone]
            self._gone = 0
