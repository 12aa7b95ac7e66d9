"""The `Sequencer`: keeps the answers of one source in the order in which its joins were completed.

Sources don't wait for each other. A decision without I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Sequencer(Generic[T]):
    """Holds an outcome (never None) back until all earlier ones of its source are known.

    It holds no more than the joins that are open, which the broker's brake bounds: every ticket is
    settled in the end, since the ledger ends every job.
    """

    def __init__(self) -> None:
        self._open: dict[str, OrderedDict[int, T | None]] = {}
        self.held = 0  # outcomes that are known and wait for an earlier one

    def expect(self, source: str, ticket: int) -> None:
        """The next place in the order of this source belongs to `ticket`."""
        self._open.setdefault(source, OrderedDict())[ticket] = None

    def settle(self, source: str, ticket: int, outcome: T) -> list[T]:
        """The outcome of a ticket; returns all outcomes that may go out now, in order."""
        queue = self._open[source]
        queue[ticket] = outcome
        self.held += 1
        released: list[T] = []
        while queue:
            first = next(iter(queue))
            known = queue[first]
            if known is None:
                break
            del queue[first]
            released.append(known)
        if not queue:
            del self._open[source]
        self.held -= len(released)
        return released
