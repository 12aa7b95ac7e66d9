"""The `Turns`: how soon the broker's loop may turn again.

A decision without I/O. A turn costs the same for one message as for fifty. With little to do each
message gets a turn of its own, at once; where they come faster than that pays, a turn waits a moment
for more of them, which they would spend waiting in any case.
"""

from __future__ import annotations

WINDOW_S = 0.05  # over which turns are counted
BUSY_HZ = 1200.0  # so many turns a second are too many: at 100 holes/s there are 700
GAP_S = 0.002  # then between the begins of two turns
IDLE_SHARE = 0.7  # of the turns that are possible with gaps: with fewer the rush is over


class Turns:
    """See the module. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._window_began_s = 0.0
        self._count = 0
        self._last_s = 0.0
        self.is_busy = False

    def pause_s(self, now_s: float) -> float:
        """How long to wait before this turn; call once for each."""
        window_s = now_s - self._window_began_s
        if window_s >= WINDOW_S:
            least_hz = IDLE_SHARE / GAP_S if self.is_busy else BUSY_HZ
            self.is_busy = self._count / window_s > least_hz
            self._window_began_s, self._count = now_s, 0
        self._count += 1
        pause_s = max(0.0, self._last_s + GAP_S - now_s) if self.is_busy else 0.0
        self._last_s = now_s + pause_s
        return pause_s
