"""The `Hatch`: through it the broker's loop hands out its vitals, and shows its pulse.

What the loop owns only the loop may read, so it is asked, and makes them in its turn. However
many ask and how often, it makes them twice a second at most.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.metrics.vitals import Vitals

FRESH_S: Final = 0.5  # so old may they be; Prometheus asks every few seconds at most
PERIOD_S: Final = 60.0  # the longest turn is that of the last one or two of these


class Hatch:
    """See the module. `turn` is the loop's, all else anybody's. Times are monotonic seconds.

    Args:
        wake: ends the loop's waiting.
        clock: tells the time.
    """

    def __init__(
        self, wake: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._wake = wake
        self._clock = clock
        self._changed = threading.Condition()
        self._is_asked = False
        self._vitals: Vitals | None = None
        self._made_s = 0.0
        self._ticked_s: float | None = None
        self._longest_s = self._longest_before_s = 0.0
        self._period_ends_s = 0.0
        self.made = 0  # vitals in all
        self.made_in_s = 0.0  # time of the loop that this took

    def turn(self, now_s: float, make: Callable[[float], Vitals]) -> None:
        """The loop turns; it makes its vitals where somebody waits for them."""
        if self._ticked_s is not None:
            self._longest_s = max(self._longest_s, now_s - self._ticked_s)
        if now_s >= self._period_ends_s:
            self._period_ends_s = now_s + PERIOD_S
            self._longest_before_s, self._longest_s = self._longest_s, 0.0
        self._ticked_s = now_s
        if not self._is_asked:
            return
        vitals = make(now_s)
        done_s = self._clock()
        self.made += 1
        self.made_in_s += done_s - now_s
        with self._changed:
            self._vitals, self._made_s, self._is_asked = vitals, done_s, False
            self._changed.notify_all()

    def give_up(self) -> None:
        """The loop can't make its vitals: not again before somebody asks again."""
        self._is_asked = False

    def ask(self, timeout_s: float) -> Vitals | None:
        """The vitals, half a second old at most when they are asked for.

        Returns:
            None: the loop did not answer in time.
        """
        since_s = self._clock() - FRESH_S

        def are_fresh() -> bool:  # however late this thread wakes up
            return self._vitals is not None and self._made_s > since_s

        with self._changed:
            if are_fresh():
                return self._vitals
            self._is_asked = True
        self._wake()
        with self._changed:
            return self._vitals if self._changed.wait_for(are_fresh, timeout_s) else None

    @property
    def tick_age_s(self) -> float | None:
        """How long ago the loop last turned; None: it never has."""
        ticked_s = self._ticked_s
        return None if ticked_s is None else max(self._clock() - ticked_s, 0.0)

    @property
    def longest_turn_s(self) -> float:
        """The longest time from one turn to the next in the last one to two minutes."""
        return max(self._longest_s, self._longest_before_s)
