"""The `RestartPolicy`: how long to wait before a failed process is started again, and when to stop.

A decision without I/O. An operator's stop never comes here.
"""

from __future__ import annotations

from collections import deque

# Failures in a row without ever being READY (a wrong model, a missing library): with the default
# back-off about 50 s of trying.
MAX_STILLBORN = 8
# A process that was READY for this long has shown that it can live: what ended it came from outside
# (a hole, an operator, the system) and doesn't count against the slot.
SETTLED_S = 2.0


class RestartPolicy:
    """One per slot. Times are monotonic seconds."""

    def __init__(self, *, initial_s: float, max_s: float, budget: int, window_s: float) -> None:
        self._initial_s = initial_s
        self._max_s = max_s
        self._budget = budget
        self._window_s = window_s
        self._failures_s: deque[float] = deque()
        self._stillborn = 0
        self.restarts = 0

    def failed(self, now_s: float, *, ready_s: float | None) -> float | None:
        """The process ended unasked.

        Args:
            now_s: the time.
            ready_s: how long this incarnation was READY; None: it never came up.

        Returns:
            Seconds to wait before the next start, or None to give up.
        """
        self._stillborn = self._stillborn + 1 if ready_s is None else 0
        if ready_s is None or ready_s < SETTLED_S:
            self._failures_s.append(now_s)
        while self._failures_s and self._failures_s[0] <= now_s - self._window_s:
            self._failures_s.popleft()
        if self._stillborn >= MAX_STILLBORN or len(self._failures_s) > self._budget:
            return None
        self.restarts += 1
        if ready_s is not None and ready_s >= SETTLED_S:
            return 0.0  # it was not the start that failed: to wait would help nobody
        return min(self._initial_s * 2.0 ** max(self._stillborn - 1, 0), self._max_s)

    def kept_from_starting(self) -> float:
        """Something that passes, a full disk, keeps it from starting: it is tried for ever.

        Returns:
            Seconds to wait before the next start.
        """
        self.restarts += 1
        return self._max_s
