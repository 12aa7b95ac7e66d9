"""When holes go out: as soon as there is room, or on a schedule that waits for nobody.

Without clocks and sockets: told the time and how many holes are in flight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pace(Protocol):
    """How many holes go out when."""

    def due(self, now_s: float, in_flight: int) -> int:
        """How many to publish now; who asks does publish them."""
        ...

    def wait_s(self, now_s: float) -> float:
        """In how many seconds to ask again, should nothing else happen."""
        ...

    @property
    def max_late_s(self) -> float:
        """How late a hole was at worst."""
        ...


class ClosedPace:
    """Keeps so many holes in flight: each that is answered makes room for one."""

    max_late_s = 0.0

    def __init__(self, in_flight: int) -> None:
        self._wanted = in_flight

    def due(self, now_s: float, in_flight: int) -> int:
        """See `Pace`."""
        del now_s
        return max(0, self._wanted - in_flight)

    def wait_s(self, now_s: float) -> float:
        """See `Pace`: only an answer makes room."""
        del now_s
        return float("inf")


class OpenPace:
    """Follows a schedule, one hole at a time, so that each goes out when it is due.

    Args:
        arrivals: when each hole is due, in seconds from the start; without end.
        start_s: monotonic.
    """

    def __init__(self, arrivals: Iterator[float], start_s: float) -> None:
        self._arrivals = arrivals
        self._start_s = start_s
        self._next_s = start_s + next(arrivals)
        self.max_late_s = 0.0

    def due(self, now_s: float, in_flight: int) -> int:
        """See `Pace`."""
        del in_flight
        if now_s < self._next_s:
            return 0
        self.max_late_s = max(self.max_late_s, now_s - self._next_s)
        self._next_s = self._start_s + next(self._arrivals)
        return 1

    def wait_s(self, now_s: float) -> float:
        """See `Pace`."""
        return max(0.0, self._next_s - now_s)
