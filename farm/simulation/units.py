"""Drilling units that publish holes: T tools, R holes a second, and waiting for nobody.

Owns which tool drills which hole under which result id, and the sending. The times are
`farm.simulation.schedule`'s.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from farm.simulation.gateway import topic
from farm.simulation.mqtt import BrokerAddress, MqttLink, PublishCount
from farm.simulation.schedule import OutgoingHole, Plan, Shot, timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from farm.simulation.archive import RecordedHole
    from farm.simulation.restamp import BoundHole, HoleTemplate

# A broker that acknowledges nothing for so long is not going to.
STALL_S = 10.0

HoleKey = tuple[str, str]  # "toolbox/tool", result id


@dataclass(frozen=True, slots=True)
class UnitsReport:
    """What was published.

    Attributes:
        sent_s: when the last message of each hole was handed over (monotonic).
        holes: holes published completely.
        messages: what the broker said of the messages.
        max_late_s: how far the sender fell behind its schedule at worst.
    """

    sent_s: dict[HoleKey, float]
    holes: int
    messages: PublishCount
    max_late_s: float


class Fleet:
    """Tools that take turns at drilling, each with its own holes and its own count of them.

    Args:
        benches: by "toolbox/tool", the holes that this tool drills, over and over.
        first_id: the result id of each tool's first hole.
    """

    def __init__(self, benches: dict[str, Sequence[BoundHole]], *, first_id: int = 1) -> None:
        self._benches = list(benches.items())
        self._first_id = first_id
        self._drilled = 0

    def next_hole(self) -> OutgoingHole:
        """The next hole of the next tool."""
        turn, number = divmod(self._drilled, len(self._benches))
        source, holes = self._benches[number]
        self._drilled += 1
        result_id = str(self._first_id + turn)
        # Offset by the tool, so that at one time the tools drill different holes.
        hole = holes[(turn + number) % len(holes)]
        return OutgoingHole(source, result_id, tuple(hole.stamp(result_id)))


def simulated_fleet(
    benches: Sequence[Sequence[HoleTemplate]],
    *,
    tools: int,
    toolbox: str = "SIM-BOX",
    first_id: int = 1,
) -> Fleet:
    """A fleet of so many tools that take the benches in turn.

    Args:
        benches: what one tool drills, each; one list a gateway style keeps a tool to its style.
        tools: how many.
        toolbox: begins the name of the gateway of each bench.
        first_id: the result id of each tool's first hole.
    """
    bound: dict[str, Sequence[BoundHole]] = {}
    for number in range(tools):
        tool = f"SIM-{number + 1:03d}"
        chosen = benches[number % len(benches)]
        box = f"{toolbox}-{number % len(benches) + 1}"
        bound[f"{box}/{tool}"] = [t.bind(toolbox=box, tool=tool) for t in chosen]
    return Fleet(bound, first_id=first_id)


class Playlist:
    """Recorded holes one after the other, over and over.

    Args:
        holes: in the order to publish them.
        root: first level of every topic.
        tools: spread them over so many tools; 0 keeps the recorded ones.
        first_id: the holes are numbered from here; None publishes them exactly as recorded.
    """

    def __init__(
        self, holes: Sequence[RecordedHole], *, root: str, tools: int = 0, first_id: int | None = 1
    ) -> None:
        self._holes = holes
        self._root = root
        self._tools = tools
        self._first_id = first_id
        self._played = 0
        self._bound: dict[tuple[int, int], BoundHole] = {}

    def next_hole(self) -> OutgoingHole:
        """The next hole."""
        number, self._played = self._played, self._played + 1
        place, seat = number % len(self._holes), number % self._tools if self._tools else 0
        template = self._holes[place].template
        if self._first_id is None:
            return self._as_recorded(self._holes[place])
        tool = f"{template.tool}-{seat + 1:03d}" if self._tools else template.tool
        if (place, seat) not in self._bound:
            self._bound[place, seat] = template.bind(tool=tool, root=self._root)
        result_id = str(self._first_id + number)
        parts = tuple(self._bound[place, seat].stamp(result_id))
        return OutgoingHole(f"{template.toolbox}/{tool}", result_id, parts)

    def _as_recorded(self, hole: RecordedHole) -> OutgoingHole:
        found = hole.template
        parts = tuple(
            (topic(tail, toolbox=found.toolbox, tool=found.tool, root=self._root), raw)
            for tail, raw in hole.messages.parts()
        )
        return OutgoingHole(f"{found.toolbox}/{found.tool}", found.result_id, parts)


def fresh_first_id() -> int:
    """A result id that no earlier run has used lately: runs must not look like duplicates.

    Grows by 1000 a second, more than any tool drills, and stays in 31 bits.
    """
    return int(time.time()) % 2_000_000 * 1000 + 1


class DrillingUnits:
    """Publishes the holes of a fleet.

    Args:
        address: the MQTT broker.
        next_hole: gives the next hole, for instance `Fleet.next_hole`.
        plan: how many, how fast, in which order.
        seed: of the schedule's random numbers.
        on_sent: called after the last message of each hole, with its key and the time.

    Attributes:
        ended: set when `run` is over. Wait for this and not for the thread: Ctrl-C in a join makes
            Python 3.11 take a running thread for ended.
    """

    def __init__(
        self,
        address: BrokerAddress,
        next_hole: Callable[[], OutgoingHole],
        plan: Plan,
        *,
        seed: int = 0,
        on_sent: Callable[[HoleKey, float], None] | None = None,
    ) -> None:
        self._link = MqttLink(address, name="farm-units")
        self._next_hole = next_hole
        self._plan = plan
        self._rng = Random(seed)
        self._on_sent = on_sent
        self._stop = threading.Event()
        self.ended = threading.Event()
        self._sent_s: dict[HoleKey, float] = {}
        self._holes = 0
        self._max_late_s = 0.0

    def connect(self) -> None:
        """Connect to the broker.

        Raises:
            MqttError: it can't be reached or refuses us.
        """
        self._link.connect()

    def run(self) -> UnitsReport:
        """Publish until the plan is done, then wait for acknowledgements.

        Ends early when `stop` was called or the broker refuses a message.
        """
        try:
            self._publish_all()
        finally:
            self.ended.set()
        return self.report()

    def _publish_all(self) -> None:
        start_s = time.monotonic()
        abandoned: set[int] = set()
        for shot in timeline(self._plan, self._next_hole, self._rng, self._stop.is_set):
            due_s = start_s + shot.due_s
            self._stop.wait(max(0.0, due_s - time.monotonic()))
            if self._link.is_refused:
                break
            # A hole that has begun when we stop is still published to its end, at once.
            if self._stop.is_set() and shot.first:
                abandoned.add(id(shot.hole))
            if id(shot.hole) not in abandoned:
                self._send(shot, due_s)
        self._link.drain(STALL_S)

    def stop(self) -> None:
        """Begin no further hole. May be called from any thread and from a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Disconnect."""
        self._link.close()

    def report(self) -> UnitsReport:
        """What has been published so far; may be called from any thread."""
        return UnitsReport(
            dict(self._sent_s), self._holes, self._link.counts(), max_late_s=self._max_late_s
        )

    def _send(self, shot: Shot, due_s: float) -> None:
        now_s = time.monotonic()
        self._max_late_s = max(self._max_late_s, now_s - due_s)
        if shot.last:
            self._holes += 1
            self._sent_s[shot.hole.source, shot.hole.result_id] = now_s
        self._link.publish(shot.topic, shot.payload)
        if shot.last and self._on_sent is not None:
            self._on_sent((shot.hole.source, shot.hole.result_id), now_s)
