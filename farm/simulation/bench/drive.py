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

import orjson

from farm.simulation.archive import read_archive
from farm.simulation.bench.book import Book, Span
from farm.simulation.bench.child import Child, Parent, as_child
from farm.simulation.bench.packets import FIRST_ID, Holes
from farm.simulation.gateway import ROOT
from farm.simulation.lean import LeanClient
from farm.simulation.listener import AnswerTopics
from farm.simulation.mqtt import BrokerAddress
from farm.simulation.schedule import Plan, arrivals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.simulation.lean import Incoming

READY_TIMEOUT_S: Final = 60.0
TICK_S: Final = 0.05  # how often it looks at the clock and at its parent
PROGRESS_EVERY_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 40.0  # longer than the farm's window for the messages of a hole
TIMELINE_STEP_S: Final = 0.25
# A closed loop lets answers gather: waking up costs as much as handling several of them. It waits
# for this share of what is in flight, and never for long.
GATHERED_SHARE: Final = 1 / 16
MAX_GATHER_S: Final = 0.01
BATCH_HOLES: Final = 16  # in one system call at most
KEYS_TOLD: Final = 20
_RESULT_ID: Final = b'"ResultId":"'
_ID_DIGITS: Final = len(str(FIRST_ID))


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
        told = self.wait("report", ANSWER_TIMEOUT_S + READY_TIMEOUT_S)
        return Driven(**{**told, "span": tuple(told["span"])})


class _Loop:
    """The loop of the process: see the module. Its time begins when it is made."""

    def __init__(self, load: Load, client: LeanClient, holes: Holes, parent: Parent) -> None:
        self.load = load
        self.client = client
        self.holes = holes
        self.parent = parent
        self.book = Book()
        self.strangers = 0
        self.max_late_s = 0.0
        self.cpu_s = 0.0
        self.started_s = time.monotonic()
        begin_s = self.started_s + load.warm_up_s
        self.span = Span(begin_s, begin_s + load.duration_s)
        plan = Plan(load.rate_hz, poisson=load.poisson) if load.rate_hz else None
        self._due: Iterator[float] | None = arrivals(plan, Random(load.seed)) if plan else None
        self._next_due_s = next(self._due) if self._due else 0.0
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
        if self._due is None and came < wanted and self.book.complete:
            hole_s = (time.monotonic() - self.started_s) / self.book.complete
            time.sleep(min(wanted * hole_s, MAX_GATHER_S))

    def _drain(self) -> None:
        deadline_s = time.monotonic() + ANSWER_TIMEOUT_S
        while self.book.in_flight or self.client.in_flight or not self.client.is_writable:
            now_s = time.monotonic()
            if now_s >= deadline_s:
                break
            self._progress(now_s)
            self._listen(TICK_S)

    def _patience_s(self, until_s: float) -> float:
        if self._due is not None:
            until_s = min(until_s, self.started_s + self._next_due_s)
        return max(0.0, until_s - time.monotonic())

    def _issue(self, now_s: float) -> None:
        """Publish what is due and has room."""
        client, book = self.client, self.book
        while client.is_writable and client.limit - client.in_flight > 3 * BATCH_HOLES:
            room = min(self._wanted(now_s), BATCH_HOLES, self.holes.pool)
            if room <= 0:
                break
            packets: list[bytearray] = []
            now_s = time.monotonic()
            for _ in range(room):
                packets += self.holes.packets(book.issue(now_s), client)
            client.write(packets)

    def _wanted(self, now_s: float) -> int:
        """How many holes may go out now."""
        if self._due is None:
            return self.load.in_flight - self.book.in_flight
        # one at a time: each is to be sent when it is due, and its lateness to be seen
        late_s = now_s - self.started_s - self._next_due_s
        if late_s < 0:
            return 0
        self.max_late_s = max(self.max_late_s, late_s)
        self._next_due_s = next(self._due)
        return 1

    def _listen(self, timeout_s: float) -> None:
        batch = self.client.read(timeout_s)
        if batch is None or not batch.messages:
            return
        now_s = time.monotonic()
        for message in batch.messages:
            self._take(message, now_s)
            if message.message_id:
                self.client.acknowledge(message.message_id)
        if self.client.is_writable and self._wanted_soon():
            return  # the acknowledgements go with the next holes
        self.client.write(())

    def _wanted_soon(self) -> bool:
        return self._due is None and self.book.in_flight < self.load.in_flight

    def _take(self, message: Incoming, now_s: float) -> None:
        topic, payload = message.topic, message.payload
        is_depth = topic.endswith(_DEPTH)
        if not is_depth and not topic.endswith(_KEYPOINTS):
            self.strangers += 1  # an error that names no hole
            return
        number = _id_of(payload) - self.load.first_id
        source = topic[_ROOT_CHARS : -_DEPTH_CHARS if is_depth else -_KEYPOINTS_CHARS]
        if number < 0 or source != self.holes.source(number):
            self.strangers += 1
            return
        self.book.answer(number, now_s, is_depth=is_depth)
        if is_depth and b'"Error"' in payload:
            body = orjson.loads(payload)
            if body.get("Error"):
                self.book.errors[str(body.get("Value"))] += 1

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
            strangers=self.strangers + book.strangers,
            span=(span.from_s, span.to_s),
            done=done,
            rate_hz=done / span.length_s,
            timeline=[n / TIMELINE_STEP_S for n in book.timeline(whole, TIMELINE_STEP_S)],
            delays_ms=[round(1000 * delay_s, 3) for delay_s in book.delays_s(span)],
            cpu_s=self.cpu_s,
            max_late_ms=1000 * self.max_late_s,
            messages=client.sent,
            acknowledged=client.acknowledged,
            bytes_per_hole=self.holes.bytes_per_hole,
        )

    def _key(self, number: int) -> str:
        return f"{self.holes.source(number).decode()}/{self.load.first_id + number}"


_TOPICS: Final = AnswerTopics()
_DEPTH: Final = f"/{_TOPICS.depth}".encode()
_KEYPOINTS: Final = f"/{_TOPICS.keypoints}".encode()
_DEPTH_CHARS, _KEYPOINTS_CHARS = len(_DEPTH), len(_KEYPOINTS)
_ROOT_CHARS: Final = len(f"{ROOT}/")


def _id_of(payload: bytes) -> int:
    """The id of the hole that an answer is about; -1 if it names none that could be ours."""
    at = payload.find(_RESULT_ID) + len(_RESULT_ID)
    end = at + _ID_DIGITS
    digits = payload[at:end]
    if at < len(_RESULT_ID) or not digits.isdigit() or payload[end : end + 1] != b'"':
        try:  # it is written in another way, or of another length
            digits = str(orjson.loads(payload)["ResultId"]).encode()
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return -1
    return int(digits) if digits.isdigit() else -1


def drive(parent: Parent) -> None:
    """Read the holes, connect, and load when told to go."""
    load = Load(**parent.orders["load"])
    client = LeanClient(
        BrokerAddress(**parent.orders["address"]), name="farm-bench", filters=_TOPICS.filters()
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
