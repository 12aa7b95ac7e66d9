"""The `RollCall`: which partitions live, for who is about to change their number.

Hears marks on another thread, and judges whether a cut can be made.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from farm.broker.group import Phase
from farm.broker.members import as_dict
from farm.errors import FarmError

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_S = 0.05
LIVE_BEATS = 2
_NEEDED = {"token", "beat", "phase", "count", "configured", "prepared", "cut"}

Mark = dict[str, Any]


class RollCall:
    """The partitions that live, by their marks. `heard` is called on another thread."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._lock = threading.Lock()
        self._marks: dict[int, Mark] = {}
        self._beats: dict[tuple[int, str], set[int]] = {}
        self._seen: dict[int, list[Mark]] = {}

    def heard(self, topic: str, payload: bytes) -> None:
        """A mark came."""
        mark, number = as_dict(payload), topic.removeprefix(self.prefix)
        if not number.isdecimal() or not mark.keys() >= _NEEDED:
            return
        index = int(number)
        with self._lock:
            self._marks[index] = mark
            self._beats.setdefault((index, str(mark["token"])), set()).add(mark["beat"])
            self._seen.setdefault(index, []).append(mark)

    def plan(self) -> tuple[int, int]:
        """How many are in force, and how many there will be.

        Raises:
            FarmError: it can't be done; the message says why.
        """
        live = self._live()
        before = _in_force({i: m for i, m in live.items() if m["phase"] == Phase.IN_FORCE.value})
        added = {i: m for i, m in live.items() if m["phase"] == Phase.JOINING.value}
        for index, mark in live.items():
            if mark["phase"] not in (Phase.IN_FORCE.value, Phase.JOINING.value):
                raise FarmError(f"partition {index} is {mark['phase']}: see its `farm stats`")
        return before, _in_addition(added, before)

    def _live(self) -> dict[int, Mark]:
        """The newest mark of each whose beat goes on."""
        live: dict[int, Mark] = {}
        with self._lock:
            for (index, _), beats in self._beats.items():
                if len(beats) < LIVE_BEATS:
                    continue  # a retained mark alone may be of one long gone
                if index in live:
                    raise FarmError(f"partition {index} runs twice: end one of them")
                live[index] = self._marks[index]
        return live

    def wait(self, check: Callable[[Mark], bool], count: int, timeout_s: float) -> bool:
        """Until a mark of each of `count` partitions has passed a check; False: not in time."""
        deadline_s = time.monotonic() + timeout_s
        while self._failing(check, count):
            if time.monotonic() > deadline_s:
                return False
            time.sleep(POLL_S)
        return True

    def without(self, check: Callable[[Mark], bool], count: int) -> str:
        """Those of which none has."""
        return _listed(self._failing(check, count))

    def _failing(self, check: Callable[[Mark], bool], count: int) -> list[int]:
        with self._lock:
            return [i for i in range(count) if not any(map(check, self._seen.get(i, ())))]


def _in_force(serving: dict[int, Mark]) -> int:
    """How many there are, where all of them live and agree."""
    counts = {mark["count"] for mark in serving.values()}
    if not counts:
        raise FarmError("no partition of this group is in force: is partition.group right?")
    if len(counts) > 1:
        raise FarmError(f"the partitions disagree on their number: {sorted(counts)}")
    [count] = counts
    if missing := [i for i in range(count) if i not in serving]:
        raise FarmError(f"partition {_listed(missing)} does not live: start it first")
    return int(count)


def _in_addition(added: dict[int, Mark], before: int) -> int:
    """How many there will be, where all that are added live and agree."""
    if not added:
        raise FarmError(
            f"no partition waits to be added to the {before} in force: start it with its own "
            f"--state-dir, partition.count {before + 1} and partition.index {before}"
        )
    after = max(added) + 1
    if missing := [i for i in range(before, after) if i not in added]:
        raise FarmError(f"partition {_listed(missing)} of {after} does not live: start it first")
    for index, mark in added.items():
        if mark["configured"] != after:
            raise FarmError(
                f"partition {index} has partition.count {mark['configured']}, and {after} would be "
                "there: give all that are added the same"
            )
    return after


def _listed(numbers: list[int]) -> str:
    return " and ".join(map(str, numbers))
