"""The `Sequencer`: keeps the answers of one source in the order in which its joins were completed.

Sources don't wait for each other. An answer waits for the earlier ones of its source, but for late
ones no longer than a grace: in an overload the fresh holes are answered in time, and the late ones
come when they come. A backlog that is gone sooner turns no order round. A decision without I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Sequencer(Generic[T]):
    """Holds an outcome (never None) back until all earlier ones of its source are known.

    It holds no more than the joins that are open, which the broker's brake bounds: every ticket is
    settled in the end, since the ledger ends every job. Times are monotonic seconds.

    Args:
        is_late: whether the join of a ticket may be overtaken.
        grace_s: how long an outcome waits for late ones.
    """

    def __init__(
        self, is_late: Callable[[int], bool] = lambda _: False, *, grace_s: float = 0.0
    ) -> None:
        self._is_late = is_late
        self._grace_s = grace_s
        self._open: dict[str, OrderedDict[int, T | None]] = {}
        self._held: dict[str, OrderedDict[int, float]] = {}  # since when, in that order
        self._passed: set[int] = set()  # tickets that have let others pass
        self.overtaken = 0  # joins that were late and let others pass

    @property
    def held(self) -> int:
        """How many outcomes are known and wait for an earlier one."""
        return sum(map(len, self._held.values()))

    def expect(self, source: str, ticket: int) -> None:
        """The next place in the order of this source belongs to `ticket`."""
        self._open.setdefault(source, OrderedDict())[ticket] = None

    def settle(self, source: str, ticket: int, outcome: T, now_s: float) -> list[T]:
        """The outcome of a ticket; returns all outcomes that may go out now, in order."""
        if ticket in self._passed:
            self._passed.remove(ticket)
            return [outcome]
        queue = self._open[source]
        queue[ticket] = outcome
        if next(iter(queue)) == ticket:
            return self._release(source)
        self._held.setdefault(source, OrderedDict())[ticket] = now_s  # for an earlier one
        return []

    def overdue(self, now_s: float) -> list[T]:
        """The outcomes that have waited long enough for late ones. Call it now and then."""
        released: list[T] = []
        for source in list(self._held):
            while held := self._held.get(source):
                ticket, since_s = next(iter(held.items()))
                if now_s - since_s < self._grace_s:
                    break
                more = self._release(source, past_late_to=ticket)
                if not more:
                    break
                released += more
        return released

    def _release(self, source: str, *, past_late_to: int | None = None) -> list[T]:
        """What may go out of one source; with a ticket, late ones before it are passed."""
        queue, held = self._open[source], self._held.get(source)
        released: list[T] = []
        while queue:
            first = next(iter(queue))
            known = queue[first]
            if known is not None:
                released.append(known)
                if held is not None:
                    held.pop(first, None)
            elif past_late_to in queue and self._is_late(first):
                self._passed.add(first)
                self.overtaken += 1
            else:
                break
            del queue[first]
        if not queue:
            del self._open[source]
        if held is not None and not held:
            del self._held[source]
        return released
