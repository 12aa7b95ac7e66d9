"""The `ThroughputMonitor`: holes in against holes out, and whether the farm keeps up.

A decision without I/O. It counts holes, never messages: three messages are one hole.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum

BUCKET_S = 1.0


class Pace(Enum):
    """Whether the farm keeps up."""

    HEALTHY = "HEALTHY"
    FALLING_BEHIND = "FALLING_BEHIND"


@dataclass(frozen=True, slots=True)
class Throughput:
    """One assessment. Rates are holes per second over the window."""

    arrival_rate: float
    processing_rate: float
    backlog: int
    drain_s: float | None  # time to work the backlog off; None: it does not shrink
    pace: Pace


class _Rate:
    """Events per second over a sliding window of one-second buckets."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._buckets: deque[list[float]] = deque()  # [start, count]
        self.total = 0

    def add(self, now_s: float) -> None:
        self.total += 1
        if not self._buckets or now_s - self._buckets[-1][0] >= BUCKET_S:
            self._buckets.append([now_s, 0])
        self._buckets[-1][1] += 1

    def read(self, now_s: float, since_s: float) -> float:
        while self._buckets and self._buckets[0][0] <= now_s - self._window_s:
            self._buckets.popleft()
        elapsed_s = min(self._window_s, max(now_s - since_s, BUCKET_S))
        return sum(count for _, count in self._buckets) / elapsed_s


class ThroughputMonitor:
    """Falling behind: less than the healthy ratio of the holes that arrive is processed, or none at
    all is, while holes wait.

    Holes that are on a worker right now are no backlog: a farm that has just taken up the first
    hole of the day is not behind.
    """

    def __init__(self, *, healthy_ratio: float, window_s: float, started_s: float) -> None:
        self._healthy_ratio = healthy_ratio
        self._started_s = started_s
        self._arrivals = _Rate(window_s)
        self._processed = _Rate(window_s)

    @property
    def arrived_total(self) -> int:
        """Holes that arrived since the start."""
        return self._arrivals.total

    @property
    def processed_total(self) -> int:
        """Holes that reached their end since the start."""
        return self._processed.total

    def arrived(self, now_s: float) -> None:
        """A hole is complete, or was given up incomplete."""
        self._arrivals.add(now_s)

    def processed(self, now_s: float) -> None:
        """A hole reached its terminal state."""
        self._processed.add(now_s)

    def assess(self, now_s: float, *, waiting: int) -> Throughput:
        """The state now; `waiting` holes are neither on a worker nor answered."""
        arrival = self._arrivals.read(now_s, self._started_s)
        processing = self._processed.read(now_s, self._started_s)
        too_slow = processing < self._healthy_ratio * arrival or processing == 0
        behind = waiting > 0 and too_slow
        shrinking = processing - arrival
        drain_s = 0.0 if waiting == 0 else (waiting / shrinking if shrinking > 0 else None)
        pace = Pace.FALLING_BEHIND if behind else Pace.HEALTHY
        return Throughput(arrival, processing, waiting, drain_s, pace)
