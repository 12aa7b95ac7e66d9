"""The `Fleet`: which workers there are on Ray, which to add, which to let go.

A decision without I/O: it takes how many are wanted, what was seen of each, and the time, and says
what to do. Ray is `farm.fleet.cluster`'s, and it is Ray that restarts an actor on another node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX: Final = "ray-"
SILENCE_S: Final = 5.0
"""Seconds without an answer after which an actor that was there counts as being restarted."""

PLACED_WITHIN_S: Final = 10.0
"""Seconds in which Ray places an actor where there is room; after that it is asked why not."""

PAUSE_S: Final = 1.0
MAX_PAUSE_S: Final = 30.0
"""Seconds before another actor is asked for where Ray gave one up; doubles up to that."""


class MemberState(Enum):
    """Where one worker of the fleet stands."""

    PENDING = "pending"  # asked of Ray, and not placed
    ALIVE = "alive"  # its worker process runs
    RESTARTING = "restarting"  # its node or its process ended; Ray or the actor starts it anew
    LEAVING = "leaving"  # finishes what it has


LEGAL: dict[MemberState, frozenset[MemberState]] = {
    MemberState.PENDING: frozenset(
        {MemberState.ALIVE, MemberState.RESTARTING, MemberState.LEAVING}
    ),
    MemberState.ALIVE: frozenset({MemberState.RESTARTING, MemberState.LEAVING}),
    MemberState.RESTARTING: frozenset({MemberState.ALIVE, MemberState.LEAVING}),
    MemberState.LEAVING: frozenset(),
}

# Who is let go first: those that do nothing yet.
_DISPENSABLE: Final = (MemberState.PENDING, MemberState.RESTARTING, MemberState.ALIVE)


@dataclass(frozen=True, slots=True)
class Sight:
    """What an actor says of itself.

    Attributes:
        node: where it is, for people.
        runs: its worker process lives.
        has_left: it was told to leave, and its worker has.
        fault: how the worker ended last, or why none was started; "": it is well.
    """

    node: str
    runs: bool
    has_left: bool = False
    fault: str = ""


@dataclass(slots=True)
class Member:
    """One worker of the fleet: an actor of Ray, and the worker process that it holds."""

    number: int
    asked_s: float
    state: MemberState = MemberState.PENDING
    seen_s: float = 0.0
    leave_by_s: float = 0.0
    node: str = ""
    fault: str = ""

    @property
    def name(self) -> str:
        """Of its worker, in logs and stats."""
        return f"{PREFIX}{self.number}"

    def move(self, state: MemberState) -> None:
        """Change the state, along the table only."""
        if state is self.state:
            return
        if state not in LEGAL[self.state]:
            raise AssertionError(f"{self.name}: {self.state} ▶ {state}")
        self.state = state


@dataclass(slots=True)
class Plan:
    """What is to be done now, by name.

    Attributes:
        start: actors to ask Ray for.
        leave: actors whose workers are to finish and leave.
        end: actors to be ended at once.
    """

    start: list[str] = field(default_factory=list)
    leave: list[str] = field(default_factory=list)
    end: list[str] = field(default_factory=list)


class Fleet:
    """See the module. Times are monotonic seconds.

    Attributes:
        wanted: how many workers there should be.
        cause: why it is not as it should be, for all of them: no cluster, no room; "": nothing.
    """

    def __init__(self, *, retire_timeout_s: float) -> None:
        self._retire_timeout_s = retire_timeout_s
        self._members: dict[str, Member] = {}
        self._start_at_s = 0.0
        self._pause_s = PAUSE_S
        self.wanted = 0
        self.cause = ""

    # ---- what there is ------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Of all workers, those that leave included."""
        return list(self._members)

    @property
    def kept(self) -> list[Member]:
        """Those that are to stay."""
        return [m for m in self._members.values() if m.state is not MemberState.LEAVING]

    @property
    def is_empty(self) -> bool:
        """Whether the last one has gone."""
        return not self._members

    def unplaced(self, now_s: float) -> int:
        """How many actors Ray has been asked for, and has not placed for longer than it takes."""
        return sum(
            m.state is MemberState.PENDING and now_s - m.asked_s > PLACED_WITHIN_S
            for m in self._members.values()
        )

    def told(self) -> dict[str, Any]:
        """For `farm stats`: how many are wanted and in which state, and what is wrong."""
        states = [member.state for member in self._members.values()]
        faults = [f"{m.name} on {m.node}: {m.fault}" for m in self.kept if m.fault]
        return {
            "wanted": self.wanted,
            **{state.value: states.count(state) for state in MemberState},
            "cause": self.cause or next(iter(faults), ""),
        }

    # ---- what was seen ------------------------------------------------------------------------

    def seen(self, name: str, sight: Sight, now_s: float) -> str:
        """An actor has told of itself; returns its fault where it is another than before."""
        member = self._members[name]
        member.seen_s, member.node = now_s, sight.node
        former, member.fault = member.fault, sight.fault
        if member.state is MemberState.LEAVING:
            if sight.has_left:
                member.leave_by_s = now_s
            return ""
        member.move(MemberState.ALIVE if sight.runs else MemberState.RESTARTING)
        if sight.runs:
            self._pause_s = PAUSE_S
        return member.fault if member.fault != former else ""

    def silent(self, name: str, now_s: float) -> bool:
        """An actor has not told of itself yet; whether it counts as being restarted from now on."""
        member = self._members[name]
        if member.state is not MemberState.ALIVE or now_s - member.seen_s <= SILENCE_S:
            return False
        member.move(MemberState.RESTARTING)
        return True

    def lost(self, name: str, now_s: float) -> float:
        """Ray has given an actor up. Returns in how many seconds another one is asked for."""
        member = self._members.pop(name)
        if member.state is MemberState.LEAVING:
            return 0.0
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, MAX_PAUSE_S)
        self._start_at_s = now_s + pause_s
        return pause_s

    # ---- what is to be done -------------------------------------------------------------------

    def step(self, now_s: float) -> Plan:
        """Have as many as are wanted; what the plan says is taken for done."""
        plan = Plan()
        while len(kept := self.kept) > self.wanted:
            last = max(kept, key=lambda m: (-_DISPENSABLE.index(m.state), m.number))
            is_nowhere = last.state is MemberState.PENDING
            last.move(MemberState.LEAVING)
            last.leave_by_s = now_s if is_nowhere else now_s + self._retire_timeout_s
            if not is_nowhere:
                plan.leave.append(last.name)
        for member in list(self._members.values()):
            if member.state is MemberState.LEAVING and now_s >= member.leave_by_s:
                del self._members[member.name]
                plan.end.append(member.name)
        while now_s >= self._start_at_s and len(self.kept) < self.wanted:
            taken = {member.number for member in self._members.values()}
            member = Member(next(n for n in range(1, len(taken) + 2) if n not in taken), now_s)
            self._members[member.name] = member
            plan.start.append(member.name)
        return plan


def shortage(demand: Mapping[str, float], nodes: Sequence[Mapping[str, float]]) -> str:
    """Why Ray does not place an actor, as a sentence with the cure.

    Args:
        demand: amounts of what it needs, by the name of the resource.
        nodes: what each living node has in all, likewise.
    """
    needed = ", ".join(f"{name} {amount:g}" for name, amount in demand.items()) or "nothing"
    if not nodes:
        return "the Ray cluster has no living node: `ray start --address HOST:PORT` adds one"
    if any(all(node.get(name, 0.0) >= n for name, n in demand.items()) for node in nodes):
        return (
            f"every node that has {needed} is full, or slow to start a process: add nodes to the"
            " Ray cluster, or scale down"
        )
    most = ", ".join(f"{name} {max(node.get(name, 0.0) for node in nodes):g}" for name in demand)
    return (
        f"no node of the Ray cluster has {needed} (the most on one: {most}): add one that has, or"
        " lower ray.num_cpus and ray.resources"
    )
