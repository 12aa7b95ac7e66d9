"""A latency histogram of fixed size: logarithmic buckets, quantiles good to 5 %."""

from __future__ import annotations

import math

LOWEST_S = 1e-6
HIGHEST_S = 1e4
GROWTH = 1.05  # bucket width: a quantile is at most 5 % too high
_LOG_GROWTH = math.log(GROWTH)
_BUCKETS = math.ceil(math.log(HIGHEST_S / LOWEST_S) / _LOG_GROWTH) + 1


class Histogram:
    """Counts durations in seconds; a few kilobytes, whatever it counts."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.sum_s = 0.0
        self.max_s = 0.0

    def add(self, duration_s: float) -> None:
        """Count one duration; negative ones, and what is no number, count as none at all."""
        if not duration_s > 0:
            duration_s = 0.0
        bounded_s = min(max(duration_s, LOWEST_S), HIGHEST_S)
        self._counts[math.ceil(math.log(bounded_s / LOWEST_S) / _LOG_GROWTH)] += 1
        self.count += 1
        self.sum_s += duration_s
        self.max_s = max(self.max_s, duration_s)

    def quantile(self, q: float) -> float | None:
        """The upper edge of the bucket that holds the q-quantile; None without any count."""
        if not self.count:
            return None
        rank, seen = max(1, math.ceil(q * self.count)), 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return min(LOWEST_S * GROWTH**index, self.max_s)
        return self.max_s

    def summary(self) -> dict[str, float | int | None]:
        """Count, mean, p50, p99 and maximum, in seconds."""
        return {
            "count": self.count,
            "mean_s": self.sum_s / self.count if self.count else None,
            "p50_s": self.quantile(0.5),
            "p99_s": self.quantile(0.99),
            "max_s": self.max_s if self.count else None,
        }
