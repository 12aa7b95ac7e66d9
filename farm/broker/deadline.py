"""The `Deadline`: how long one job may be computed, learned from those before it.

A decision without I/O. The configured limit must fit the slowest model on the slowest machine, so
with a fast one a hung worker would hold its hole for a thousand times as long as a hole takes. Once
enough jobs were measured, a multiple of what nearly all of them take is the limit.
"""

from __future__ import annotations

from farm.telemetry.histogram import Histogram

RECHECK_JOBS = 50  # so many must be measured first, and again before the limit changes
PERIOD_JOBS = 1000  # it looks back on one to two of these: a model's habits change with the traffic
QUANTILE = 0.99


class Deadline:
    """See the module. All times are seconds.

    Args:
        ceiling_s: the limit at first, and at most.
        floor_s: the limit at least, where that is below the ceiling.
        factor: times the 0.99 quantile of the measured is the limit in between.
    """

    def __init__(self, *, ceiling_s: float, floor_s: float, factor: float) -> None:
        self._ceiling_s = ceiling_s
        self._floor_s = min(floor_s, ceiling_s)
        self._factor = factor
        self._recent = Histogram()
        self._jobs = 0
        self._timeout_s = ceiling_s

    @property
    def timeout_s(self) -> float:
        """How long a job may take now."""
        return self._timeout_s

    def measured(self, seconds: float) -> None:
        """A job took so long."""
        self._recent.add(seconds)
        self._jobs += 1
        if self._jobs % RECHECK_JOBS == 0:  # a quantile costs too much for every look at the limit
            quantile_s = self._recent.quantile(QUANTILE) or 0.0
            limit_s = max(self._factor * quantile_s, self._floor_s)
            self._timeout_s = min(limit_s, self._ceiling_s)
        if self._jobs % PERIOD_JOBS == 0:
            self._recent.rotate()
