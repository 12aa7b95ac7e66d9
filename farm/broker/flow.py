"""The `Flow`: the way of a hole through the broker, from part to published answer.

It strings the stations together: correlator ▶ ledger and roster ▶ answers ▶ outbox, has each step
that must outlive the broker written to the journal, and counts. The process shell feeds it
arrivals, worker messages and the time, sends the jobs it offers and publishes what lies in its
outbox. Every join ends in exactly one `Terminal` state.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from farm.adapter import Finished, Need, Route, Status, Terminal
from farm.broker.answers import Answers, Outcome
from farm.broker.correlator import Event, Paired, Refused, Unpaired
from farm.broker.dispatcher import Dispatcher, gave_up
from farm.broker.guard import GuardedAdapter, GuardedAnswerer
from farm.broker.notices import DeadLetterNotices
from farm.broker.observation import Observation
from farm.broker.outbox import Letter, Outbox
from farm.broker.reception import Reception
from farm.broker.registrar import Registrar
from farm.broker.relief import Relief
from farm.broker.throughput import ThroughputMonitor
from farm.doors.tickets import Tickets
from farm.errors import JournalError
from farm.journal.records import Closed, Resolved
from farm.log import Limited
from farm.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.adapter import Adapter, Answerer, Publication
    from farm.broker.buffer import Key
    from farm.broker.entry import Entry
    from farm.broker.roster import Worker
    from farm.clock import WallClock
    from farm.config import Config
    from farm.journal.journal import Recorder
    from farm.journal.recovery import Found
    from farm.partition import Share
    from farm.telemetry.spans import HoleSpans


class Flow:
    """See the module. `now_s` is monotonic; `intake_s` is read off the `IntakeClock`.

    Args:
        config: all of it.
        adapter: the traffic.
        now_s: when it begins.
        journal: where everything is written that must outlive this process.
        clock: tells UTC.
        instance: the farm's name on its own MQTT topics.
        read_slot: the jobs that a dead worker was computing; None where nobody can know.
        tickets: what workers of other hosts must show; None: of this life alone.
        share: which tools are this farm's; None: all are.
    """

    def __init__(
        self,
        config: Config,
        adapter: Adapter,
        now_s: float,
        *,
        journal: Recorder,
        clock: WallClock,
        instance: str = "farm",
        read_slot: Callable[[Worker], frozenset[int] | None] = lambda _worker: None,
        tickets: Tickets | None = None,
        share: Share | None = None,
    ) -> None:
        self._config = config
        self._journal = journal
        self._clock = clock
        self.counts: Counter[str] = Counter()
        self._adapter = GuardedAdapter(
            adapter, max_part_bytes=config.limits.message_bytes, counts=self.counts
        )
        self.observation = Observation(now_s)
        self.kinds = tuple(adapter.needs)
        self._required_kinds = {k for k, need in adapter.needs.items() if need is Need.REQUIRED}
        self._registrar = Registrar(journal=journal, clock=clock, tickets=tickets or Tickets())
        self._reception = Reception(
            config,
            self._adapter,
            adapter.needs,
            journal=journal,
            clock=clock,
            new_id=self._registrar.new_id,
            counts=self.counts,
            share=share,
            tools=self.observation.tools,
        )
        self.correlator = self._reception.correlator
        self.optional_kinds = self._reception.optional_kinds
        self.remembers_s = self._reception.rules.redelivery_window_s  # how far back joins matter
        self.dispatcher = Dispatcher(
            config,
            journal=journal,
            first_worker_id=self._registrar.last_id + 1,
            counts=self.counts,
            read_slot=read_slot,
            done=self._done,
            failed=self._fail,
        )
        self.ledger = self.dispatcher.ledger
        self.roster = self.dispatcher.roster
        self.outbox = Outbox(
            max_inflight=config.mqtt.broker.max_inflight,
            load=journal.publications if journal.is_durable else None,
            is_input=self._adapter.is_input,
        )
        self.monitor = ThroughputMonitor(
            healthy_ratio=config.throughput.healthy_ratio,
            window_s=config.throughput.window_s,
            started_s=now_s,
        )
        answerer = adapter.answerer()
        self.judges_s = float(getattr(answerer, "memory_s", 0.0))  # how far back answers matter
        self._answers = self._make_answers(answerer, instance)
        self.said = self._answers.said
        self._relief = Relief(
            config.overload,
            journal=journal,
            ledger=self.ledger,
            outbox=self.outbox,
            answers=self._answers,
            counts=self.counts,
        )
        self.brake = self._relief.brake
        self.stages = {
            "pairing": Histogram(),
            **self.dispatcher.stages,
            "publishing": self._answers.publishing,
            "total": self._answers.total,
        }
        self._now_s = now_s
        self._log = Limited()

    def _make_answers(self, answerer: Answerer, instance: str) -> Answers:
        config = self._config
        return Answers(
            GuardedAnswerer(answerer, self.counts),
            self.outbox,
            self.monitor,
            self.counts,
            journal=self._journal,
            clock=self._clock,
            notices=DeadLetterNotices(
                instance, self._clock, is_publishing=config.dead_letters.publish
            ),
            is_late=self._is_late,
            grace_s=config.overload.objective_s / 2,
            observation=self.observation,
        )

    # ---- parts in ---------------------------------------------------------------------------

    def arrived(
        self,
        topic: str,
        payload: bytes,
        *,
        arrived_s: float,
        intake_s: float,
        now_s: float,
        is_redelivered: bool = False,
    ) -> None:
        """One message from MQTT; it may be acknowledged once the journal is where it is now."""
        self._now_s = now_s
        events = self._reception.take(
            topic,
            payload,
            arrived_s=arrived_s,
            intake_s=intake_s,
            is_redelivered=is_redelivered,
        )
        if events:  # most messages still wait for others
            self._handle(events, now_s, skew_s=arrived_s - intake_s)

    def expire(self, now_s: float, intake_s: float) -> None:
        """End the joins whose time window is over on the intake clock."""
        self._now_s = now_s
        self._handle(self._reception.expire(intake_s), now_s, skew_s=now_s - intake_s)
        self._answers.let_pass(now_s)

    def mark(self) -> None:
        """Tell the journal up to where no message waits for a partner. Call now and then."""
        self._reception.mark()

    def suspend(self, now_s: float, intake_s: float) -> None:
        """Before a stop: go on with what is complete; what waits is the next life's."""
        self._handle(self._reception.suspend(intake_s), now_s, skew_s=now_s - intake_s)

    def resume(self, found: Found, now_s: float) -> None:
        """After a start: take up what the lives before have left open."""
        self._answers.notices.count = found.dead_letters
        for finished, at_s in found.judged:
            self._answers.remember(finished, now_s - max(self._clock.at(now_s) - at_s, 0.0))
        for each in found.letters:
            terminal = None if each.terminal is None else Terminal(each.terminal)
            letter = Letter(
                *(each.letter_id, each.source, each.part_id, terminal, now_s, now_s, now_s)
            )
            self._answers.take_up(letter, each.count, now_s)
        for hole in found.holes:
            self._answers.expect(hole.source, hole.hole_id, now_s)
            entry = self._registrar.recovered(hole, now_s)
            if reason := self._hopeless(entry):
                self._fail(entry, reason, now_s)
            else:
                self.ledger.add(entry)
        self._handle(self._reception.resume(found), now_s, skew_s=now_s)
        self.counts["recovered"] = len(found.holes) + len(found.letters) + len(found.waiting)

    def _hopeless(self, entry: Entry) -> str:
        """Why a hole of a former life was given up in it, as a sentence; "" where it was not."""
        if missing := self.missing(entry.messages):
            present = " and ".join(sorted(entry.messages))
            return f"Not paired: no {missing} arrived (present: {present})"
        if entry.deaths >= self._config.dispatch.max_attempts:
            return gave_up(entry)
        return ""

    def missing(self, messages: Mapping[str, int]) -> str:
        """The kinds without which a hole can't be computed, in words; "" where all are there."""
        return " and no ".join(sorted(self._required_kinds - messages.keys()))

    def _handle(self, events: list[Event], now_s: float, *, skew_s: float) -> None:
        """Carry events on; `skew_s` turns their intake time into monotonic time."""
        for event in events:
            match event:
                case Paired():
                    self.stages["pairing"].add(now_s - skew_s - event.first_s)
                    self.ledger.add(self._open(event, now_s, skew_s))
                case Unpaired():
                    self.observation.tools.of(event.key[0]).unpaired += 1
                    entry = self._open(event, now_s, skew_s)
                    self._fail(entry, event.reason, now_s)
                case Refused(kind, key, reason, message_id):
                    self._journal.append(Closed(message_id, reason))
                    self._answers.reject(
                        *(Route(kind, key[0]), reason, now_s),
                        rejection_id=self._registrar.new_id(),
                        message_id=message_id,
                    )

    def _open(self, event: Paired | Unpaired, now_s: float, skew_s: float) -> Entry:
        """A hole begins: it will end once, in its turn, whatever happens."""
        entry = self._registrar.opened(event, now_s, skew_s)
        self._answers.expect(entry.key[0], entry.job_id, now_s)
        return entry

    def _done(self, entry: Entry, finished: Finished, now_s: float) -> None:
        """A worker's result is there."""
        self._now_s = now_s
        self._answers.settle(
            Outcome(entry.job_id, finished, entry.first_s, entry.last_s, entry.story), now_s
        )

    def _failure(self, key: Key, payloads: Mapping[str, bytes], reason: str) -> Finished:
        provenance = self._adapter.describe(payloads)
        return Finished(*key, Status.FAILED, None, reason, provenance, "", "")

    def _fail(
        self, entry: Entry, reason: str, now_s: float, terminal: Terminal | None = None
    ) -> None:
        """A hole that is not (any more) in the ledger ends without the answer of a model."""
        self._now_s = now_s
        failure = self._failure(entry.key, self._payloads(entry), reason)
        outcome = Outcome(entry.job_id, failure, entry.first_s, entry.last_s, entry.story, terminal)
        self._answers.settle(outcome, now_s)

    def _payloads(self, entry: Entry) -> Mapping[str, bytes]:
        """As far as they can be had."""
        if entry.payloads is not None:
            return entry.payloads
        try:
            return self._journal.parts(entry.messages)
        except JournalError:
            return {}

    def _is_late(self, job_id: int) -> bool:
        """Whether a hole has never reached a worker and waits longer than it should."""
        entry = self.ledger.get(job_id)
        if entry is None or entry.sends:
            return False
        return self._now_s - entry.queued_s > self._config.overload.objective_s

    # ---- too much ---------------------------------------------------------------------------

    def relieve(self, now_s: float) -> None:
        """Move payloads to disk beyond the memory budget; shed where the policy says so."""
        self._now_s = now_s
        for entry in self._relief.tick(now_s):
            reason = (
                f"Shed after {now_s - entry.queued_s:.0f} s: more holes come than the workers can "
                "do, and overload.shed says so"
            )
            self._fail(entry, reason, now_s, Terminal.SHED)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be taken in until some of what is open has left."""
        return self._relief.is_full

    # ---- answers out ------------------------------------------------------------------------

    def release(self, now_s: float) -> None:
        """Send on what the journal has written by now."""
        self._answers.release(now_s)

    def tell_spans(self, spans: HoleSpans) -> None:
        """Have a collector told of holes, as they end."""
        self._answers.spans = spans

    def delivered(self, letter: Letter, now_s: float) -> None:
        """The last publication of a letter was confirmed."""
        self._answers.delivered(letter, now_s)

    @property
    def terminals(self) -> Counter[Terminal]:
        """Holes by the way they ended."""
        return self._answers.terminals

    @property
    def unanswered(self) -> int:
        """Holes that are complete and have not reached their end."""
        return self._answers.open

    @property
    def overtaken(self) -> int:
        """Holes that were late and let others of their tool pass."""
        return self._answers.overtaken

    @property
    def dead_letters(self) -> int:
        """Dead letters that nobody has dealt with."""
        return self._answers.notices.count

    def look(self, now_s: float) -> None:
        """Note how it goes, for the curves; call it many times a second."""
        self.observation.look(
            now_s,
            busy=self.roster.ready - self.roster.idle,
            monitor=self.monitor,
            terminals=self.terminals,
            backlog=self.backlog,
        )

    def utc(self, now_s: float) -> float:
        """A monotonic time in seconds since 1970."""
        return self._clock.at(now_s)

    def backlog(self, now_s: float) -> int:
        """Holes that are complete and wait: for a worker, or too long for MQTT's confirmation."""
        return self.ledger.waiting + self.ledger.on_wire + self.outbox.late(now_s)

    def publication(self, now_s: float) -> Publication | None:
        """The next publication to hand to MQTT."""
        if news := self._answers.notices.news(now_s):
            self.outbox.add((news,), Letter(0, "", "", None, now_s, now_s, now_s))
        try:
            found = self.outbox.next_to_send()
        except JournalError as error:
            self._log.warning("answer_unreadable", reason=str(error))
            found = None
        for letter in self.outbox.take_set_aside():
            self.delivered(letter, now_s)
        return found

    # ---- dead letters and stories -------------------------------------------------------------

    def retry(self, hole_id: int, dead: tuple[str, str, dict[str, int]], now_s: float) -> int:
        """Compute a dead letter again; returns the new hole's id.

        Args:
            hole_id: of the dead letter.
            dead: its source, part id, and messages by kind, all in the journal.
            now_s: the time.
        """
        entry = self._registrar.retried(hole_id, dead, now_s)
        self._answers.expect(entry.key[0], entry.job_id, now_s)
        self.drop(hole_id, "retried")  # only now: between the two the process may end
        self.ledger.add(entry)
        return entry.job_id

    def set_dead_letters(self, count: int) -> None:
        """So many are in the journal: some may have become too old."""
        self._answers.notices.count = count

    def drop(self, hole_id: int, how: str = "dropped") -> None:
        """Strike a dead letter off."""
        self._journal.append(Resolved(hole_id, how))
        self._answers.notices.count -= 1

    def stories(self, source: str, part_id: str) -> dict[str, list[object]]:
        """What happened so far to the open holes of a key, by hole id."""
        return {
            str(entry.job_id): entry.story.told()
            for entry in self.ledger.entries()
            if entry.key == (source, part_id)
        }
