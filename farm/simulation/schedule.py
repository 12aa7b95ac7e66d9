"""When each message of simulated units is due: an open loop that never waits for answers.

Pure: takes a plan and random numbers, returns times. Sending is `farm.simulation.units`.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random


@dataclass(frozen=True, slots=True)
class Plan:
    """How holes are published.

    Attributes:
        rate_hz: holes per second, over all tools.
        count: holes in all; 0 for no end.
        poisson: arrivals at random instead of evenly spaced.
        shuffle: the messages of a hole in any order instead of the gateways' own.
        skew_s: the messages of a hole are spread over up to this time.
    """

    rate_hz: float
    count: int = 0
    poisson: bool = False
    shuffle: bool = False
    skew_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.rate_hz > 0:
            raise ConfigError(f"the rate must be above 0 holes/s, not {self.rate_hz}")
        if self.count < 0 or self.skew_s < 0:
            raise ConfigError("count and skew can't be negative")


@dataclass(frozen=True, slots=True)
class OutgoingHole:
    """The messages of one hole, to be published."""

    source: str  # "toolbox/tool"
    result_id: str
    parts: tuple[tuple[str, bytes], ...]  # topic, payload


@dataclass(frozen=True, slots=True)
class Shot:
    """One message and when it is due."""

    due_s: float  # from the start
    topic: str
    payload: bytes
    hole: OutgoingHole
    first: bool  # of its hole
    last: bool


def arrivals(
    plan: Plan, rng: Random, stopped: Callable[[], bool] = lambda: False
) -> Iterator[float]:
    """When each hole begins, in seconds from the start; ends early once `stopped`."""
    number, due_s = 0, 0.0
    while (not plan.count or number < plan.count) and not stopped():
        yield due_s
        number += 1
        # From the number, not by adding up, so that an even schedule does not drift.
        due_s = due_s + rng.expovariate(plan.rate_hz) if plan.poisson else number / plan.rate_hz


def spread(hole: OutgoingHole, begin_s: float, *, plan: Plan, rng: Random) -> list[Shot]:
    """The messages of a hole in the order and at the times they are due."""
    parts = list(hole.parts)
    if plan.shuffle:
        rng.shuffle(parts)
    # Without a skew no random number is drawn: the same seed then gives the same arrivals.
    later = [rng.uniform(0, plan.skew_s) if plan.skew_s else 0.0 for _ in parts[1:]]
    end = len(parts) - 1
    return [
        Shot(begin_s + offset, topic, payload, hole, first=number == 0, last=number == end)
        for number, ((topic, payload), offset) in enumerate(
            zip(parts, [0.0, *sorted(later)], strict=True)
        )
    ]


def timeline(
    plan: Plan,
    next_hole: Callable[[], OutgoingHole],
    rng: Random,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Shot]:
    """All messages by due time; holes overlap where the skew is longer than their distance.

    Once `stopped`, no further hole begins, and those under way come to their end.
    """
    waiting: list[tuple[float, int, Shot]] = []
    order = 0
    for begin_s in arrivals(plan, rng, stopped):
        while waiting and waiting[0][0] <= begin_s:
            yield heapq.heappop(waiting)[2]
        for shot in spread(next_hole(), begin_s, plan=plan, rng=rng):
            order += 1
            heapq.heappush(waiting, (shot.due_s, order, shot))
    while waiting:
        yield heapq.heappop(waiting)[2]
