"""The `Entry`: one job of the ledger, with its state and its history.

The states' legal transitions stand in one table; when to move is the `Ledger`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from farm.broker.story import Story

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farm.broker.buffer import Key


class JobState(Enum):
    """Where a job is."""

    WAITING = "waiting"  # in the backlog
    SENT = "sent"  # on the wire, claimed by nobody yet
    CLAIMED = "claimed"  # being computed
    ENDED = "ended"  # its first result came, or it was given up

    __hash__ = object.__hash__  # Enum's own is a Python function, and each move of a job asks twice


LEGAL: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.SENT, JobState.CLAIMED, JobState.ENDED}),
    JobState.SENT: frozenset({JobState.WAITING, JobState.CLAIMED, JobState.ENDED}),
    JobState.CLAIMED: frozenset({JobState.WAITING, JobState.CLAIMED, JobState.ENDED}),
    JobState.ENDED: frozenset(),
}


class Claimed(NamedTuple):
    """Since when a worker computes a job, and how many jobs with it, as one batch."""

    since_s: float
    batch: int


@dataclass(slots=True)
class Entry:
    """One job and its history. Times are monotonic seconds."""

    job_id: int
    key: Key
    payloads: Mapping[str, bytes] | None  # by kind; None: they wait on disk
    payload_bytes: int  # of them all, wherever they are
    first_s: float  # arrival of the first part
    last_s: float  # arrival of the last part
    queued_s: float
    messages: Mapping[str, int] = field(default_factory=dict)  # journal ids of the parts, by kind
    story: Story = field(default_factory=lambda: Story(0.0, 0.0))
    ticket: int = 0  # what a worker of another host must show for it
    position: int = 0  # of its record in the journal: once that is on disk, its messages are
    state: JobState = JobState.WAITING
    sent_s: float = 0.0
    claim_by_s: float = 0.0
    sends: int = 0
    deaths: int = 0  # workers that ended, by death or fencing, while they computed it
    parcel: int = 0  # the message that it was sent in
    is_unfit: bool = False  # a batch with it could not be packed
    claims: dict[int, Claimed] = field(default_factory=dict)  # by worker id

    @property
    def is_alone(self) -> bool:
        """Whether it must travel alone, never in a batch: it was blamed for a worker's death, and
        a second one must not cost the jobs beside it an attempt, nor leave it in doubt who it was.
        """
        return self.deaths > 0 or self.is_unfit

    def move(self, state: JobState) -> None:
        """Change the state, along the table only."""
        if state not in LEGAL[self.state]:
            raise AssertionError(f"job {self.job_id}: {self.state} ▶ {state}")
        self.state = state
