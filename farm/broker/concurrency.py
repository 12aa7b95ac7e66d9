"""The `Concurrency`: how many workers should compute at the same time.

A decision without I/O. Ten workers on two cores that compute ten batches at once finish none of
them sooner than two would, and drive each other out of the caches: it costs a fifth of the
throughput. So with a model that computes, no more are given work than the cores carry; with one
that waits (for a GPU, a service, a sleep) as many as it takes to keep the cores busy.
"""

from __future__ import annotations

import math

WEIGHT = 0.04  # of a new measurement: about the last fifty jobs count
SPARE = 1  # so that a core need not wait for the next batch to arrive
LEAST_DEMAND = 0.001
# A worker that takes so many times as long as its jobs should is stopped or hangs; what nobody has
# claimed for so long went to one that is. Neither of them uses a core.
STALLED_FACTOR = 20.0
STALLED_LEAST_S = 0.05
# Of a slow model the factor would be long: while they are not known to be stalled, as many hung
# workers as there are cores hold up all others.
STALLED_MOST_S = 1.0
STALLED_MOST_FACTOR = 3.0


class Concurrency:
    """See the module.

    Args:
        parallel: how many workers can compute at the same time, by this machine's cores.
    """

    def __init__(self, *, parallel: int) -> None:
        self._parallel = parallel
        self._demand: float | None = None  # of one worker, in cores, while it has a job

    def measured(self, demand: float) -> None:
        """A worker used so much of a core while it had a job; 0: it could not measure it."""
        if demand <= 0:
            return
        if self._demand is None:
            self._demand = demand
        else:
            self._demand += WEIGHT * (demand - self._demand)

    @property
    def most(self) -> int | None:
        """How many workers of this machine should have work; None: as many as there are."""
        if self._demand is None:
            return None
        return math.ceil(self._parallel / max(self._demand, LEAST_DEMAND)) + SPARE

    def credit(self, *, idle: int, busy: int, elsewhere: int, stalled: int) -> int:
        """To how many idle workers work may be on its way.

        Args:
            idle: workers without a job.
            busy: workers with one.
            elsewhere: workers on other machines, which use no core of ours.
            stalled: workers and messages that use no core, see above.
        """
        most = self.most
        if most is None:
            return idle
        return max(0, min(idle, most + elsewhere + stalled - busy))


def stalled_after_s(service_s: float | None) -> float:
    """After how long a worker that should need `service_s` for a job is called stalled."""
    known_s = service_s or 0.0
    most_s = max(STALLED_MOST_S, STALLED_MOST_FACTOR * known_s)
    return max(STALLED_LEAST_S, min(STALLED_FACTOR * known_s, most_s))
