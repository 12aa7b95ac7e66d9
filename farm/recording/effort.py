"""The `Effort`: how hard a recorder compresses. A decision without I/O.

A recorder that can't keep up is worse than a large file: brokers drop what a slow listener does not
take. So it compresses less while it is short of time, and more again later.
"""

from __future__ import annotations

from typing import Final

# Level 1 is twice as fast as 6, and 0 costs nothing.
LEVELS: Final = (6, 1, 0)
BUSY: Final = 0.9  # of the time spent on what came, from which on less is done
EASY: Final = 0.3  # up to which more is done: at a third of the speed that is just BUSY
LOOK_S: Final = 1.0


class Effort:
    """See the module."""

    def __init__(self) -> None:
        self._at = 0
        self._busy_s = self._time_s = 0.0

    @property
    def level(self) -> int:
        """Of zlib; 0 for none."""
        return LEVELS[self._at]

    def note(self, *, busy_s: float, waited_s: float) -> None:
        """So long was spent on what came, and so long waiting for more."""
        self._busy_s += busy_s
        self._time_s += busy_s + waited_s
        if self._time_s < LOOK_S:
            return
        share = self._busy_s / self._time_s
        self._busy_s = self._time_s = 0.0
        if share > BUSY:
            self._at = min(self._at + 1, len(LEVELS) - 1)
        elif share < EASY:
            self._at = max(self._at - 1, 0)
