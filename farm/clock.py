"""The `WallClock`: UTC that does not jump while somebody sets the machine's clock.

Ages and orders in the journal are differences of UTC. So within a life UTC is monotonic time plus
an offset, which is looked at now and then; a jump is told and taken over at once, a drift silently.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from farm import log

if TYPE_CHECKING:
    from collections.abc import Callable

JUMP_S = 2.0  # no drift of a clock is that fast, between two looks
LOOK_EVERY_S = 10.0


class WallClock:
    """See the module; `read_utc` and `read_monotonic` are for tests."""

    def __init__(
        self,
        read_utc: Callable[[], float] = time.time,
        read_monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_utc = read_utc
        self._read_monotonic = read_monotonic
        self._offset_s = read_utc() - read_monotonic()
        self._next_look_s = read_monotonic() + LOOK_EVERY_S

    def utc(self) -> float:
        """Now, in seconds since 1970."""
        return self._offset_s + self._read_monotonic()

    def at(self, monotonic_s: float) -> float:
        """A moment on the monotonic clock, in seconds since 1970."""
        return self._offset_s + monotonic_s

    def look(self) -> None:
        """Follow the machine's clock; call now and then."""
        now_s = self._read_monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        offset_s = self._read_utc() - now_s
        if abs(jump_s := offset_s - self._offset_s) > JUMP_S:
            log.get().warning("clock_was_set", by_s=round(jump_s, 1))
        self._offset_s = offset_s
