"""The `Faults`: which workers are to be fenced, and by which deadlines.

A decision without I/O. Those with a GPU have a deadline of their own, of a batch instead of a job:
a hole's share of it is so small that it says nothing of a worker without one, nor of the next
batch, which may be a single hole and take as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker import holding
from farm.broker.deadline import Deadline
from farm.held import most_held

if TYPE_CHECKING:
    from farm.broker.ledger import Ledger
    from farm.broker.roster import Roster, Worker
    from farm.config import Config


class Faults:
    """See the module. Times are monotonic seconds.

    Args:
        config: all of it.
        roster: of the workers.
        ledger: of the jobs.
    """

    def __init__(self, config: Config, roster: Roster, ledger: Ledger) -> None:
        dispatch = config.dispatch
        self._roster = roster
        self._ledger = ledger
        self._memory_limit_bytes = config.workers.memory_limit_bytes
        self._job_timeout_s = dispatch.job_timeout_s
        self.deadline = Deadline(
            ceiling_s=dispatch.job_timeout_s,
            floor_s=dispatch.job_timeout_floor_s,
            factor=dispatch.job_timeout_factor,
        )
        self.call_deadline = Deadline(  # of a batch of those that gather
            ceiling_s=dispatch.job_timeout_s * holding.patience(most_held(dispatch.gpu_batch_jobs)),
            floor_s=dispatch.job_timeout_floor_s,
            factor=dispatch.job_timeout_factor,
        )

    @property
    def timeout_s(self) -> float:
        """How long a job may take now; where all workers gather, how long a batch of theirs."""
        gathering = self._roster.gathering
        is_for_all = gathering and len(gathering) == self._roster.ready
        return (self.call_deadline if is_for_all else self.deadline).timeout_s

    def faulty(self, now_s: float) -> list[tuple[Worker, str]]:
        """The workers to fence now, each once, with the cause in words."""
        roster = self._roster
        found: dict[int, tuple[Worker, str]] = {}
        for worker in roster.silent(now_s):
            cause = f"silent for {now_s - worker.heard_s:.1f} s"
            found[worker.worker_id] = (worker, cause)
        timeout_s = self.deadline.timeout_s
        limit = f"over {timeout_s:.3g} s on"
        calls_s = holding.call_limits_s(
            roster.all(),
            call_timeout_s=self.call_deadline.timeout_s,
            job_timeout_s=self._job_timeout_s,
        )
        for entry, worker_id in self._ledger.overdue(now_s, timeout_s):
            if worker_id not in calls_s and (at_fault := roster.get(worker_id)):
                cause = f"{limit} {'/'.join(entry.key)}; see dispatch.job_timeout_s and _factor"
                found.setdefault(worker_id, (at_fault, cause))
        for worker in roster.stuck(now_s, timeout_s, calls_s):
            cause = f"{limit} a hole that another worker has answered"
            if call_s := calls_s.get(worker.worker_id):
                cause = f"over {call_s:.3g} s on a batch; see dispatch.job_timeout_s and _factor"
            found.setdefault(worker.worker_id, (worker, cause))
        limit_bytes = self._memory_limit_bytes
        for worker in roster.over_memory(limit_bytes):
            cause = (
                f"{worker.rss_bytes / 1e6:.0f} MB of memory, over workers.memory_limit_bytes "
                f"({limit_bytes / 1e6:.0f} MB)"
            )
            found.setdefault(worker.worker_id, (worker, cause))
        return list(found.values())
