"""The load generator and the listener in one process: publishes holes and hears their answers.

    python -m farm.simulation.bench.drive

Runs on the cores that it loads, so it does little: it rewrites packets in place and looks for a
few bytes in the answers. As a closed loop it keeps so many holes in flight; as an open loop it
publishes on a schedule that waits for nobody. `Driver` is its other end.
"""

from __future__ import annotations

import gc
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

from farm.simulation.archive import read_archive
from farm.simulation.bench.answers import TOPICS, error_of, recognise
from farm.simulation.bench.book import Book, Span
from farm.simulation.bench.child import Child, Parent, as_child
from farm.simulation.bench.pace import ClosedPace, OpenPace
from farm.simulation.bench.packets import FIRST_ID, Holes
from farm.simulation.lean import LeanClient
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.schedule import Plan, arrivals

if TYPE_CHECKING:
    from farm.simulation.bench.pace import Pace
    from farm.simulation.lean import Incoming

READY_TIMEOUT_S: Final = 60.0
TICK_S: Final = 0.05  # how often it looks at the clock and at its parent
PROGRESS_EVERY_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 40.0  # longer than the farm's window for the messages of a hole
LINGER_S: Final = 0.3  # a second answer comes at once or never
TIMELINE_STEP_S: Final = 0.25
# A closed loop lets answers gather: waking up costs as much as handling several of them. It waits
# for this share of what is in flight, and never for long.
GATHERED_SHARE: Final = 1 / 16
MAX_GATHER_S: Final = 0.01
BATCH_HOLES: Final = 16  # in one system call at most
KEYS_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class Load:
    """What is published.

    Attributes:
        holes_dir: an archive of the holes that are repeated.
        tools: over how many tools.
        rate_hz: holes per second of an open loop; 0 makes a closed one.
        in_flight: holes without an answer that a closed loop keeps.
        warm_up_s: load that is not measured, before.
        duration_s: of the measured time. The load goes on behind it until `stop`.
        heads: publish Heads, too.
        poisson: an open loop's holes come at random.
        shuffle: the messages of a hole in any order.
        seed: of order and schedule.
        first_id: the result id of the first hole, of ten digits.
        patience_s: how long to wait for the last answers, in the end.
    """

    holes_dir: str
    tools: int
    rate_hz: float = 0.0
    in_flight: int = 64
    warm_up_s: float = 0.0
    duration_s: float = 1.0
    heads: bool = True
    poisson: bool = False
    shuffle: bool = True
    seed: int = 1
    first_id: int = FIRST_ID
    patience_s: float = ANSWER_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Driven:
    """What came of it.

    Attributes:
        holes: published in all.
        answered: of these, with both answers.
        unanswered: how many lack one.
        repeated: how many got one twice.
        examples: some keys of both, "toolbox/tool/id".
        errors: answers that are reasons, by reason.
        strangers: answers to nobody's holes, and messages that name none.
        span: the measured time (monotonic).
        done: holes completed in it.
        rate_hz: those by its length.
        timeline: holes per second in steps of `TIMELINE_STEP_S`, from the start of the warm-up.
        delays_ms: of each hole published in it, from its last message to its depths.
        cpu_s: of this process in it.
        max_late_ms: how far an open loop fell behind its schedule.
        messages: publications in all.
        acknowledged: those that the MQTT broker took.
        bytes_per_hole: on average.
    """

    holes: int
    answered: int
    unanswered: int
    repeated: int
    examples: list[str]
    errors: dict[str, int]
    strangers: int
    span: tuple[float, float]
    done: int
    rate_hz: float
    timeline: list[float]
    delays_ms: list[float]
    cpu_s: float
    max_late_ms: float
    messages: int
    acknowledged: int
    bytes_per_hole: int

    @property
    def good(self) -> bool:
        """Every hole was answered, and once."""
        taken = self.acknowledged == self.messages
        return self.holes > 0 and taken and not self.unanswered and not self.repeated


class Driver(Child):
    """The generator's process, seen from outside."""

    def __init__(self, load: Load, address: BrokerAddress) -> None:
        where = {"host": address.host, "port": address.port, "protocol": address.protocol}
        super().__init__("farm.simulation.bench.drive", {"load": asdict(load), "address": where})
        self.load = load

    def wait_ready(self) -> None:
        """Wait until its holes are read and it is subscribed."""
        self.wait("ready", READY_TIMEOUT_S)

    def report(self) -> Driven:
        """Stop the load, wait for the last answers and say what came of all."""
        self.tell("stop")
        told = self.wait("report", self.load.patience_s + READY_TIMEOUT_S)
        return Driven(**{**told, "span": tuple(told["span"])})


class _Loop:
    """The loop of the process: see the module. Its time begins when it is made."""

    def __init__(self, load: Load, client: LeanClient, holes: Holes, parent: Parent) -> None:
        self.load = load
        self.client = client
        self.holes = holes
        self.parent = parent
        self.book = Book()
        self.cpu_s = 0.0
        self.started_s = time.monotonic()
        begin_s = self.started_s + load.warm_up_s
        self.span = Span(begin_s, begin_s + load.duration_s)
        self._pace = _pace(load, self.started_s)
        self._next_progress_s = 0.0

    def run(self) -> None:
        """Warm up, be measured, go on until told to stop, and wait for the rest."""
        before_s = self._until(self.span.from_s)
        self.parent.say("begin", {"complete": self.book.complete})
        after_s = self._until(self.span.to_s)
        self.parent.say("end", {"complete": self.book.complete})
        self.cpu_s = after_s - before_s
        self._until(float("inf"))
        self._drain()
        self.parent.say("report", asdict(self._report()))

    def _until(self, at_s: float) -> float:
        """Load until then, or until told to stop; returns the CPU time used so far."""
        next_tick_s = 0.0
        while (now_s := time.monotonic()) < at_s:
            if now_s >= next_tick_s:
                next_tick_s = now_s + TICK_S
                self._progress(now_s)
                if self.parent.has_word():
                    break
            self._issue(now_s)
            before = self.book.complete
            self._listen(self._patience_s(min(at_s, now_s + TICK_S)))
            self._gather(self.book.complete - before)
        return time.process_time()

    def _gather(self, came: int) -> None:
        """Let answers gather in a closed loop, unless the last ones completed many holes."""
        wanted = GATHERED_SHARE * self.load.in_flight
        if not self.load.rate_hz and came < wanted and self.book.complete:
            hole_s = (time.monotonic() - self.started_s) / self.book.complete
            time.sleep(min(wanted * hole_s, MAX_GATHER_S))

    def _drain(self) -> None:
        """Wait for what is missing, and then for a moment for what must not come."""
        deadline_s = time.monotonic() + self.load.patience_s
        while (now_s := time.monotonic()) < deadline_s:
            self._progress(now_s)
            self._listen(TICK_S)
            self.client.write(())
            if not self.book.in_flight and not self.client.in_flight:
                deadline_s = min(deadline_s, now_s + LINGER_S)

    def _patience_s(self, until_s: float) -> float:
        now_s = time.monotonic()
        return max(0.0, min(until_s - now_s, self._pace.wait_s(now_s)))

    def _issue(self, now_s: float) -> None:
        """Publish what is due, as far as the connection has room."""
        client, book = self.client, self.book
        most = min(BATCH_HOLES, self.holes.pool)
        while client.is_writable and client.limit - client.in_flight > 3 * BATCH_HOLES:
            count = min(self._pace.due(now_s, book.in_flight), most)
            if not count:
                break
            packets: list[bytearray] = []
            now_s = time.monotonic()
            for _ in range(count):
                packets += self.holes.packets(book.issue(now_s), client)
            client.write(packets)

    def _listen(self, timeout_s: float) -> None:
        batch = self.client.read(timeout_s)
        if batch is None or not batch.messages:
            return
        now_s = time.monotonic()
        before = self.book.in_flight
        for message in batch.messages:
            self._take(message, now_s)
            if message.message_id:
                self.client.acknowledge(message.message_id)
        if self.load.rate_hz or self.book.in_flight == before:
            self.client.write(())  # else the acknowledgements go with the next holes

    def _take(self, message: Incoming, now_s: float) -> None:
        answer = recognise(message.topic, message.payload)
        if answer is None:
            self.book.strangers += 1
            return
        number = answer.result_id - self.load.first_id
        if number >= 0 and answer.source != self.holes.source(number):
            number = -1
        self.book.answer(number, now_s, is_depth=answer.is_depth)
        if answer.is_depth and (reason := error_of(message.payload)):
            self.book.errors[reason] += 1

    def _progress(self, now_s: float) -> None:
        if now_s < self._next_progress_s:
            return
        self._next_progress_s = now_s + PROGRESS_EVERY_S
        book = self.book
        told = {"issued": book.issued, "complete": book.complete, "at_s": now_s - self.started_s}
        self.parent.say("progress", told)

    def _report(self) -> Driven:
        book, span, client = self.book, self.span, self.client
        unanswered, repeated = book.unanswered(), book.repeated()
        done = book.done_in(span)
        whole = Span(self.started_s, span.to_s)
        return Driven(
            holes=book.issued,
            answered=book.complete,
            unanswered=len(unanswered),
            repeated=len(repeated),
            examples=[self._key(number) for number in [*unanswered, *repeated][:KEYS_TOLD]],
            errors=dict(book.errors),
            strangers=book.strangers,
            span=(span.from_s, span.to_s),
            done=done,
            rate_hz=done / span.length_s,
            timeline=[n / TIMELINE_STEP_S for n in book.timeline(whole, TIMELINE_STEP_S)],
            delays_ms=[round(1000 * delay_s, 3) for delay_s in book.delays_s(span)],
            cpu_s=self.cpu_s,
            max_late_ms=1000 * self._pace.max_late_s,
            messages=client.sent,
            acknowledged=client.acknowledged,
            bytes_per_hole=self.holes.bytes_per_hole,
        )

    def _key(self, number: int) -> str:
        return f"{self.holes.source(number).decode()}/{self.load.first_id + number}"


def _pace(load: Load, start_s: float) -> Pace:
    if not load.rate_hz:
        return ClosedPace(load.in_flight)
    plan = Plan(load.rate_hz, poisson=load.poisson)
    return OpenPace(arrivals(plan, Random(load.seed)), start_s)


def drive(parent: Parent) -> None:
    """Read the holes, connect, and load when told to go."""
    load = Load(**parent.orders["load"])
    client = LeanClient(
        BrokerAddress(**parent.orders["address"]), name="farm-bench", filters=TOPICS.filters()
    )
    holes = Holes(
        (hole.template for hole in read_archive(Path(load.holes_dir))),
        tools=load.tools,
        version=client.version,
        heads=load.heads,
        shuffle=load.shuffle,
        first_id=load.first_id,
        rng=Random(load.seed),
    )
    client.connect()
    gc.collect()
    gc.disable()  # nothing here makes cycles, and a collection would be a pause of ours
    parent.say("ready")
    if parent.word() != "go":
        return
    _Loop(load, client, holes, parent).run()
    client.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    as_child(drive)
