"""Which faults there are, and when each strikes: a plan from a seed, made before anything runs.

Pure. Breaking things is `farm.simulation.chaos.hands`, bad messages are made by `traffic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from farm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection
    from random import Random


class Fault(Enum):
    """Everything that may go wrong, by the name that --only and --without take."""

    # processes
    WORKER_KILL = "worker-kill"  # SIGKILL
    WORKER_STOP = "worker-stop"  # SIGSTOP, and SIGCONT before it counts as silent
    WORKER_FREEZE = "worker-freeze"  # SIGSTOP for ever: the farm must replace it
    NURSERY_KILL = "nursery-kill"
    NURSERY_STOP = "nursery-stop"  # for ever: the farm must replace it when it needs a worker
    BROKER_KILL = "broker-kill"
    BROKER_STOP = "broker-stop"
    FARM_KILL = "farm-kill"  # SIGKILL of `farm start`, which takes all of it along
    MOSQUITTO_RESTART = "mosquitto-restart"  # in good order
    MOSQUITTO_KILL = "mosquitto-kill"  # only where it saves every message
    # the network between the farm and mosquitto
    LINK_CUT = "link-cut"
    LINK_DELAY = "link-delay"
    LINK_BLACKHOLE = "link-blackhole"  # half-open: nothing comes, and nobody says so
    # messages
    DUPLICATE = "duplicate"
    LATE_DUPLICATE = "late-duplicate"
    REORDER = "reorder"
    SKEW = "skew"
    MALFORMED = "malformed"  # a part of a hole
    STRAY = "stray"  # a message that belongs to no hole
    POISON = "poison"  # a hole that ends whoever computes it
    UNPAIRED = "unpaired"  # a part that never comes


WEIGHTS: Final[dict[Fault, float]] = {
    Fault.WORKER_KILL: 5.0,
    Fault.WORKER_STOP: 2.0,
    Fault.WORKER_FREEZE: 1.0,
    Fault.NURSERY_KILL: 1.0,
    Fault.NURSERY_STOP: 0.5,
    Fault.BROKER_KILL: 2.0,
    Fault.BROKER_STOP: 1.0,
    Fault.FARM_KILL: 0.5,
    Fault.MOSQUITTO_RESTART: 0.5,
    Fault.MOSQUITTO_KILL: 0.5,
    Fault.LINK_CUT: 2.0,
    Fault.LINK_DELAY: 1.0,
    Fault.LINK_BLACKHOLE: 0.7,
}
"""How often each strikes, against the others. What costs the whole farm some seconds is rare: the
rest should strike a farm at work."""

SHARES: Final[dict[Fault, float]] = {
    Fault.DUPLICATE: 0.03,
    Fault.LATE_DUPLICATE: 0.02,
    Fault.REORDER: 0.30,
    Fault.SKEW: 0.05,
    Fault.MALFORMED: 0.004,
    Fault.STRAY: 0.004,
    Fault.POISON: 0.003,
    Fault.UNPAIRED: 0.004,
}
"""Of the holes that have each. A poisoned one costs three workers or their deadlines."""

DURATIONS_S: Final[dict[Fault, tuple[float, float]]] = {
    Fault.WORKER_STOP: (0.1, 1.0),
    Fault.BROKER_STOP: (0.1, 1.5),
    Fault.LINK_DELAY: (0.5, 4.0),
    Fault.LINK_BLACKHOLE: (0.5, 6.0),
}
"""For how long the ones that pass last, at random between these."""

LINK_DELAY_S: Final = 0.2

AFTERMATH_S: Final[dict[Fault, float]] = {
    Fault.FARM_KILL: 8.0,
    Fault.MOSQUITTO_RESTART: 5.0,
    Fault.MOSQUITTO_KILL: 5.0,
    Fault.BROKER_KILL: 4.0,
    Fault.LINK_BLACKHOLE: 6.0,
    Fault.WORKER_FREEZE: 3.0,
    Fault.NURSERY_STOP: 6.0,  # the next worker that is due comes that much later
}
"""How long after its end a fault may still be felt; others than these: `SHORT_AFTERMATH_S`. Only
for telling quiet times from the rest."""
SHORT_AFTERMATH_S: Final = 1.5

SETTLE_S: Final = 1.0  # of load before the first fault: something must be there to be broken


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a plan."""

    at_s: float  # from the start of the load
    fault: Fault
    lasts_s: float  # 0: it is over at once, or for ever
    pick: float  # 0 to 1: which of the processes there are


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault as it was done; times are monotonic."""

    fault: Fault
    at_s: float
    lasts_s: float
    what: str  # whom it met, for people

    @property
    def felt_until_s(self) -> float:
        """When its consequences should be over."""
        return self.at_s + self.lasts_s + AFTERMATH_S.get(self.fault, SHORT_AFTERMATH_S)


def choose(
    only: Collection[str], without: Collection[str], *, is_durable: bool = False
) -> frozenset[Fault]:
    """The faults of a run.

    Args:
        only: the names of these; none: all.
        without: but not these.
        is_durable: mosquitto may be killed, since it saves every message.

    Raises:
        ConfigError: there is no fault of such a name, or none is left.
    """
    names = {fault.value: fault for fault in Fault}
    for name in (*only, *without):
        if name not in names:
            raise ConfigError(f"there is no fault {name!r}: choose from {', '.join(names)}")
    chosen = {names[name] for name in only or names} - {names[name] for name in without}
    if not is_durable:
        if Fault.MOSQUITTO_KILL.value in only:
            raise ConfigError(
                "mosquitto-kill needs --durable-mqtt: killed, mosquitto loses what it took since it"
                " last saved"
            )
        chosen.discard(Fault.MOSQUITTO_KILL)
    if not chosen:
        raise ConfigError("no fault is left: look at --only and --without")
    return frozenset(chosen)


def plan(
    faults: Collection[Fault], *, rate_hz: float, duration_s: float, rng: Random
) -> list[Strike]:
    """When what strikes, for as long as the load lasts; at random moments.

    Args:
        faults: those of messages have no part in it.
        rate_hz: strikes a second; 0 for none.
        duration_s: of the load.
        rng: equal ones give equal plans.
    """
    kinds = [fault for fault in WEIGHTS if fault in faults]
    if not kinds or rate_hz <= 0:
        return []
    weights = [WEIGHTS[fault] for fault in kinds]
    strikes = []
    at_s = SETTLE_S + rng.expovariate(rate_hz)
    while at_s < duration_s:
        [fault] = rng.choices(kinds, weights)
        lasts_s = rng.uniform(*DURATIONS_S[fault]) if fault in DURATIONS_S else 0.0
        strikes.append(Strike(at_s, fault, lasts_s, rng.random()))
        at_s += rng.expovariate(rate_hz)
    return strikes
