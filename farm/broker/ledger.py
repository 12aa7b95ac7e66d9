"""The `Ledger`: owns every job from its pairing to its end, and decides where it is.

A decision without I/O. What is known of a job is its `Entry`, with its states and their legal
transitions; the order of those that wait is the `Backlog`'s. Rules:

* Credit: at most as many unclaimed messages are on the wire as there are idle ready workers. One
  carries a single job, or with a backlog several.
* A bounced job, and a job whose worker died, goes back to the *head* of the backlog.
* A claim may come late, even after the job was sent again: whoever claims computes, and the
  first result wins. Later ones are counted by the caller and suppressed.
* To blame for a worker's death are the jobs that its slot names, claimed or not: a message that was
  sent right before a crash is lost, the slot is not. A claimed job that the slot does not name was
  computed already, or never begun. Where there is no slot, the claims are to blame.
* A job that was blamed for `max_attempts` deaths and that nobody computes is dead. While several
  open jobs are blamed, the model may be at fault, not they: they let others pass.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.broker.backlog import Backlog
from farm.broker.entry import Claimed, JobState

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from farm.broker.entry import Entry

# After a worker's death an unclaimed job that it may have swallowed waits this long for a claim:
# living readers claim or bounce within milliseconds.
ORPHAN_GRACE_S = 0.25


@dataclass(frozen=True, slots=True)
class Loss:
    """What the end of a worker did to jobs."""

    blamed: list[Entry]  # it was computing them, so far as can be known
    exhausted: list[Entry]  # they have now cost `max_attempts` workers; the caller ends them


class Ledger:
    """See the module. Times are monotonic seconds.

    Args:
        claim_timeout_s: what nobody claims for so long is sent again.
        max_attempts: blamed deaths after which a job is given up.
        objective_s: a job that waited longer is late.
        late_share: of so many served while fresh and late ones wait, one is late.
    """

    def __init__(
        self,
        *,
        claim_timeout_s: float,
        max_attempts: int,
        objective_s: float = 1.0,
        late_share: int = 4,
    ) -> None:
        self._claim_timeout_s = claim_timeout_s
        self._max_attempts = max_attempts
        self._entries: dict[int, Entry] = {}
        self._backlog = Backlog(objective_s=objective_s, late_share=late_share)
        self._sent: OrderedDict[int, None] = OrderedDict()
        self._parcels: dict[int, int] = {}  # messages on the wire ▶ how many jobs are unclaimed
        self._last_parcel = 0
        self._claimed: dict[int, None] = {}
        self._hurt: set[int] = set()  # open jobs that were blamed
        self.open_bytes = 0  # of the payloads of open jobs
        self.memory_bytes = 0  # of those of them that are not on disk alone

    def __len__(self) -> int:
        """How many jobs are open."""
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """How many jobs are in the backlog."""
        return len(self._backlog)

    @property
    def late(self) -> int:
        """How many of them have waited longer than the objective, never sent so far."""
        return self._backlog.late

    @property
    def on_wire(self) -> int:
        """How many jobs are sent and unclaimed."""
        return len(self._sent)

    @property
    def parcels(self) -> int:
        """How many messages are on the wire with a job that is unclaimed."""
        return len(self._parcels)

    @property
    def claimed(self) -> int:
        """How many jobs are being computed."""
        return len(self._claimed)

    def entries(self) -> Collection[Entry]:
        """Every open job, oldest first."""
        return self._entries.values()

    def get(self, job_id: int) -> Entry | None:
        """The open job of an id."""
        return self._entries.get(job_id)

    # ---- the way of a job -------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Take a job over; it joins the tail of the backlog."""
        is_heavy = entry.payloads is not None
        self._entries[entry.job_id] = entry
        self._backlog.add(entry.job_id, entry.key[0], entry.queued_s, is_heavy=is_heavy)
        self.open_bytes += entry.payload_bytes
        if is_heavy:
            self.memory_bytes += entry.payload_bytes
        if entry.deaths:
            self._hurt.add(entry.job_id)

    def next_to_send(self, now_s: float, *, idle_workers: int) -> Entry | None:
        """The job whose turn it is, if the credit allows one more message on the wire."""
        if len(self._parcels) >= idle_workers:
            return None
        return self.next_waiting(now_s)

    def next_waiting(self, now_s: float) -> Entry | None:
        """The job whose turn it is, as one more for a message that goes out anyway."""
        job_id = self._backlog.next(now_s)
        return None if job_id is None else self._entries[job_id]

    def sent(self, entry: Entry, now_s: float, *, with_last: bool = False) -> None:
        """The job goes out on the wire, in a message of its own or together with the last one."""
        entry.move(JobState.SENT)
        if not with_last:
            self._last_parcel += 1
        entry.parcel = self._last_parcel
        self._parcels[entry.parcel] = self._parcels.get(entry.parcel, 0) + 1
        entry.sent_s = now_s
        entry.claim_by_s = now_s + self._claim_timeout_s
        entry.sends += 1
        self._backlog.take(entry.job_id)
        self._sent[entry.job_id] = None
        entry.story.note(now_s, "dispatched", f"attempt {entry.sends}" if entry.sends > 1 else "")

    def held_back(self, entry: Entry, now_s: float) -> None:
        """The job did not go out after all: no worker is connected, or it could not be packed."""
        entry.sends -= 1
        self._put_back(entry)
        entry.story.note(now_s, "held back")

    def claim(
        self, job_id: int, worker_id: int, now_s: float, *, who: str = "unnamed", batch: int = 1
    ) -> bool:
        """A worker, called `who`, computes this job now. False: the job has ended already.

        `batch`: how many jobs it computes together, this one among them.
        """
        entry = self._entries.get(job_id)
        if entry is None:
            return False
        self._leave_place(entry)
        entry.move(JobState.CLAIMED)
        self._claimed[job_id] = None
        entry.claims[worker_id] = Claimed(now_s, batch)
        entry.story.note(now_s, "claimed", f"worker {who}")
        return True

    def bounce(self, job_id: int, now_s: float) -> bool:
        """A busy worker sent this job back. False: it is not on the wire any more."""
        entry = self._entries.get(job_id)
        if entry is None or entry.state is not JobState.SENT:
            return False
        self._put_back(entry)
        entry.story.note(now_s, "bounced")
        return True

    def end(self, job_id: int) -> Entry | None:
        """The job is over; the first caller gets it, later ones None."""
        entry = self._entries.pop(job_id, None)
        if entry is None:
            return None
        self._leave_place(entry)
        entry.move(JobState.ENDED)
        self._hurt.discard(job_id)
        self.open_bytes -= entry.payload_bytes
        if entry.payloads is not None:
            self.memory_bytes -= entry.payload_bytes
        return entry

    def stalled(self, now_s: float, after_s: float) -> int:
        """How many messages nobody has claimed for longer."""
        found = set()
        for job_id in self._sent:  # in the order in which they were sent
            entry = self._entries[job_id]
            if now_s - entry.sent_s <= after_s:
                break
            found.add(entry.parcel)
        return len(found)

    def reclaim_unclaimed(self, now_s: float) -> int:
        """Take back what nobody claimed in time; returns how many. Call it now and then."""
        self._backlog.age(now_s)  # while no worker is idle, nobody else does
        late = [j for j in self._sent if self._entries[j].claim_by_s <= now_s]
        for job_id in reversed(late):
            self._put_back(self._entries[job_id])
            self._entries[job_id].story.note(now_s, "unclaimed")
        return len(late)

    # ---- workers ----------------------------------------------------------------------------

    def worker_gone(
        self,
        worker_id: int,
        now_s: float,
        *,
        computing: frozenset[int] | None,
        is_blaming: bool = True,
        who: str = "unnamed",
        cause: str = "",
    ) -> Loss:
        """Give back what a dead or fenced worker held.

        Args:
            worker_id: of the worker.
            now_s: the time.
            computing: the jobs that its slot names; None where there is no slot to read.
            is_blaming: whether a death counts against the job.
            who: the worker's name, for the job's story.
            cause: how it ended, likewise.
        """
        held = [e for e in map(self._entries.__getitem__, self._claimed) if worker_id in e.claims]
        blamed = held if computing is None else self._open_of(computing)
        for entry in blamed if is_blaming else ():
            entry.deaths += 1
            self._hurt.add(entry.job_id)
        guilty = {entry.job_id for entry in blamed}
        lost = {entry.job_id: entry for entry in (*held, *blamed)}
        exhausted = []
        for entry in reversed(lost.values()):  # each goes to the head: the first one last
            entry.claims.pop(worker_id, None)
            is_blamed = entry.job_id in guilty
            death = f": death {entry.deaths} of {self._max_attempts}"
            detail = f"worker {who}, {cause}{death if is_blamed and is_blaming else ''}"
            entry.story.note(now_s, "worker lost", detail)
            if entry.claims:
                continue  # another worker computes it as well, and may yet bring it home
            if entry.deaths >= self._max_attempts:
                exhausted.append(entry)
            else:
                # While nobody is blamed the model is suspected: were the same job tried again and
                # again, one that does kill would keep up the suspicion for ever.
                are_many = len(self._hurt) > 1 or not is_blaming
                self._put_back(entry, is_suspect=is_blamed and are_many)
        self._hasten_claims(now_s + ORPHAN_GRACE_S)
        return Loss(blamed, exhausted[::-1])

    def overdue(self, now_s: float, timeout_s: float) -> list[tuple[Entry, int]]:
        """Jobs that were computed for longer, with the worker at fault.

        `timeout_s` is that of one job: a batch may take it for each of its jobs.
        """
        return [
            (entry, worker_id)
            for entry in (self._entries[j] for j in self._claimed)
            for worker_id, (since_s, batch) in entry.claims.items()
            if since_s + timeout_s * batch <= now_s
        ]

    # ---- too much ---------------------------------------------------------------------------

    def next_to_spill(self, durable: int | None = None) -> Entry | None:
        """The waiting job, with payloads in memory, that will be about the last to be served.

        Args:
            durable: where the journal is on disk; jobs behind it are passed over. None: ask not.
        """
        for job_id in self._backlog.last_to_serve():
            entry = self._entries[job_id]
            if durable is None or entry.position <= durable:
                return entry
        return None

    def spill(self, entry: Entry) -> None:
        """Let go of a waiting job's payloads: they can be had from disk."""
        assert entry.state is JobState.WAITING
        assert entry.payloads is not None
        entry.payloads = None
        self.memory_bytes -= entry.payload_bytes
        self._backlog.spilled(entry.job_id)

    def restore(self, entry: Entry, payloads: Mapping[str, bytes]) -> None:
        """The payloads of an open job are back from disk, since it is about to be sent."""
        assert entry.payloads is None
        payload_bytes = sum(map(len, payloads.values()))
        self.open_bytes += payload_bytes - entry.payload_bytes
        self.memory_bytes += payload_bytes
        entry.payloads, entry.payload_bytes = payloads, payload_bytes
        self._backlog.restored(entry.job_id)

    def shed(self, count: int, *, which: str = "oldest") -> list[Entry]:
        """End this many waiting jobs that were never sent; returns them.

        Args:
            count: how many at most.
            which: "oldest" or "newest" first.
        """
        if count <= 0:
            return []
        pick = {"oldest": self._backlog.oldest, "newest": self._backlog.newest}[which]
        shed: list[Entry] = []
        while len(shed) < count and (job_id := pick()) is not None:
            entry = self.end(job_id)
            assert entry is not None
            shed.append(entry)
        return shed

    # ---- inside -----------------------------------------------------------------------------

    def _open_of(self, job_ids: frozenset[int]) -> list[Entry]:
        return [self._entries[j] for j in sorted(job_ids) if j in self._entries]

    def _hasten_claims(self, latest_s: float) -> None:
        """The dead worker may have swallowed what was sent and is unclaimed."""
        for job_id in self._sent:
            entry = self._entries[job_id]
            entry.claim_by_s = min(entry.claim_by_s, latest_s)

    def _leave_place(self, entry: Entry) -> None:
        match entry.state:
            case JobState.WAITING:
                self._backlog.remove(entry.job_id)
            case JobState.SENT:
                del self._sent[entry.job_id]
                left = self._parcels.pop(entry.parcel) - 1
                if left:
                    self._parcels[entry.parcel] = left
            case JobState.CLAIMED:
                del self._claimed[entry.job_id]

    def _put_back(self, entry: Entry, *, is_suspect: bool = False) -> None:
        self._leave_place(entry)
        if entry.state is not JobState.WAITING:  # else its slot named it before it could be claimed
            entry.move(JobState.WAITING)
        self._backlog.put_back(entry.job_id, is_suspect=is_suspect)
