"""The `Sequencer`: keeps the answers of one source in the order in which its joins were completed.

Sources don't wait for each other. A join that is late lets the ones behind it pass, for good: in an
overload the fresh ones are answered in time, and it comes when it comes. A decision without I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def _never(_ticket: int) -> bool:
    return False


class Sequencer(Generic[T]):
    """Holds an outcome (never None) back until all earlier ones of its source are known.

    It holds no more than the joins that are open, which the broker's brake bounds: every ticket is
    settled in the end, since the ledger ends every job.

    Args:
        is_late: whether the join of a ticket must not hold up others any more.
    """

    def __init__(self, is_late: Callable[[int], bool] = _never) -> None:
        self._is_late = is_late
        self._open: dict[str, OrderedDict[int, T | None]] = {}
        self._passed: set[int] = set()  # tickets that have let others pass
        self.held = 0  # outcomes that are known and wait for an earlier one
        self.overtaken = 0  # joins that were late and let others pass

    def expect(self, source: str, ticket: int) -> None:
        """The next place in the order of this source belongs to `ticket`."""
        self._open.setdefault(source, OrderedDict())[ticket] = None

    def settle(self, source: str, ticket: int, outcome: T) -> list[T]:
        """The outcome of a ticket; returns all outcomes that may go out now, in order."""
        if ticket in self._passed:
            self._passed.remove(ticket)
            return [outcome]
        queue = self._open[source]
        queue[ticket] = outcome
        self.held += 1
        released: list[T] = []
        while queue:
            first = next(iter(queue))
            known = queue[first]
            if known is not None:
                released.append(known)
            elif self._is_late(first):
                self._passed.add(first)
                self.overtaken += 1
            else:
                break
            del queue[first]
        if not queue:
            del self._open[source]
        self.held -= len(released)
        return released
