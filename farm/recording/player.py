"""The plan of a replay: which message is due when, faults included. Pure; sends nothing.

Memory is bounded: it looks as few messages ahead as the faults need.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from farm.recording.faults import Fate, Faults, fate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

    from farm.recording.renewal import Renewed

NO_FAULTS: Final = Faults()
_PLAIN: Final = Fate()
MAX_SPEED: Final = 0.0  # stands for: as fast as the broker takes it
MAX_HELD_BYTES: Final = 256_000_000  # of delayed messages; beyond, the next one leaves early


class Shot(NamedTuple):
    """One message to be published, or, dropped, to be left out."""

    due_s: float  # from the begin of the replay
    part: Renewed
    is_copy: bool = False
    is_dropped: bool = False


def plan(
    parts: Iterable[Renewed],
    *,
    speed: float,
    elapsed_s: Callable[[], float],
    faults: Faults = NO_FAULTS,
    rng: Random,
) -> Iterator[Shot]:
    """The shots in the order in which they leave.

    Args:
        parts: messages with their holes, in the order of their arrival.
        speed: how many times faster than they came; `MAX_SPEED` for at once.
        elapsed_s: since the begin of the replay; asked at `MAX_SPEED` alone, where delays count
            from the moment at which a message is asked for.
        faults: what happens to them. A dropped one is given where it would have been.
        rng: gives the faults; the same seed gives the same ones, at any speed.
    """
    return _delayed(_displaced(_scheduled(parts, speed, elapsed_s), faults, rng))


def _scheduled(
    parts: Iterable[Renewed], speed: float, elapsed_s: Callable[[], float]
) -> Iterator[tuple[float, Renewed]]:
    """When each is due. A clock that was set back while recording holds nothing up."""
    if not speed:
        for part in parts:
            yield elapsed_s(), part
        return
    due_s = 0.0
    last_ns: int | None = None
    for part in parts:
        if last_ns is not None:
            due_s += max(0, part.message.at_ns - last_ns) / 1e9 / speed
        last_ns = part.message.at_ns
        yield due_s, part


def _displaced(
    scheduled: Iterable[tuple[float, Renewed]], faults: Faults, rng: Random
) -> Iterator[tuple[Shot, float]]:
    """Shots with their delay, after those that were to pass them."""
    held: list[tuple[int, int, Shot, float]] = []  # by the message after which it goes
    count = order = 0
    for due_s, part in scheduled:
        chosen = fate(faults, rng) if faults else _PLAIN
        if chosen.is_dropped:
            yield Shot(due_s, part, is_dropped=True), 0.0
            continue
        count += 1
        after = count + chosen.pass_count
        order += 1
        heapq.heappush(held, (after, order, Shot(due_s, part), chosen.delay_s))
        if chosen.copy_after is not None:
            order += 1
            copy = Shot(due_s, part, is_copy=True)
            heapq.heappush(held, (after + chosen.copy_after, order, copy, chosen.copy_delay_s))
        while held and held[0][0] <= count:
            _, _, shot, delay_s = heapq.heappop(held)
            yield shot._replace(due_s=max(shot.due_s, due_s)), delay_s
    while held:
        _, _, shot, delay_s = heapq.heappop(held)
        yield shot, delay_s


def _delayed(shots: Iterable[tuple[Shot, float]]) -> Iterator[Shot]:
    """In the order of their times, where one is held back."""
    waiting: list[tuple[float, int, Shot]] = []
    held_bytes = 0
    for order, (shot, delay_s) in enumerate(shots):
        while waiting and (waiting[0][0] <= shot.due_s or held_bytes > MAX_HELD_BYTES):
            _, _, late = heapq.heappop(waiting)
            held_bytes -= len(late.part.message.payload)
            yield late
        if not delay_s:
            yield shot
            continue
        late = shot._replace(due_s=shot.due_s + delay_s)
        held_bytes += len(late.part.message.payload)
        heapq.heappush(waiting, (late.due_s, order, late))
    while waiting:
        yield heapq.heappop(waiting)[2]
