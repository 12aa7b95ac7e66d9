"""The `Breaker`: when many different jobs end their workers, the model is bad, not the jobs.

A decision without I/O. Closed, it counts. Open, nothing is sent and nobody is blamed: else a bad
model would turn every hole of the shift into a dead letter, three workers each. After a pause one
job is tried; a result closes the breaker, another kill opens it for longer.

A few poisoned jobs among many good ones never open it: those that killed must be at least as many
as those that came home.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from enum import Enum

MAX_PAUSES = 10.0  # the pause doubles with each failed probe, up to so many times the first
# Whoever came home before these many counts no more. The comparison is with jobs that killed, and
# each of those takes the start of a worker: no farm gets through so many in a window.
MAX_HOMES = 10_000


class BreakerState(Enum):
    """Whether jobs are sent."""

    CLOSED = "closed"  # all is well: jobs are sent, and blamed for the workers they end
    OPEN = "open"  # nothing is sent
    PROBING = "probing"  # one job is tried


LEGAL: dict[BreakerState, frozenset[BreakerState]] = {
    BreakerState.CLOSED: frozenset({BreakerState.OPEN}),
    BreakerState.OPEN: frozenset({BreakerState.PROBING}),
    BreakerState.PROBING: frozenset({BreakerState.CLOSED, BreakerState.OPEN}),
}


class Breaker:
    """See the module. Times are monotonic seconds.

    Args:
        kills: so many different jobs must have ended workers.
        window_s: how far back kills and results count.
        pause_s: how long nothing is sent, the first time.
    """

    def __init__(self, *, kills: int, window_s: float, pause_s: float) -> None:
        self._kills = kills
        self._window_s = window_s
        self._first_pause_s = pause_s
        self.state = BreakerState.CLOSED
        self._killed: OrderedDict[int, float] = OrderedDict()  # job ▶ its last kill, oldest first
        self._homes: deque[float] = deque(maxlen=MAX_HOMES)
        self._failed_probes = 0
        self._probe_at_s = 0.0
        self._why = ""

    @property
    def is_blaming(self) -> bool:
        """Whether a kill counts against the job."""
        return self.state is BreakerState.CLOSED

    @property
    def reason(self) -> str:
        """Why nothing is sent, and what to do, as a sentence; empty while closed."""
        if self.state is BreakerState.CLOSED:
            return ""
        doing = (
            "one hole is being tried"
            if self.state is BreakerState.PROBING
            else f"nothing is sent for {self._pause_s:g} s, then one hole is tried"
        )
        return (
            f"the model is suspected: {self._why}; {doing} ({self._failed_probes} tries failed): "
            "read the workers' ends in the log, and mend or replace the model"
        )

    def killed(self, job_id: int, now_s: float) -> None:
        """A worker ended while it computed this job."""
        self._killed[job_id] = now_s
        self._killed.move_to_end(job_id)
        self._forget(now_s)
        if self.state is BreakerState.PROBING:
            self._failed_probes += 1
            self._open(now_s)
        elif self.state is BreakerState.CLOSED:
            kills, homes = len(self._killed), len(self._homes)
            if kills >= max(self._kills, homes):
                self._why = (
                    f"{kills} different holes ended their workers within {self._window_s:g} s, "
                    f"while {homes} came home"
                )
                self._open(now_s)

    def came_home(self, job_id: int, now_s: float) -> None:
        """A worker computed this job to its end, whatever the result."""
        self._killed.pop(job_id, None)  # the model can do it: not it ended the worker before
        self._homes.append(now_s)
        if self.state is BreakerState.PROBING:
            self._move(BreakerState.CLOSED)
            self._killed.clear()  # what is counted is counted anew
            self._homes.clear()
            self._failed_probes = 0

    def allows(self, now_s: float, *, open_on_workers: int) -> bool:
        """Whether a job may be sent now.

        Args:
            now_s: the time.
            open_on_workers: how many jobs are on the wire or being computed.
        """
        if self.state is BreakerState.OPEN and now_s >= self._probe_at_s:
            self._move(BreakerState.PROBING)
        match self.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return False
            case BreakerState.PROBING:
                return open_on_workers == 0

    @property
    def _pause_s(self) -> float:
        # the power is bounded as well: a farm may be left alone with a bad model for days
        doubled: float = 2.0 ** min(self._failed_probes, MAX_PAUSES)
        return self._first_pause_s * min(doubled, MAX_PAUSES)

    def _open(self, now_s: float) -> None:
        self._move(BreakerState.OPEN)
        self._probe_at_s = now_s + self._pause_s

    def _move(self, state: BreakerState) -> None:
        if state not in LEGAL[self.state]:
            raise AssertionError(f"breaker: {self.state} ▶ {state}")
        self.state = state

    def _forget(self, now_s: float) -> None:
        """Drop what the window does not show any more."""
        while self._killed and next(iter(self._killed.values())) < now_s - self._window_s:
            self._killed.popitem(last=False)
        while self._homes and self._homes[0] < now_s - self._window_s:
            self._homes.popleft()
