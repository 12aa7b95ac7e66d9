"""The `Batching`: how many jobs travel to a worker in one message.

A decision without I/O. Nobody waits for company: a batch is a share of what waits already, so with
idle workers a hole travels alone. A message costs the same for one job as for many, and a network
computes eight holes in less than eight times the time of one; both count when holes queue up.
"""

from __future__ import annotations

import math

# Of a new measurement; about the last fifty jobs count.
WEIGHT = 0.04
# What is computed as one batch is answered as one: that may cost no more than this share of the
# objective, or the first of the batch would pay for the company it is in.
OBJECTIVE_SHARE = 0.1


class Batching:
    """See the module.

    Args:
        most_jobs: of one batch.
        most_bytes: of the payloads of one batch; a single job may have more.
        objective_s: within which holes should be answered.
    """

    def __init__(self, *, most_jobs: int, most_bytes: int, objective_s: float) -> None:
        self._most_jobs = most_jobs
        self.most_bytes = most_bytes
        self._most_s = OBJECTIVE_SHARE * objective_s
        self.service_s: float | None = None  # of one job, about; None: nothing is known yet

    def measured(self, seconds: float) -> None:
        """A worker took so long over one job, read and computed."""
        before_s = self.service_s
        self.service_s = seconds if before_s is None else before_s + WEIGHT * (seconds - before_s)

    def size(self, *, waiting: int, workers: int) -> int:
        """How many jobs the next message may carry, at least 1.

        Args:
            waiting: jobs in the backlog.
            workers: among whom they will be shared: as many as compute at the same time.
        """
        if self.service_s is None:  # the first ones tell what a job takes
            return 1
        in_time = min(self._most_s / max(self.service_s, 1e-9), self._most_jobs)
        return max(1, min(math.ceil(waiting / max(workers, 1)), int(in_time)))

    def share(self, *, waiting: int, workers: int) -> int:
        """As `size`, for workers that gather messages: however long one takes."""
        return max(1, min(math.ceil(waiting / max(workers, 1)), self._most_jobs))
