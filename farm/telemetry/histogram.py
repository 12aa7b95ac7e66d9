"""A latency histogram of fixed size: logarithmic buckets, quantiles good to 5 %."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

LOWEST_S = 1e-6
HIGHEST_S = 1e4
GROWTH = 1.05  # bucket width: a quantile is at most 5 % too high
_LOG_GROWTH = math.log(GROWTH)
_BUCKETS = math.ceil(math.log(HIGHEST_S / LOWEST_S) / _LOG_GROWTH) + 1
# The upper edges of all but the last bucket, which takes the rest. Searched for, since it is called
# eight times a hole and a logarithm costs twice as much.
_EDGES_S = [LOWEST_S * GROWTH**index for index in range(_BUCKETS - 1)]


@dataclass(slots=True)
class _Counts:
    """One period."""

    buckets: list[int] = field(default_factory=lambda: [0] * _BUCKETS)
    count: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0


class Histogram:
    """Counts durations in seconds; a few kilobytes, whatever it counts."""

    def __init__(self) -> None:
        self._now = _Counts()
        self._before = _Counts()

    def rotate(self) -> None:
        """Begin a new period: from now on only this and the last one are shown."""
        self._before, self._now = self._now, _Counts()

    def add(self, duration_s: float) -> None:
        """Count one duration; negative ones, and what is no number, count as none at all."""
        if not duration_s > 0:
            duration_s = 0.0
        now = self._now
        now.buckets[bisect_left(_EDGES_S, duration_s)] += 1
        now.count += 1
        now.sum_s += duration_s
        if duration_s > now.max_s:  # noqa: PLR1730 - a call costs as much as all of the above
            now.max_s = duration_s

    @property
    def count(self) -> int:
        """How many durations are shown."""
        return self._now.count + self._before.count

    @property
    def max_s(self) -> float:
        """The longest of them."""
        return max(self._now.max_s, self._before.max_s)

    @property
    def sum_s(self) -> float:
        """All of them together."""
        return self._now.sum_s + self._before.sum_s

    def quantile(self, q: float) -> float | None:
        """The upper edge of the bucket that holds the q-quantile; None without any count."""
        if not self.count:
            return None
        rank, seen = max(1, math.ceil(q * self.count)), 0
        for index, pair in enumerate(zip(self._now.buckets, self._before.buckets, strict=True)):
            seen += sum(pair)
            if seen >= rank:
                return min(LOWEST_S * GROWTH**index, self.max_s)
        return self.max_s

    def summary(self) -> dict[str, float | int | None]:
        """Count, mean, p50, p99, p99.9 and maximum, in seconds."""
        return {
            "count": self.count,
            "mean_s": self.sum_s / self.count if self.count else None,
            "p50_s": self.quantile(0.5),
            "p99_s": self.quantile(0.99),
            "p999_s": self.quantile(0.999),
            "max_s": self.max_s if self.count else None,
        }
