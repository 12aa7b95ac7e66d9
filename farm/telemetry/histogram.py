"""A latency histogram of fixed size: logarithmic buckets, quantiles good to 5 %.

It shows the last one or two periods, for people; `cumulative` counts all there ever was, for those
who take differences themselves.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from operator import add
from typing import NamedTuple

LOWEST_S = 1e-6
HIGHEST_S = 1e4
GROWTH = 1.05  # most of a bucket's width: a quantile is at most 5 % too high
_PER_DECADE = 50
# In each decade the 15th edge is 1.995 and the 35th 5.012. They are made 2 and 5: so a bucket ends
# where people ask ("how many took more than 0.2 s?"), and no other is wider than GROWTH.
_ROUND = {0: 1, 15: 2, 35: 5}
_LOWEST_POWER, _HIGHEST_POWER = -6, 4  # of LOWEST_S and HIGHEST_S


def _edge_s(index: int) -> float:
    decade, place = divmod(index, _PER_DECADE)
    power = _LOWEST_POWER + decade
    if place in _ROUND:
        return float(f"{_ROUND[place]}e{power}")  # 0.2, and not what a product makes of it
    return 10 ** (power + place / _PER_DECADE)


# The upper edges of all but the last bucket, which takes the rest. Searched for, since it is called
# eight times a hole and a logarithm costs twice as much.
_EDGES_S = [_edge_s(n) for n in range((_HIGHEST_POWER - _LOWEST_POWER) * _PER_DECADE + 1)]
_BUCKETS = len(_EDGES_S) + 1
LIMITS_S = tuple(
    edge_s
    for index, edge_s in enumerate(_EDGES_S)
    if index % _PER_DECADE in _ROUND and 1e-4 <= edge_s <= 1e3
)
"""Up to where `cumulative` counts, in seconds: 0.1 ms, 0.2, 0.5, 1 … 1000 s."""
_LIMITS_AT = tuple(_EDGES_S.index(limit_s) for limit_s in LIMITS_S)


class Cumulative(NamedTuple):
    """All that a histogram ever counted: up to each of LIMITS_S, in all, and their sum."""

    up_to: tuple[int, ...]
    total: int
    sum_s: float


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
        self._past = _Counts()  # all that is not shown any more

    def rotate(self) -> None:
        """Begin a new period: from now on only this and the last one are shown."""
        past, gone = self._past, self._before
        past.buckets = list(map(add, past.buckets, gone.buckets))
        past.sum_s += gone.sum_s
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
                return min(_EDGES_S[index], self.max_s) if index < len(_EDGES_S) else self.max_s
        return self.max_s

    def cumulative(self) -> Cumulative:
        """What was counted since the beginning.

        May be called from another thread than `add`, but not beside `rotate`.
        """
        past, before, now = self._past, self._before, self._now
        counts = map(add, map(add, past.buckets, before.buckets), now.buckets)
        up_to = list(accumulate(counts))
        sum_s = past.sum_s + before.sum_s + now.sum_s
        return Cumulative(tuple(up_to[at] for at in _LIMITS_AT), up_to[-1], sum_s)

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
