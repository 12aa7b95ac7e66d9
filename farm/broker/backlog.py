"""The `Backlog`: the order in which waiting jobs are served.

A decision without I/O; it knows ids and times, and nothing of payloads or workers. Rules:

* What was served before and came back goes first (`put_back`).
* Fresh jobs take turns by source: a tool with 1000 waiting holes does not hold up another's one.
  Within a source the first come is the first served.
* A job that waited longer than the objective moves to the late lane. While both lanes wait, one of
  every `late_share` served is a late one, the oldest: so fresh holes meet the objective while the
  backlog drains, where a single queue would make every hole of the day late.
* A suspect (see the ledger) lets others pass, so that a model which ends its worker on any hole is
  seen on different ones before one of them is given up for it.

Everything is O(1), or amortised so: a job moves from the fresh to the late lane once.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of so many served while others wait too, one is a suspect: few enough that several fresh jobs are
# tried between two suspects, many enough that a tool's later answers don't wait long for its own.
SUSPECT_SHARE = 4


class _Fresh(NamedTuple):
    """A job that has not waited too long yet."""

    source: str
    queued_s: float


class Backlog:
    """See the module. Times are monotonic seconds.

    Args:
        objective_s: a job that waited longer is late.
        late_share: of so many served while fresh and late ones wait, one is late.
    """

    def __init__(self, *, objective_s: float, late_share: int) -> None:
        self._objective_s = objective_s
        self._late_share = late_share
        self._back: OrderedDict[int, None] = OrderedDict()
        self._suspects: OrderedDict[int, None] = OrderedDict()
        self._fresh: OrderedDict[int, _Fresh] = OrderedDict()  # of all sources, oldest first
        self._turns: OrderedDict[str, OrderedDict[int, None]] = OrderedDict()  # the same, by source
        self._late: OrderedDict[int, None] = OrderedDict()
        # Those of the two lanes whose payloads are in memory, in the order of their lane.
        self._heavy_fresh: OrderedDict[int, None] = OrderedDict()
        self._heavy_late: OrderedDict[int, None] = OrderedDict()
        self._fresh_in_row = 0  # fresh ones served since a late one was, while late ones waited
        self._others_in_row = 0  # likewise, served since a suspect was

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._back) + len(self._suspects) + len(self._fresh) + len(self._late)

    def __contains__(self, job_id: int) -> bool:
        places = (self._back, self._suspects, self._fresh, self._late)
        return any(job_id in place for place in places)

    @property
    def late(self) -> int:
        """How many jobs are in the late lane, as of the last `age`."""
        return len(self._late)

    # ---- in and out -------------------------------------------------------------------------

    def add(self, job_id: int, source: str, queued_s: float, *, is_heavy: bool = True) -> None:
        """A new job joins the tail of its source.

        Args:
            job_id: of the job.
            source: whose turn it waits for.
            queued_s: since when it waits; never less than that of the job before.
            is_heavy: whether its payloads are in memory, so that it may be spilled.
        """
        self._fresh[job_id] = _Fresh(source, queued_s)
        self._turns.setdefault(source, OrderedDict())[job_id] = None
        if is_heavy:
            self._heavy_fresh[job_id] = None

    def put_back(self, job_id: int, *, is_suspect: bool = False) -> None:
        """A job that was served came back: it goes to the head, unless it is to let others pass."""
        if is_suspect:
            self._suspects[job_id] = None
        else:
            self._back[job_id] = None
            self._back.move_to_end(job_id, last=False)

    def next(self, now_s: float) -> int | None:
        """Whom to serve now. It stays the same until somebody is taken, or grows late."""
        self.age(now_s)
        if self._back:
            return next(iter(self._back))
        others = self._next_of_lanes()
        is_their_turn = others is None or self._others_in_row >= SUSPECT_SHARE - 1
        if self._suspects and is_their_turn:
            return next(iter(self._suspects))
        return others

    def take(self, job_id: int) -> None:
        """The job is served: it leaves, and the turns go on."""
        if job_id in self._fresh:
            self._fresh_in_row = self._fresh_in_row + 1 if self._late else 0
            self._others_in_row = self._others_in_row + 1 if self._suspects else 0
            source = self._leave_fresh(job_id)
            self._heavy_fresh.pop(job_id, None)
            if source in self._turns:
                self._turns.move_to_end(source)
            return
        if job_id in self._late:
            self._fresh_in_row = 0
            self._others_in_row = self._others_in_row + 1 if self._suspects else 0
        elif job_id in self._suspects:
            self._others_in_row = 0
        self.remove(job_id)

    def remove(self, job_id: int) -> None:
        """The job leaves without being served; nobody's turn changes."""
        if job_id in self._fresh:
            self._leave_fresh(job_id)
            self._heavy_fresh.pop(job_id, None)
        elif job_id in self._late:
            del self._late[job_id]
            self._heavy_late.pop(job_id, None)
        elif job_id in self._back:
            del self._back[job_id]
        else:
            del self._suspects[job_id]

    def age(self, now_s: float) -> None:
        """Move what has waited too long to the late lane."""
        while self._fresh:
            job_id, fresh = next(iter(self._fresh.items()))
            if now_s - fresh.queued_s <= self._objective_s:
                return
            self._leave_fresh(job_id)
            self._late[job_id] = None
            if job_id in self._heavy_fresh:
                del self._heavy_fresh[job_id]
                self._heavy_late[job_id] = None

    # ---- too many ---------------------------------------------------------------------------

    def oldest(self) -> int | None:
        """The job that has waited longest of those that were never served."""
        return next(chain(self._late, self._fresh), None)

    def newest(self) -> int | None:
        """The job that came last of those that were never served."""
        return next(chain(reversed(self._fresh), reversed(self._late)), None)

    def last_to_serve(self) -> Iterator[int]:
        """The never served jobs with payloads in memory, about the last to be served first.

        About: the newest job of a source that has no other is served earlier than it is named
        here. Change nothing while iterating.
        """
        fresh, late = reversed(self._heavy_fresh), reversed(self._heavy_late)
        if len(self._late) * self._late_share < len(self._fresh):
            return chain(fresh, late)  # the late ones are so few that they will be served first
        return chain(late, fresh)

    def spilled(self, job_id: int) -> None:
        """The payloads of this job lie on disk: `last_to_serve` does not name it any more."""
        self._heavy_fresh.pop(job_id, None)
        self._heavy_late.pop(job_id, None)

    def restored(self, job_id: int) -> None:
        """Its payloads are in memory again, since it is about to be served: it is named last."""
        for lane, heavy in ((self._fresh, self._heavy_fresh), (self._late, self._heavy_late)):
            if job_id in lane:
                heavy[job_id] = None
                heavy.move_to_end(job_id, last=False)

    # ---- inside -----------------------------------------------------------------------------

    def _next_of_lanes(self) -> int | None:
        is_late_turn = not self._fresh or self._fresh_in_row >= self._late_share - 1
        if self._late and is_late_turn:
            return next(iter(self._late))
        for jobs in self._turns.values():
            return next(iter(jobs))
        return None

    def _leave_fresh(self, job_id: int) -> str:
        """Take it out of its lane; returns its source."""
        source = self._fresh.pop(job_id).source
        jobs = self._turns[source]
        del jobs[job_id]
        if not jobs:
            del self._turns[source]
        return source
