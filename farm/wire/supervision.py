"""What those say who keep the workers, supervisor and fleet, to the broker, and the replies."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again and give it to the workers that join from now on."""

    KIND: ClassVar[int] = 50


@dataclass(frozen=True, slots=True)
class Configured:
    """The configured number of workers is another from now on: what `Scale.AUTO` goes back to."""

    KIND: ClassVar[int] = 51
    workers: int


@dataclass(frozen=True, slots=True)
class SupervisorReport:
    """The supervisor tells which of its workers ended, as (pid, how), which of its slots it has
    given up, as (number, how the last one ended), how workers are launched, and asks for orders.
    """

    KIND: ClassVar[int] = 48
    exits: list[tuple[int, str]]
    failed: list[tuple[int, str]]
    nursery: dict[str, Any]  # as `Launcher.told` gives it, for `farm stats`
    gpus: dict[str, Any] = field(default_factory=dict)  # workers with a GPU by name: how the last
    # one ended where it has given one up, else ""
    is_reloading: bool = False  # its workers are being replaced: those elsewhere have to wait


@dataclass(frozen=True, slots=True)
class SupervisorOrders:
    """Pids of READY workers, workers to kill as (pid, why), and how many workers to keep."""

    KIND: ClassVar[int] = 49
    ready_pids: list[int]
    kill: list[tuple[int, str]]
    workers: int  # by Scale or by the load; -1: nobody said anything, keep what is configured
    pinned: bool  # by Scale: a broker that comes after this one must be told
    log_level: str = ""  # to log at; "": the configured one
    take_back: str = ""  # why the last reload is to be taken back; "": it is not


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The fleet tells the names of the workers that it keeps on Ray, and how it is with them, and
    asks how many there should be.
    """

    KIND: ClassVar[int] = 53
    names: list[str]
    told: dict[str, Any]  # as `Fleet.told` gives it, for `farm stats`


@dataclass(frozen=True, slots=True)
class FleetOrders:
    """How many workers to keep; -1: nobody has the say yet, keep those that there are."""

    KIND: ClassVar[int] = 54
    workers: int
    log_level: str = ""  # to log at; "": the configured one
