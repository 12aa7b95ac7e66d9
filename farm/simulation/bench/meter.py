"""Measures one contender under one load: throughput, latency, CPU time, memory, time to ready."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from farm.simulation.bench.drive import ANSWER_TIMEOUT_S, Driver
from farm.simulation.processes import machine_busy_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.simulation.bench.contender import Contender, Memory
    from farm.simulation.bench.drive import Driven, Load
    from farm.simulation.bench.replacing import Replacing

LOOK_EVERY_S: Final = 1.0  # a snapshot costs its maker a few ms
GENERATOR: Final = "generator"


@dataclass(slots=True)
class Measured:
    """What was found of one contender.

    Attributes:
        name: of the contender.
        driven: what the generator says.
        ready_s: from its start until it took holes.
        cpu_s: used in the measured time, by kind of process, the generator's included.
        memory: behind the measured time, still under load.
        peak_backlog: holes waiting in it at most, by its own account.
        snapshot: its own account at the end of the measured time.
        foreign_cores: how many cores were busy with something else in the measured time.
        replacing: of killed workers, where that was wanted.
    """

    name: str
    driven: Driven
    ready_s: float
    cpu_s: dict[str, float]
    memory: Memory
    peak_backlog: int = 0
    snapshot: dict[str, Any] = field(default_factory=dict)
    foreign_cores: float = 0.0
    replacing: Replacing | None = None

    @property
    def rate_hz(self) -> float:
        """Holes per second."""
        return self.driven.rate_hz

    def cpu_ms_per_hole(self) -> dict[str, float]:
        """By kind of process, over the holes completed in the measured time."""
        done = max(self.driven.done, 1)
        return {kind: 1000 * cpu_s / done for kind, cpu_s in self.cpu_s.items()}


def measure(contender: Contender, load: Load, tell: Callable[[str], None]) -> Measured:
    """Start a contender, load it, and let go of it.

    Args:
        contender: not yet entered.
        load: for it.
        tell: called with a line about how it goes, a few times a second.

    Raises:
        FarmError: it or the generator fails.
    """
    tell(f"{contender.name}: starting")
    with contender:
        ready_s = contender.wait_ready()
        return under_load(contender, load, tell, ready_s=ready_s)


def under_load(
    contender: Contender, load: Load, tell: Callable[[str], None], *, ready_s: float
) -> Measured:
    """Measure a contender that is ready."""
    watch = _Watch(contender, load, tell)
    with Driver(load, contender.address) as driver:
        driver.wait_ready()
        driver.tell("go")
        patience_s = load.warm_up_s + load.duration_s + ANSWER_TIMEOUT_S
        driver.wait("begin", patience_s, watch.see)
        machine, before_s = _Machine(), contender.cpu_s()
        driver.wait("end", patience_s, watch.see)
        busy_s, after_s = machine.busy_s(), contender.cpu_s()
        snapshot = contender.look()
        memory = contender.memory()
        driven = driver.report()
    cpu_s = {kind: used_s - before_s.get(kind, 0.0) for kind, used_s in after_s.items()}
    cpu_s[GENERATOR] = driven.cpu_s
    return Measured(
        name=contender.name,
        driven=driven,
        ready_s=ready_s,
        cpu_s=cpu_s,
        memory=memory,
        peak_backlog=watch.peak_backlog,
        snapshot=snapshot,
        foreign_cores=max(0.0, busy_s - sum(cpu_s.values())) / load.duration_s,
    )


class _Machine:
    """All cores, from now on, but for what this process does with them."""

    def __init__(self) -> None:
        self._busy_s = machine_busy_s()
        self._own_s = time.process_time()

    def busy_s(self) -> float:
        """CPU time that the cores have been busy with others than us."""
        own_s = time.process_time() - self._own_s
        return machine_busy_s() - self._busy_s - own_s


class _Watch:
    """Looks at a contender now and then while the generator tells how it goes."""

    def __init__(self, contender: Contender, load: Load, tell: Callable[[str], None]) -> None:
        self._contender = contender
        self._load = load
        self._tell = tell
        self._next_look_s = 0.0
        self.peak_backlog = 0

    def see(self, key: str, value: Any) -> None:
        """What the generator says."""
        if key != "progress":
            return
        now_s = time.monotonic()
        if now_s >= self._next_look_s:
            self._next_look_s = now_s + LOOK_EVERY_S
            backlog = self._contender.look().get("throughput", {}).get("backlog", 0)
            self.peak_backlog = max(self.peak_backlog, backlog)
        end_s = self._load.warm_up_s + self._load.duration_s
        self._tell(
            f"{self._contender.name}: {value['complete']} of {value['issued']} holes answered,"
            f" {min(value['at_s'], end_s):.0f} of {end_s:.0f} s"
        )
