"""The `Flow`: the way of a hole through the broker, from part to published answer, without I/O.

It strings the stations together: correlator ▶ ledger ▶ roster ▶ sequencer ▶ answerer ▶ outbox,
and counts. The process shell feeds it arrivals, worker messages and the time, sends the jobs it
offers and publishes what lies in its outbox. Every join ends in exactly one `Terminal` state.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from farm import wire
from farm.adapter import Adapter, Answer, Finished, Publication, Route, Status, Terminal
from farm.broker.buffer import Key, Part
from farm.broker.correlator import Correlator, Event, Paired, Refused, Rules, Unpaired
from farm.broker.ledger import Entry, Ledger
from farm.broker.outbox import Letter, Outbox
from farm.broker.roster import Roster, Worker, WorkerState
from farm.broker.sequencer import Sequencer
from farm.broker.throughput import ThroughputMonitor
from farm.config import Config
from farm.errors import ReadError
from farm.log import Limited
from farm.telemetry.histogram import Histogram

STAGES = ("pairing", "queue", "transport", "reading", "inference", "publishing", "total")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A finished join on its way through the sequencer."""

    finished: Finished
    first_s: float
    last_s: float


class Flow:
    """See the module. `now_s` is monotonic; `intake_s` is read off the `IntakeClock`."""

    def __init__(self, config: Config, adapter: Adapter, now_s: float) -> None:
        self._config = config
        self._adapter = adapter
        self._answerer = adapter.answerer()
        self.correlator = Correlator(adapter.needs, _rules(config))
        self.ledger = Ledger(
            claim_timeout_s=config.dispatch.claim_timeout_s,
            job_timeout_s=config.dispatch.job_timeout_s,
            max_attempts=config.dispatch.max_attempts,
        )
        # neither worker ids nor job ids of a former broker may ever be taken for ours
        epoch = int.from_bytes(os.urandom(4), "big")
        self.roster = Roster(
            heartbeat_timeout_s=config.workers.heartbeat_timeout_s, first_id=epoch << 16
        )
        self._sequencer: Sequencer[_Outcome] = Sequencer()
        self.outbox = Outbox(max_inflight=config.mqtt.broker.max_inflight)
        self.max_packet_bytes: int | None = None  # what the MQTT broker said it takes
        self.monitor = ThroughputMonitor(
            healthy_ratio=config.throughput.healthy_ratio,
            window_s=config.throughput.window_s,
            started_s=now_s,
        )
        self.counts: Counter[str] = Counter()
        self.terminals: Counter[Terminal] = Counter()
        self.stages = {stage: Histogram() for stage in STAGES}
        self._next_ticket = epoch << 24
        self._log = Limited()

    # ---- parts in ---------------------------------------------------------------------------

    def arrived(
        self, topic: str, payload: bytes, *, arrived_s: float, intake_s: float, now_s: float
    ) -> None:
        """One message from MQTT."""
        route = self._adapter.route(topic)
        if route is None:
            self.counts["foreign_topics"] += 1
            return
        self.counts["parts"] += 1
        if len(payload) > self._config.limits.message_bytes:
            self._reject(
                route,
                f"The {route.kind} message has {len(payload)} bytes, at most "
                f"{self._config.limits.message_bytes} are taken",
                now_s,
            )
            return
        try:
            part_id = self._adapter.part_id(route.kind, payload)
        except ReadError as error:
            self._reject(route, str(error), now_s)
            return
        part = Part(route.kind, route.source, part_id, payload, intake_s)
        self._handle(self.correlator.offer(part), now_s, skew_s=arrived_s - intake_s)

    def expire(self, now_s: float, intake_s: float) -> None:
        """End the joins whose time window is over on the intake clock."""
        self._handle(self.correlator.tick(intake_s), now_s, skew_s=now_s - intake_s)

    def reclaim(self, now_s: float) -> None:
        """Take back the jobs that nobody claimed in time."""
        self.counts["reclaimed"] += self.ledger.reclaim_unclaimed(now_s)

    def flush(self, reason: str, now_s: float, intake_s: float) -> None:
        """End every open join, before a stop."""
        self._handle(self.correlator.flush(reason), now_s, skew_s=now_s - intake_s)

    def _handle(self, events: list[Event], now_s: float, *, skew_s: float) -> None:
        """Carry events on; `skew_s` turns their intake time into monotonic time."""
        for event in events:
            match event:
                case Paired(key, payloads, first_s, last_s):
                    self._queue(key, payloads, first_s + skew_s, last_s + skew_s, now_s)
                case Unpaired(key, payloads, reason):
                    self._log.warning("join_unpaired", key="/".join(key), reason=reason)
                    self._expect_and_fail(key, payloads, reason, now_s)
                case Refused(kind, key, reason):
                    self._reject(Route(kind, key[0]), reason, now_s)

    def _queue(
        self,
        key: Key,
        payloads: Mapping[str, bytes],
        first_s: float,
        last_s: float,
        now_s: float,
    ) -> None:
        ticket = self._take_ticket(key[0], now_s)
        size = sum(len(payload) for payload in payloads.values())
        self.stages["pairing"].add(last_s - first_s)
        self.ledger.add(Entry(ticket, key, payloads, size, first_s, last_s, now_s))

    def _take_ticket(self, source: str, now_s: float) -> int:
        self._next_ticket += 1
        self._sequencer.expect(source, self._next_ticket)
        self.monitor.arrived(now_s)
        self.counts["holes"] += 1
        return self._next_ticket

    def _expect_and_fail(
        self, key: Key, payloads: Mapping[str, bytes], reason: str, now_s: float
    ) -> None:
        ticket = self._take_ticket(key[0], now_s)
        finished = self._failure(key, payloads, reason)
        self._settle(ticket, _Outcome(finished, now_s, now_s), now_s)

    def _failure(self, key: Key, payloads: Mapping[str, bytes], reason: str) -> Finished:
        provenance = self._adapter.describe(payloads)
        return Finished(key[0], key[1], Status.FAILED, None, reason, provenance, "")

    def _reject(self, route: Route, reason: str, now_s: float) -> None:
        self.counts["rejected"] += 1
        self._log.warning("part_rejected", source=route.source, kind=route.kind, reason=reason)
        letter = Letter(route.source, "", None, now_s, now_s, now_s)
        if self.outbox.add(self._answerer.reject(route, reason), letter, self.max_packet_bytes):
            self.delivered(letter, now_s)

    # ---- workers ----------------------------------------------------------------------------

    def next_job(self) -> tuple[Entry, wire.Jobs] | None:
        """The job to send now, if the credit allows one; follow with `sent`."""
        entry = self.ledger.next_to_send(idle_workers=self.roster.idle)
        if entry is None:
            return None
        job = wire.Job(entry.job_id, entry.key[0], entry.key[1], entry.sends + 1, entry.payloads)
        return entry, wire.Jobs((job,))

    def sent(self, entry: Entry, now_s: float) -> None:
        """The job of `next_job` is on the wire."""
        if entry.sends == 0:
            self.stages["queue"].add(now_s - entry.queued_s)
        self.ledger.sent(entry, now_s)

    def claimed(self, message: wire.Claim, now_s: float) -> None:
        """A worker computes."""
        worker = self.roster.heard(message.worker_id, now_s)
        for job_id in message.job_ids:
            entry = self.ledger.get(job_id)
            if worker is None or entry is None:
                self.counts["late_claims"] += 1
                continue
            if entry.sends:
                self.stages["transport"].add(now_s - entry.sent_s)
            self.ledger.claim(job_id, worker.worker_id, now_s)
        if worker is not None and message.job_ids:
            self.roster.take_up(worker, message.job_ids[0], now_s)

    def bounced(self, message: wire.Bounce, now_s: float) -> None:
        """A busy worker sent jobs back."""
        self.roster.heard(message.worker_id, now_s)
        for job_id in reversed(message.job_ids):
            self.counts["bounces"] += self.ledger.bounce(job_id)

    def finished(self, message: wire.Result, now_s: float) -> None:
        """A worker's result; the first of a job wins, whoever sends it."""
        worker = self.roster.heard(message.worker_id, now_s)
        if worker is not None:
            self.roster.lay_down(worker, message.job_id)
            worker.jobs_done += 1
        entry = self.ledger.end(message.job_id)
        if entry is None:
            self.counts["late_results"] += 1
            return
        self.stages["reading"].add(message.read_s)
        self.stages["inference"].add(message.infer_s)
        try:
            status = Status(message.status)
        except ValueError:
            status = Status.FAILED
        finished = Finished(
            *entry.key,
            status,
            message.value,
            message.reason,
            message.provenance,
            message.model_version,
        )
        self._settle(entry.job_id, _Outcome(finished, entry.first_s, entry.last_s), now_s)

    def worker_gone(self, worker: Worker, cause: str, now_s: float) -> None:
        """A worker died, left or is fenced: what it held goes back, or is given up."""
        self.roster.remove(worker.worker_id)
        for entry in self.ledger.worker_gone(worker.worker_id, now_s):
            self.ledger.end(entry.job_id)
            reason = (
                f"Gave up: {entry.deaths} workers in a row ended while computing this hole "
                f"(the last one: {cause})"
            )
            finished = self._failure(entry.key, entry.payloads, reason)
            self._settle(entry.job_id, _Outcome(finished, entry.first_s, entry.last_s), now_s)

    # ---- answers out ------------------------------------------------------------------------

    def _settle(self, ticket: int, outcome: _Outcome, now_s: float) -> None:
        for released in self._sequencer.settle(outcome.finished.source, ticket, outcome):
            self._answer(released, now_s)

    def _answer(self, outcome: _Outcome, now_s: float) -> None:
        finished = outcome.finished
        answer: Answer = self._answerer.answer(finished, now_s)
        self.counts.update(answer.counts)
        if finished.status is Status.FAILED:
            self._log.warning(
                "hole_failed", source=finished.source, id=finished.part_id, reason=finished.reason
            )
        if answer.alert:
            self.counts["alerts"] += 1
            self._log.warning("alert", source=finished.source, reason=answer.alert)
        letter = Letter(
            finished.source,
            finished.part_id,
            answer.terminal,
            outcome.first_s,
            outcome.last_s,
            now_s,
        )
        if self.outbox.add(answer.publications, letter, self.max_packet_bytes):
            self.delivered(letter, now_s)

    def delivered(self, letter: Letter, now_s: float) -> None:
        """The last publication of a letter was confirmed, or none could be sent."""
        terminal = letter.terminal
        if letter.refusals:
            self.counts["refused_publications"] += len(letter.refusals)
            terminal = terminal and Terminal.DEAD
            self._log.warning(
                "answer_refused", source=letter.source, id=letter.part_id, why=letter.refusals
            )
        if terminal is None:
            return
        self.terminals[terminal] += 1
        self.monitor.processed(now_s)
        self.stages["publishing"].add(now_s - letter.answered_s)
        self.stages["total"].add(now_s - letter.last_s)

    @property
    def unanswered(self) -> int:
        """Holes that are complete and have not reached their end."""
        return self.counts["holes"] - self.terminals.total()

    @property
    def waiting(self) -> int:
        """Holes that are complete and neither on a worker nor answered: the backlog."""
        return self.ledger.waiting + self.ledger.on_wire

    def publication(self) -> Publication | None:
        """The next publication to hand to MQTT."""
        return self.outbox.next_to_send()

    def ready(self, worker: Worker, message: wire.Ready) -> None:
        """A worker has loaded and warmed up its model."""
        worker.model_version, worker.model_hash = message.model_version, message.model_hash
        worker.load_s = message.load_s
        if worker.state is WorkerState.LOADING:
            self.roster.become(worker, WorkerState.IDLE)


def _rules(config: Config) -> Rules:
    listener, correlation = config.mqtt.listener, config.correlation
    return Rules(
        time_window_s=listener.time_window,
        duplicate_window_s=listener.duplicate_time_window,
        duplicate_handling=listener.duplicate_handling,
        optional_parts=correlation.optional_parts,
        optional_wait_s=correlation.optional_wait_s,
        max_parts=listener.max_buffer_size,
        max_parts_per_source=correlation.max_parts_per_source,
    )
