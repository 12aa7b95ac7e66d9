"""The `Scaler`: how many local workers there should be, by what arrives and how long it takes.

A decision without I/O. Little's law says how many workers are busy on average; what waits needs
some more for a while. It adds at once and takes away slowly: a worker too many costs little, one
too few costs every hole its wait, and each start costs seconds of a core.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from farm.cores import cores

if TYPE_CHECKING:
    from farm.config import Config

UTILISATION: Final = 0.7
"""Share of their time for which workers should be busy: at 0.9 holes wait ten times as long."""

CATCH_UP_S: Final = 10.0
"""Seconds in which what waits should be worked off."""

LOOK_EVERY_S: Final = 1.0
"""Looks that come sooner are none: the same holes would be counted as two steady looks."""

STEADY_LOOKS: Final = 2
"""In so many looks, one after the other, a need must show before workers are added."""

SETTLE_S: Final = 15.0
"""Seconds for which added workers are waited for: while they load, what waits says nothing new. One
that doesn't come up is not waited for longer."""

COOL_DOWN_S: Final = 60.0
"""The highest need of so many seconds is what workers are kept for: bursts that come again within
them take none away."""

STEP_DOWN_S: Final = 10.0
"""Seconds between two workers that are taken away."""

BAND: Final = 0.8
"""Workers are taken away only if those left have this share to do of what would add one again."""


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do.

    Attributes:
        arrival_rate: holes per second.
        backlog: holes that wait for a worker.
        service_s: mean seconds for which a worker is busy with a hole; None: none was lately.
        ready: local workers that are READY.
        elsewhere: workers of other machines that are READY; they take their part.
    """

    arrival_rate: float
    backlog: int
    service_s: float | None
    ready: int
    elsewhere: int = 0

    @property
    def need(self) -> float:
        """How many local workers would do, as a fraction; never less than 0."""
        if self.service_s is None:
            return 0.0
        holes_per_s = self.arrival_rate / UTILISATION + self.backlog / CATCH_UP_S
        return max(0.0, holes_per_s * self.service_s - self.elsewhere)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between how many workers there may be by themselves; equal: nothing scales."""

    least: int
    most: int

    @classmethod
    def of(cls, config: Config, *, cores: int) -> Bounds:
        """What `workers.min` and `workers.max` mean where a farm may use so many cores."""
        told = config.workers
        if not told.min and not told.max:
            fixed = config.mqtt.processing.workers
            return cls(fixed, fixed)
        least = told.min or 1
        if told.launch == "ray":  # these cores are not those of the cluster
            return cls(least, max(least, told.max))
        # None is added beyond the cores: they would take turns, and each hole would take longer.
        by_cores = max(cores // told.threads, 1)
        return cls(least, max(least, min(told.max or by_cores, by_cores)))


class Scaler:
    """See the module. Times are monotonic seconds.

    Attributes:
        wanted: how many local workers there should be now.
        settled: how many of them should be READY: those that were just added are not counted yet.
        pinned: an operator said how many; nothing scales until it is released.
        reason: why so many, in numbers.
    """

    @classmethod
    def of(cls, config: Config) -> Scaler:
        """For this machine, as the configuration has it."""
        return cls(Bounds.of(config, cores=cores()), start=config.mqtt.processing.workers)

    def __init__(self, bounds: Bounds, *, start: int) -> None:
        self.bounds = bounds
        self.wanted = self.settled = self._within(start)
        self.pinned = False
        self.reason = "as it started" if self.is_on else "fixed"
        self._needs: deque[tuple[float, float]] = deque()  # (time, need), falling
        self._latest: deque[int] = deque(maxlen=STEADY_LOOKS)
        self._looked_s = -math.inf
        self._began_s: float | None = None
        self._service_s: float | None = None  # the last that was known
        self._added_s = self._removed_s = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether there is anything to decide."""
        return self.bounds.least < self.bounds.most

    def pin(self, workers: int) -> None:
        """An operator wants just so many, within the bounds or not."""
        self.wanted = self.settled = workers
        self.pinned = True
        self.reason = "pinned by an operator: farm scale auto lets go"

    def release(self) -> None:
        """From now on by the load again, from where it stands."""
        self.pinned = False
        self._needs.clear()
        self._latest.clear()
        self._began_s = None
        self.reason = "released by an operator" if self.is_on else "fixed"
        self.wanted = self.settled = self._within(self.wanted)

    def configure(self, workers: int) -> None:
        """So many are configured from now on, where none scales by itself: a pin outlasts it."""
        if self.is_on:
            return
        self.bounds = Bounds(workers, workers)
        if not self.pinned:
            self.wanted = self.settled = workers
            self.reason = "fixed"

    def look(self, load: Load, now_s: float) -> bool:
        """Take the load into account; returns whether `wanted` changed.

        Fewer looks are taken than may be offered: one in `LOOK_EVERY_S`.
        """
        if load.ready >= self.wanted or now_s - self._added_s >= SETTLE_S:
            self.settled = self.wanted
        if not self.is_on or self.pinned or now_s - self._looked_s < LOOK_EVERY_S:
            return False
        self._looked_s = now_s
        if load.service_s is None:  # none was computed of late: they take as long as they did
            load = replace(load, service_s=self._service_s)
        if load.service_s is None:  # no hole was ever computed: nothing is known
            return False
        self._service_s = load.service_s
        self._began_s = now_s if self._began_s is None else self._began_s
        before, need = self.wanted, load.need
        self._note(need, now_s)
        steady = min(self._latest) if len(self._latest) == STEADY_LOOKS else 0
        if steady > self.wanted:
            self._add(steady, load, now_s)
        elif now_s - max(self._began_s, self._added_s) >= COOL_DOWN_S:
            self._take_away(now_s)
        if self.wanted != before:
            self.reason = self._in_numbers(load, need)
        return self.wanted != before

    def snapshot(self) -> dict[str, Any]:
        """For `farm stats`."""
        return {
            "wanted": self.wanted,
            "min": self.bounds.least,
            "max": self.bounds.most,
            "is_on": self.is_on,
            "pinned": self.pinned,
            "reason": self.reason,
        }

    def _note(self, need: float, now_s: float) -> None:
        """Keep the latest looks, and the highest need of the cool-down."""
        self._latest.append(self._within(math.ceil(need)))
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((now_s, need))
        while self._needs[0][0] <= now_s - COOL_DOWN_S:
            self._needs.popleft()

    def _add(self, steady: int, load: Load, now_s: float) -> None:
        if load.ready < self.wanted and now_s - self._added_s < SETTLE_S:
            return  # those that were added last are still loading
        self.wanted, self._added_s = steady, now_s

    def _take_away(self, now_s: float) -> None:
        if now_s - self._removed_s < STEP_DOWN_S:
            return
        enough = self._within(math.ceil(self._needs[0][1] / BAND))
        if enough < self.wanted:
            self.wanted, self._removed_s = self.wanted - 1, now_s
            self.settled = min(self.settled, self.wanted)

    def _within(self, workers: int) -> int:
        return min(max(workers, self.bounds.least), self.bounds.most)

    def _in_numbers(self, load: Load, need: float) -> str:
        service_ms = 1000 * (load.service_s or 0.0)
        told = f"{load.arrival_rate:.1f} holes/s of {service_ms:.3g} ms"
        if load.backlog:
            told += f", {load.backlog} wait"
        if load.elsewhere:
            told += f", {load.elsewhere} workers elsewhere"
        return f"{told}: {need:.1f} workers at {UTILISATION:.0%} busy"
