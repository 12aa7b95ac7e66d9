"""The `History`: how the last minutes went, for the curves of `farm stats`.

A decision without I/O: a ring of samples, so that a view that is opened now shows what led here.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

PERIOD_S = 2.0
SAMPLES = 150  # five minutes
DIGITS = 4


class Totals(NamedTuple):
    """What only grows, at a time; the rates are differences of these."""

    arrived: int
    ended: int
    dead: int


class Sample(NamedTuple):
    """One period."""

    arrived_hz: float
    ended_hz: float
    dead_hz: float
    backlog: int
    busy: float  # workers, on average
    slowest_s: float  # of the holes that ended, from last part to PUBACK


class History:
    """See the module. Times are monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._began_s = now_s
        self._before = Totals(0, 0, 0)
        self._slowest_s = 0.0
        self._busy_sum = self._looks = 0

    def ended(self, latency_s: float) -> None:
        """A hole took so long."""
        if latency_s > self._slowest_s:  # noqa: PLR1730 - a call costs as much as all of this
            self._slowest_s = latency_s

    def look(self, now_s: float, *, busy: int) -> bool:
        """See how many workers are busy; whether the period is over. Call it many times in one."""
        self._busy_sum += busy
        self._looks += 1
        return now_s - self._began_s >= PERIOD_S

    def close(self, now_s: float, totals: Totals, *, backlog: int) -> None:
        """The period is over. One that took too long, since the process was stopped, is several."""
        elapsed_s = max(now_s - self._began_s, 1e-6)
        before = self._before
        sample = Sample(
            (totals.arrived - before.arrived) / elapsed_s,
            (totals.ended - before.ended) / elapsed_s,
            (totals.dead - before.dead) / elapsed_s,
            backlog,
            self._busy_sum / self._looks if self._looks else 0.0,
            self._slowest_s,
        )
        periods = min(max(int(elapsed_s / PERIOD_S), 1), SAMPLES)
        self._samples.extend([sample] * periods)
        self._began_s, self._before = now_s, totals
        self._slowest_s, self._busy_sum, self._looks = 0.0, 0, 0

    def snapshot(self) -> dict[str, Any]:
        """Each quantity as a list, oldest first, all of the same length."""
        columns = zip(Sample._fields, zip(*self._samples, strict=True), strict=False)
        empty: dict[str, list[float]] = {name: [] for name in Sample._fields}
        told = {name: [float(f"{x:.{DIGITS}g}") for x in values] for name, values in columns}
        return {"period_s": PERIOD_S, **(told or empty)}
