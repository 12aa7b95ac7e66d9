"""The `Flow`: the way of a hole through the broker, from part to published answer, without I/O.

It strings the stations together: correlator ▶ ledger and roster ▶ answers ▶ outbox, and counts. The
process shell feeds it arrivals, worker messages and the time, sends the jobs it offers and
publishes what lies in its outbox. Every join ends in exactly one `Terminal` state.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from farm import log, wire
from farm.adapter import Finished, Route, Status
from farm.broker.answers import Answers, Outcome
from farm.broker.buffer import Key, Part
from farm.broker.correlator import Correlator, Event, Paired, Refused, Rules, Unpaired
from farm.broker.guard import GuardedAdapter, GuardedAnswerer
from farm.broker.ledger import Entry, Ledger
from farm.broker.outbox import Letter, Outbox
from farm.broker.roster import Roster, Worker, WorkerState
from farm.broker.throughput import ThroughputMonitor
from farm.errors import ReadError
from farm.log import Limited
from farm.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from farm.adapter import Adapter, Publication, Terminal
    from farm.config import Config

# An answer is two publications; a source that sends rubbish gets error messages beyond that.
PUBLICATIONS_PER_JOB = 4


class Flow:
    """See the module. `now_s` is monotonic; `intake_s` is read off the `IntakeClock`."""

    def __init__(self, config: Config, adapter: Adapter, now_s: float) -> None:
        self._config = config
        self.counts: Counter[str] = Counter()
        self._adapter = GuardedAdapter(
            adapter, max_part_bytes=config.limits.message_bytes, counts=self.counts
        )
        self.kinds = tuple(adapter.needs)
        self.correlator = Correlator(adapter.needs, _rules(config))
        self.ledger = Ledger(
            claim_timeout_s=config.dispatch.claim_timeout_s,
            job_timeout_s=config.dispatch.job_timeout_s,
            max_attempts=config.dispatch.max_attempts,
        )
        # neither worker ids nor job ids of a former broker may ever be taken for ours
        epoch = int.from_bytes(os.urandom(4), "big")
        self.roster = Roster(
            heartbeat_timeout_s=config.workers.heartbeat_timeout_s,
            job_timeout_s=config.dispatch.job_timeout_s,
            first_id=epoch << 16,
        )
        self.outbox = Outbox(max_inflight=config.mqtt.broker.max_inflight)
        self.monitor = ThroughputMonitor(
            healthy_ratio=config.throughput.healthy_ratio,
            window_s=config.throughput.window_s,
            started_s=now_s,
        )
        answerer = GuardedAnswerer(adapter.answerer(), self.counts)
        self._answers = Answers(answerer, self.outbox, self.monitor, self.counts)
        self.stages = {
            "pairing": Histogram(),
            "queue": Histogram(),
            "transport": Histogram(),
            "reading": Histogram(),
            "inference": Histogram(),
            "publishing": self._answers.publishing,
            "total": self._answers.total,
        }
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
        try:
            part_id = self._adapter.part_id(route.kind, payload)
        except ReadError as error:
            self._answers.reject(route, str(error), now_s)
            return
        part = Part(route.kind, route.source, part_id, payload, intake_s)
        self._handle(self.correlator.offer(part), now_s, skew_s=arrived_s - intake_s)

    def expire(self, now_s: float, intake_s: float) -> None:
        """End the joins whose time window is over on the intake clock."""
        self._handle(self.correlator.tick(intake_s), now_s, skew_s=now_s - intake_s)

    def reclaim(self, now_s: float) -> None:
        """Take back the jobs that nobody claimed in time."""
        self.counts["reclaimed"] += self.ledger.reclaim_unclaimed(now_s)

    def suspend(self, save: Callable[[list[Part]], None], *, now_s: float, intake_s: float) -> None:
        """Before a stop: go on with what is complete, and have the parts that wait kept.

        Their partners come to the next life of the farm. Where `save` raises OSError, their holes
        are answered with an error instead.
        """
        skew_s = now_s - intake_s
        self._handle(self.correlator.release_complete(intake_s), now_s, skew_s=skew_s)
        try:
            save(self.correlator.open_parts())
        except OSError as error:
            log.get().error(
                "carryover_unsaved", reason=str(error), parts=len(self.correlator.buffer)
            )
            reason = f"the farm was stopped and could not keep what waited: {error.strerror}"
            self._handle(self.correlator.flush(reason, intake_s), now_s, skew_s=skew_s)
        else:
            self.correlator.hand_over()

    def resume(self, parts: list[Part], now_s: float) -> None:
        """After a start: what the life before had kept."""
        for part in parts:
            self._handle(self.correlator.offer(part), now_s, skew_s=now_s)

    def _handle(self, events: list[Event], now_s: float, *, skew_s: float) -> None:
        """Carry events on; `skew_s` turns their intake time into monotonic time."""
        for event in events:
            match event:
                case Paired(key, payloads, first_s, last_s):
                    self._queue(key, payloads, first_s + skew_s, last_s + skew_s, now_s)
                case Unpaired(key, payloads, reason):
                    self._expect_and_fail(key, payloads, reason, now_s)
                case Refused(kind, key, reason):
                    self._answers.reject(Route(kind, key[0]), reason, now_s)

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
        self.stages["pairing"].add(now_s - first_s)
        self.ledger.add(Entry(ticket, key, payloads, size, first_s, last_s, now_s))

    def _take_ticket(self, source: str, now_s: float) -> int:
        self._next_ticket += 1
        self._answers.expect(source, self._next_ticket, now_s)
        return self._next_ticket

    def _expect_and_fail(
        self, key: Key, payloads: Mapping[str, bytes], reason: str, now_s: float
    ) -> None:
        ticket = self._take_ticket(key[0], now_s)
        failure = self._failure(key, payloads, reason)
        self._answers.settle(Outcome(ticket, failure, now_s, now_s), now_s)

    def _failure(self, key: Key, payloads: Mapping[str, bytes], reason: str) -> Finished:
        provenance = self._adapter.describe(payloads)
        return Finished(*key, Status.FAILED, None, reason, provenance, "", "")

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
        self._answers.settle(
            Outcome(entry.job_id, _finished(entry.key, message), entry.first_s, entry.last_s), now_s
        )

    def worker_gone(self, worker: Worker, cause: str, now_s: float) -> None:
        """A worker died, left or is fenced: what it held goes back, or is given up."""
        self.roster.remove(worker.worker_id)
        for entry in self.ledger.worker_gone(worker.worker_id, now_s):
            self.ledger.end(entry.job_id)
            reason = (
                f"Gave up: {entry.deaths} workers in a row ended while computing this hole "
                f"(the last one: {cause})"
            )
            failure = self._failure(entry.key, entry.payloads, reason)
            outcome = Outcome(entry.job_id, failure, entry.first_s, entry.last_s)
            self._answers.settle(outcome, now_s)

    def faulty(self, now_s: float) -> list[tuple[Worker, str]]:
        """The workers to fence now, each once, with the cause in words."""
        found: dict[int, tuple[Worker, str]] = {}
        for worker in self.roster.silent(now_s):
            cause = f"silent for {now_s - worker.heard_s:.1f} s"
            found[worker.worker_id] = (worker, cause)
        limit = f"over {self._config.dispatch.job_timeout_s:g} s on"
        for entry, worker_id in self.ledger.overdue(now_s):
            if at_fault := self.roster.get(worker_id):
                cause = f"{limit} {'/'.join(entry.key)}; raise dispatch.job_timeout_s"
                found.setdefault(worker_id, (at_fault, cause))
        for worker in self.roster.stuck(now_s):
            cause = f"{limit} a hole that another worker has answered"
            found.setdefault(worker.worker_id, (worker, cause))
        return list(found.values())

    def ready(self, worker: Worker, message: wire.Ready) -> None:
        """A worker has loaded and warmed up its model."""
        worker.model_version, worker.model_hash = message.model_version, message.model_hash
        worker.load_s = message.load_s
        if worker.state is WorkerState.LOADING:
            # its claim may have overtaken this: claims come on another socket
            busy = worker.current is not None
            self.roster.become(worker, WorkerState.BUSY if busy else WorkerState.IDLE)

    # ---- answers out ------------------------------------------------------------------------

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

    def backlog(self, now_s: float) -> int:
        """Holes that are complete and wait: for a worker, or too long for MQTT's confirmation."""
        return self.ledger.waiting + self.ledger.on_wire + self.outbox.late(now_s)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be taken in until some of what is open has left."""
        limits = self._config.dispatch
        return (
            self.unanswered >= limits.max_open_jobs
            or self.ledger.open_bytes >= limits.max_open_bytes
            or len(self.outbox) >= PUBLICATIONS_PER_JOB * limits.max_open_jobs
        )

    def publication(self) -> Publication | None:
        """The next publication to hand to MQTT."""
        return self.outbox.next_to_send()


def _finished(key: Key, message: wire.Result) -> Finished:
    try:
        status, reason = Status(message.status), message.reason
    except ValueError:
        status, reason = Status.FAILED, f"The worker ended with the unknown status {message.status}"
    return Finished(
        *key,
        status,
        message.value,
        reason,
        message.provenance,
        message.model_version,
        message.model_hash,
    )


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
        max_bytes=config.dispatch.max_open_bytes,
    )
