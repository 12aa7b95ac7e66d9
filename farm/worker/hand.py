"""The `Hand`: which jobs a worker has claimed, and whether it takes more of them.

A decision without I/O. A worker without a GPU holds one message and takes the next when it has
answered that. One with a GPU *gathers*: it claims messages while it computes, and what it has got
when it is done with a batch becomes the next one. So nobody waits for a batch to fill, and a batch
is as large as what came meanwhile.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from farm.held import most_held
from farm.slot import MAX_JOBS

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_count(job_ids: Sequence[int]) -> None:
    """Whether a message may have so many jobs.

    Raises:
        ValueError: no broker of this version sends it.
    """
    if not 0 < len(job_ids) <= MAX_JOBS:
        raise ValueError(f"a message has 1 to {MAX_JOBS} jobs, not {len(job_ids)}")


class Hand:
    """See the module.

    Args:
        batch_jobs: the most of one batch of a worker that gathers; 0: it does not.
    """

    def __init__(self, batch_jobs: int = 0) -> None:
        self.gathers = batch_jobs > 0
        self._most = most_held(batch_jobs)
        self._ids: dict[int, None] = {}  # in the order in which they are computed

    def __len__(self) -> int:
        """How many jobs it holds."""
        return len(self._ids)

    @property
    def oldest(self) -> int | None:
        """The job that is to be done before all others; None: it holds none."""
        return next(iter(self._ids), None)

    def takes(self, job_ids: Sequence[int]) -> bool:
        """Whether a message with these jobs is to be claimed; else it is bounced.

        One with a job that it holds already is not: it would compute it twice.
        """
        held = self._ids
        if not held:
            return True
        if not self.gathers or len(held) + len(job_ids) > self._most:
            return False
        return held.keys().isdisjoint(job_ids)

    def take(self, job_ids: Sequence[int]) -> None:
        """These were claimed."""
        self._ids.update(dict.fromkeys(job_ids))

    def done(self, count: int) -> None:
        """So many of them, those that it has held longest, were answered."""
        if not self.gathers:
            self._ids.clear()
            return
        for job_id in list(islice(self._ids, count)):
            del self._ids[job_id]
