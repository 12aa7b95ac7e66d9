"""The `Rollout`: replaces the workers of a pool one after the other, without a gap.

Each gets a successor first; it leaves when the successor is READY, which includes the check on the
golden hole. A successor that ends before it was READY stops the rollout: the others stay as they
are. A decision without I/O.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from farm.supervisor.pool import SlotState

if TYPE_CHECKING:
    from collections.abc import Collection

    from farm.supervisor.pool import Pool, Slot


class Rollout:
    """See the module.

    Args:
        pool: of the workers.
        names: of the slots to be replaced; None: all.
    """

    def __init__(self, pool: Pool, names: Collection[str] | None = None) -> None:
        self._pool = pool
        self._left = deque(s.name for s in pool.kept if names is None or s.name in names)
        self._old: Slot | None = None
        self._successor: Slot | None = None
        self.replaced: list[str] = []
        self.failure = ""  # how the successor ended that should have replaced a worker

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do."""
        return bool(self.failure) or (self._old is None and not self._left)

    def step(self, now_s: float) -> list[int]:
        """Go on as far as possible; returns the pids of workers that are to leave now."""
        while not self.is_over:
            if self._old is None:
                self._begin(self._left.popleft(), now_s)
            elif self._successor is None:
                if self._old in self._pool.slots:
                    return []  # it is still leaving: two at a time would be a gap
                self._old = None
            elif self._successor.state is SlotState.FAILED:
                self.failure = self._successor.last_end
            elif self._old not in self._pool.kept:
                return self._give_way(self._successor, now_s)
            elif self._successor.state is SlotState.READY:
                if leaving := self._finish(self._old, now_s):
                    return leaving
            else:
                return []
        return []

    def _begin(self, name: str, now_s: float) -> None:
        old = self._pool.named(name)
        if old is None:  # scaled down meanwhile
            return
        if not old.pid:  # there is nothing to replace: what starts next is new anyway
            self._pool.remove(old)
            self._pool.add(name, now_s)
            self.replaced.append(name)
            return
        self._old, self._successor = old, self._pool.add(name, now_s, is_successor=True)

    def _give_way(self, successor: Slot, now_s: float) -> list[int]:
        """Whom it was to replace was scaled away meanwhile: so is it."""
        self._old = self._successor = None
        successor.is_successor = False
        return self._pool.retire(successor, now_s)

    def _finish(self, old: Slot, now_s: float) -> list[int]:
        assert self._successor is not None
        self._successor.is_successor = False
        self._successor = None
        self.replaced.append(old.name)
        return self._pool.retire(old, now_s)
