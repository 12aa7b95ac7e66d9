"""The `Gathering`: whether to wait a moment for more before the next turn of a loop.

A decision without I/O. A turn, or a commit, costs the same for one message as for fifty. With few
of them each gets one of its own, at once; where they come faster than that pays, the next waits
for more of them, a time that they would spend waiting in any case.
"""

from __future__ import annotations

WINDOW_S = 0.05  # over which messages are counted


class Gathering:
    """See the module. Times are monotonic seconds.

    Args:
        busy_hz: with more messages a second than this, turns wait.
        gap_s: then at least so long is between the begins of two turns.
    """

    def __init__(self, *, busy_hz: float, gap_s: float) -> None:
        self._busy_hz = busy_hz
        self._gap_s = gap_s
        self._window_began_s = 0.0
        self._count = 0
        self._last_turn_s = 0.0
        self.is_busy = False

    def came(self, messages: int) -> None:
        """So many came since the last call."""
        self._count += messages

    def pause_s(self, now_s: float) -> float:
        """How long to wait before this turn; call once for each."""
        window_s = now_s - self._window_began_s
        if window_s >= WINDOW_S:
            self.is_busy = self._count > self._busy_hz * window_s
            self._window_began_s, self._count = now_s, 0
        pause_s = max(0.0, self._last_turn_s + self._gap_s - now_s) if self.is_busy else 0.0
        self._last_turn_s = now_s + pause_s
        return pause_s
