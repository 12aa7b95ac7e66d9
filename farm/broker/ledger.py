"""The `Ledger`: owns every job from its pairing to its end, and decides where it is.

A decision without I/O. States and their legal transitions stand in one table. Rules:

* Credit: at most as many unclaimed jobs are on the wire as there are idle ready workers.
* A bounced job, and a job whose worker died, goes back to the *head* of the backlog.
* A claim may come late, even after the job was sent again: whoever claims computes, and the
  first result wins. Later ones are counted by the caller and suppressed.
* A job that cost `max_attempts` workers (they died or hung) and that nobody computes is dead.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.broker.buffer import Key

# After a worker's death an unclaimed job that it may have swallowed waits this long for a claim:
# living readers claim or bounce within milliseconds.
ORPHAN_GRACE_S = 0.25


class JobState(Enum):
    """Where a job is."""

    WAITING = "waiting"  # in the backlog
    SENT = "sent"  # on the wire, claimed by nobody yet
    CLAIMED = "claimed"  # being computed
    ENDED = "ended"  # its first result came, or it was given up


LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.SENT, JobState.CLAIMED, JobState.ENDED}),
    JobState.SENT: frozenset({JobState.WAITING, JobState.CLAIMED, JobState.ENDED}),
    JobState.CLAIMED: frozenset({JobState.WAITING, JobState.CLAIMED, JobState.ENDED}),
    JobState.ENDED: frozenset(),
}


@dataclass(slots=True)
class Entry:
    """One job and its history."""

    job_id: int
    key: Key
    payloads: Mapping[str, bytes]
    payload_bytes: int
    first_s: float  # arrival of the first part
    last_s: float  # arrival of the last part
    queued_s: float
    state: JobState = JobState.WAITING
    sent_s: float = 0.0
    claim_by_s: float = 0.0
    sends: int = 0
    deaths: int = 0  # claims that ended with the worker's death or fencing
    claims: dict[int, float] = field(default_factory=dict)  # worker id ▶ since

    def move(self, state: JobState) -> None:
        """Change the state, along the table only."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"job {self.job_id}: {self.state} ▶ {state}")
        self.state = state


class Ledger:
    """See the module. Times are monotonic seconds."""

    def __init__(self, *, claim_timeout_s: float, job_timeout_s: float, max_attempts: int) -> None:
        self._claim_timeout_s = claim_timeout_s
        self._job_timeout_s = job_timeout_s
        self._max_attempts = max_attempts
        self._entries: dict[int, Entry] = {}
        self._backlog: OrderedDict[int, None] = OrderedDict()
        self._sent: OrderedDict[int, None] = OrderedDict()
        self._claimed: dict[int, None] = {}
        self.open_bytes = 0

    def __len__(self) -> int:
        """How many jobs are open."""
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """How many jobs are in the backlog."""
        return len(self._backlog)

    @property
    def on_wire(self) -> int:
        """How many jobs are sent and unclaimed."""
        return len(self._sent)

    @property
    def claimed(self) -> int:
        """How many jobs are being computed."""
        return len(self._claimed)

    def add(self, entry: Entry) -> None:
        """Take a job over; it joins the tail of the backlog."""
        self._entries[entry.job_id] = entry
        self._backlog[entry.job_id] = None
        self.open_bytes += entry.payload_bytes

    def get(self, job_id: int) -> Entry | None:
        """The open job of an id."""
        return self._entries.get(job_id)

    def next_to_send(self, *, idle_workers: int) -> Entry | None:
        """The head of the backlog, if the credit allows one more on the wire."""
        if not self._backlog or len(self._sent) >= idle_workers:
            return None
        return self._entries[next(iter(self._backlog))]

    def sent(self, entry: Entry, now_s: float) -> None:
        """The job went out on the wire."""
        entry.move(JobState.SENT)
        entry.sent_s = now_s
        entry.claim_by_s = now_s + self._claim_timeout_s
        entry.sends += 1
        del self._backlog[entry.job_id]
        self._sent[entry.job_id] = None

    def claim(self, job_id: int, worker_id: int, now_s: float) -> bool:
        """A worker computes this job now. False: the job has ended already."""
        entry = self._entries.get(job_id)
        if entry is None:
            return False
        entry.move(JobState.CLAIMED)
        self._backlog.pop(job_id, None)
        self._sent.pop(job_id, None)
        self._claimed[job_id] = None
        entry.claims[worker_id] = now_s
        return True

    def bounce(self, job_id: int) -> bool:
        """A busy worker sent this job back. False: it is not on the wire any more."""
        entry = self._entries.get(job_id)
        if entry is None or entry.state is not JobState.SENT:
            return False
        self._requeue(entry)
        return True

    def end(self, job_id: int) -> Entry | None:
        """The job is over; the first caller gets it, later ones None."""
        entry = self._entries.pop(job_id, None)
        if entry is None:
            return None
        entry.move(JobState.ENDED)
        self._backlog.pop(job_id, None)
        self._sent.pop(job_id, None)
        self._claimed.pop(job_id, None)
        self.open_bytes -= entry.payload_bytes
        return entry

    def worker_gone(self, worker_id: int, now_s: float) -> list[Entry]:
        """Give back what a dead or fenced worker held.

        Returns:
            The jobs that have now cost `max_attempts` workers; the caller ends them.
        """
        exhausted = []
        held = [j for j in self._claimed if worker_id in self._entries[j].claims]
        for job_id in reversed(held):  # each goes to the head: the first one last
            entry = self._entries[job_id]
            del entry.claims[worker_id]
            entry.deaths += 1
            if entry.claims:
                continue  # another worker computes it as well, and may yet bring it home
            if entry.deaths >= self._max_attempts:
                exhausted.append(entry)
            else:
                self._requeue(entry)
        for job_id in self._sent:
            entry = self._entries[job_id]
            entry.claim_by_s = min(entry.claim_by_s, now_s + ORPHAN_GRACE_S)
        return exhausted

    def reclaim_unclaimed(self, now_s: float) -> int:
        """Take back what nobody claimed in time; returns how many."""
        late = [j for j in self._sent if self._entries[j].claim_by_s <= now_s]
        for job_id in reversed(late):
            self._requeue(self._entries[job_id])
        return len(late)

    def overdue(self, now_s: float) -> list[tuple[Entry, int]]:
        """Jobs that were computed for longer than the deadline, with the worker at fault."""
        return [
            (entry, worker_id)
            for entry in (self._entries[j] for j in self._claimed)
            for worker_id, since_s in entry.claims.items()
            if since_s + self._job_timeout_s <= now_s
        ]

    def _requeue(self, entry: Entry) -> None:
        entry.move(JobState.WAITING)
        self._sent.pop(entry.job_id, None)
        self._claimed.pop(entry.job_id, None)
        self._backlog[entry.job_id] = None
        self._backlog.move_to_end(entry.job_id, last=False)
