"""The `Dispatcher`: which job goes out when, and what becomes of it among the workers.

It strings together the ledger (where each job is), the roster (who lives and is idle), the batching
and the concurrency (how many jobs, to how many workers), the deadline, the breaker (whether the
model is to blame) and the golden hole. How a hole ends it tells through two callbacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm import failpoints, log, wire
from farm.adapter import Finished, Status
from farm.broker import holding
from farm.broker.batching import Batching
from farm.broker.breaker import Breaker
from farm.broker.concurrency import Concurrency, stalled_after_s
from farm.broker.faults import Faults
from farm.broker.golden import Golden
from farm.broker.ledger import Ledger
from farm.broker.roster import Roster, Worker, WorkerState
from farm.cores import cores
from farm.errors import JournalBusyError, JournalError
from farm.journal.records import Hurt
from farm.printable import printable
from farm.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from farm.broker.buffer import Key
    from farm.broker.entry import Entry
    from farm.config import Config
    from farm.journal.journal import Recorder


FEW_LATE = 10  # results that came too late, of a worker elsewhere: by chance
MAX_TAKEN = 10_000  # results of one worker between two heartbeats; a forger has any number

_STATUSES = {status.value: status for status in Status}


def pack(batch: list[Entry]) -> wire.Jobs:
    """Jobs as they travel; their payloads are in memory."""
    jobs = []
    for entry in batch:
        assert entry.payloads is not None
        jobs.append(wire.Job(entry.job_id, *entry.key, entry.sends, entry.payloads, entry.ticket))
    # one with a GPU gathers messages: there, too, it must not get into a batch of others
    return wire.Jobs(tuple(jobs), alone=len(batch) == 1 and batch[0].is_alone)


def gave_up(entry: Entry) -> str:
    """Why a hole that ended too many workers gets no answer."""
    return f"Gave up: {entry.deaths} workers in a row ended while computing this hole"


class Dispatcher:
    """See the module. `now_s` is monotonic.

    Args:
        config: all of it.
        journal: where kills are recorded, and payloads lie that wait on disk.
        first_worker_id: ids of workers rise from here.
        counts: raised here: late_claims, late_results, bounces, reclaimed, parcels.
        read_slot: the jobs that a dead worker was computing; None where nobody can know.
        done: told of a job with a worker's result.
        failed: told of a job that is given up, with the reason.
    """

    def __init__(
        self,
        config: Config,
        *,
        journal: Recorder,
        first_worker_id: int,
        counts: Counter[str],
        read_slot: Callable[[Worker], frozenset[int] | None],
        done: Callable[[Entry, Finished, float], None],
        failed: Callable[[Entry, str, float], None],
    ) -> None:
        self._limited = log.Limited()
        self._journal = journal
        self._counts = counts
        self._read_slot = read_slot
        self._done = done
        self._failed = failed
        dispatch, overload = config.dispatch, config.overload
        self.ledger = Ledger(
            claim_timeout_s=dispatch.claim_timeout_s,
            max_attempts=dispatch.max_attempts,
            objective_s=overload.objective_s,
            late_share=overload.late_share,
        )
        self.breaker = Breaker(
            kills=dispatch.breaker_kills,
            window_s=dispatch.breaker_window_s,
            pause_s=dispatch.breaker_pause_s,
        )
        self.golden = Golden()
        self.concurrency = Concurrency(parallel=max(1, cores() // config.workers.threads))
        self._stalled = 0
        self.batching = Batching(
            most_jobs=dispatch.batch_jobs,
            most_bytes=dispatch.batch_bytes,
            objective_s=overload.objective_s,
        )
        self._message_jobs = dispatch.batch_jobs
        self._objective_s = overload.objective_s
        self.roster = Roster(
            heartbeat_timeout_s=config.workers.heartbeat_timeout_s, first_id=first_worker_id
        )
        self.faults = Faults(config, self.roster, self.ledger)
        self.stages = {
            "queue": Histogram(),
            "transport": Histogram(),
            "reading": Histogram(),
            "inference": Histogram(),
        }

    # ---- jobs out ---------------------------------------------------------------------------

    def next_jobs(self, now_s: float) -> list[Entry]:
        """The jobs to send now as one message, if the credit allows one; else none.

        Follow with `sent`, `held_back` or `unsendable`.
        """
        on_workers = self.ledger.claimed + self.ledger.on_wire
        if not self.breaker.allows(now_s, open_on_workers=on_workers):
            return []
        batch: list[Entry] = []
        most, room = 1, self.batching.most_bytes
        try:
            while len(batch) < most:
                if batch:
                    entry = self.ledger.next_waiting(now_s)
                else:
                    entry = self.ledger.next_to_send(now_s, idle_workers=self.credit)
                if entry is None or (batch and (entry.is_alone or entry.payload_bytes > room)):
                    break
                if entry.payloads is None and not self._fetch(entry, now_s):
                    continue
                if not batch:
                    most = self._most_jobs(entry)
                self.ledger.sent(entry, now_s, with_last=bool(batch))
                batch.append(entry)
                room -= entry.payload_bytes
        except JournalBusyError as error:
            self._limited.warning("journal_busy", reason=str(error), next="trying again")
        return batch

    @property
    def credit(self) -> int:
        """How many messages with jobs may be on the wire unclaimed."""
        roster, gathering = self.roster, self.roster.gathering
        idle, ready, elsewhere, room = roster.idle, roster.ready, roster.elsewhere, 0
        if gathering:  # they use no cores, and take as many messages as they have room for
            idle -= sum(worker.state is WorkerState.IDLE for worker in gathering)
            ready -= len(gathering)
            elsewhere -= sum(not worker.local for worker in gathering)
            room = holding.room(
                gathering,
                message_jobs=self._jobs_of_a_message(),
                full_jobs=self._message_jobs,
                message_bytes=self.batching.most_bytes,
                objective_s=self._objective_s,
            )
        return room + self.concurrency.credit(
            idle=idle, busy=ready - idle, elsewhere=elsewhere, stalled=self._stalled
        )

    def _jobs_of_a_message(self) -> int:
        """How many the messages have, those on the wire and the next one."""
        ledger = self.ledger
        on_wire = -(-ledger.on_wire // ledger.parcels) if ledger.parcels else 1
        return max(on_wire, self._size())

    def _most_jobs(self, first: Entry) -> int:
        if first.is_alone or not self.breaker.is_blaming:
            return 1
        return self._size()

    def _size(self) -> int:
        roster, most = self.roster, self.concurrency.most
        at_once = roster.ready
        if most is not None:
            free = roster.elsewhere + sum(worker.local for worker in roster.gathering)
            at_once = min(at_once, most + free)
        waiting = self.ledger.waiting
        if roster.gathering and len(roster.gathering) == roster.ready:  # what they hold is bounded
            return self.batching.share(waiting=waiting, workers=at_once)
        return self.batching.size(waiting=waiting, workers=at_once)

    def _fetch(self, entry: Entry, now_s: float) -> bool:
        """Bring a job's payloads back from disk; False: they are lost, and so is the hole.

        Raises:
            JournalBusyError: they can't be read now.
        """
        try:
            self.ledger.restore(entry, self._journal.parts(entry.messages))
        except JournalBusyError:
            raise
        except JournalError as error:
            self.ledger.end(entry.job_id)
            self._failed(entry, f"The hole's messages are damaged on disk: {error}", now_s)
            return False
        return True

    def unsendable(self, batch: list[Entry], why: str, now_s: float) -> None:
        """The jobs of `next_jobs` can't be put on the wire: one of them never can."""
        if len(batch) == 1:
            self.ledger.end(batch[0].job_id)
            self._failed(batch[0], f"The hole can't be sent to a worker: {why}", now_s)
            return
        for entry in batch:  # each by itself: so it is found out which one
            entry.is_unfit = True
        self.held_back(batch, now_s)

    def held_back(self, batch: list[Entry], now_s: float) -> None:
        """The jobs of `next_jobs` did not go out now: they are the next ones again."""
        for entry in reversed(batch):
            self.ledger.held_back(entry, now_s)

    def sent(self, batch: list[Entry], now_s: float) -> None:
        """The jobs of `next_jobs` are on the wire."""
        failpoints.reach(failpoints.DISPATCHED)
        self._counts["parcels"] += 1
        queue = self.stages["queue"]
        for entry in batch:
            if entry.sends == 1:
                queue.add(now_s - entry.queued_s)

    def reclaim(self, now_s: float) -> None:
        """Take back the jobs that nobody claimed in time, and see who is stalled."""
        self._counts["reclaimed"] += self.ledger.reclaim_unclaimed(now_s)
        after_s = stalled_after_s(self.batching.service_s)
        self._stalled = self.roster.stalled(now_s, after_s) + self.ledger.stalled(now_s, after_s)

    # ---- workers ----------------------------------------------------------------------------

    def claimed(self, message: wire.Claim, now_s: float) -> None:
        """A worker computes."""
        worker = self.roster.heard(message.worker_id, now_s)
        batch = len(message.job_ids)
        if worker is not None and worker.key:
            worker.jobs_claimed += batch
        if worker is not None and worker.batch_jobs and batch:
            batch = self._gathered(worker, message.job_ids, now_s)
        for job_id in message.job_ids:
            entry = self.ledger.get(job_id)
            if worker is None or entry is None:
                self._counts["late_claims"] += 1
                continue
            if entry.sends:
                self.stages["transport"].add(now_s - entry.sent_s)
            self.ledger.claim(job_id, worker.worker_id, now_s, who=worker.name, batch=batch)
        if worker is not None and message.job_ids and not worker.batch_jobs:
            self.roster.take_up(worker, message.job_ids[0], now_s, batch=batch)

    def _gathered(self, worker: Worker, job_ids: list[int], now_s: float) -> int:
        """A worker with a GPU holds more now; returns how long that may take, in jobs."""
        entries = [self.ledger.get(job_id) for job_id in job_ids]
        sizes = [0 if entry is None else entry.payload_bytes for entry in entries]
        self.roster.gathered(worker, dict(zip(job_ids, sizes, strict=True)), now_s)
        return holding.patience(len(worker.held))

    def bounced(self, message: wire.Bounce, now_s: float) -> str:
        """A busy worker sent jobs back. Returns its key where it had to: we knew it to be busy."""
        worker = self.roster.heard(message.worker_id, now_s)
        bounces = 0
        for job_id in reversed(message.job_ids):
            bounces += self.ledger.bounce(job_id, now_s)
        self._counts["bounces"] += bounces
        return worker.key if worker is not None and bounces and worker.current is not None else ""

    def finished(self, message: wire.Result, now_s: float, *, batch: int = 1) -> None:
        """A worker's result; the first of a job wins, whoever sends it.

        `batch`: how many have come together, as those of one batch do.
        """
        failpoints.reach(failpoints.DONE)
        worker = self.roster.heard(message.worker_id, now_s)
        if worker is not None:
            self.roster.lay_down(worker, message.job_id, now_s)
            if worker.key and len(worker.taken) < MAX_TAKEN:  # what is not told comes again
                worker.taken.append(message.job_id)
        entry = self.ledger.end(message.job_id)
        if entry is None:
            self._counts["late_results"] += 1
            if worker is not None and worker.key:
                self._too_late(worker)
            return
        if worker is not None:
            worker.jobs_done += 1
        self.breaker.came_home(entry.job_id, now_s)
        took_s = message.read_s + message.infer_s
        self._measured(worker, took_s, message.demand, batch)
        self.stages["reading"].add(message.read_s)
        self.stages["inference"].add(message.infer_s)
        done = _finished(entry.key, message)
        # What one from another machine says is no measure for ours, unless there are no others.
        is_measure = worker is None or not worker.key or self.roster.ready == self.roster.elsewhere
        if done.status is Status.OK and is_measure:
            self.golden.keep(entry.payloads, done.value, done.model_hash, now_s)
        by = worker.name if worker is not None else "a worker that has left"
        entry.story.note(now_s, "computed", f"worker {by}, {1000 * message.infer_s:.2f} ms")
        self._done(entry, done, now_s)

    def _too_late(self, worker: Worker) -> None:
        if worker.jobs_done + worker.jobs_late >= worker.jobs_claimed:
            return  # it sends again what had come: the connection was lost before it was told
        worker.jobs_late += 1
        if worker.jobs_late >= FEW_LATE and worker.jobs_late > worker.jobs_done:
            self._limited.warning(
                "results_too_late",
                worker=worker.name,
                late=worker.jobs_late,
                in_time=worker.jobs_done,
                effect="it computes what others have done meanwhile, and is of no use",
                cure="a slow link: dispatch.claim_timeout_s well over its round trip; or drain it",
            )

    def _measured(self, worker: Worker | None, took_s: float, demand: float, batch: int) -> None:
        """Messages and the deadline are made for workers without a GPU: what one with it takes says
        nothing of them. Its share for a job says little of the next call, which may be of one job.
        """
        if worker is not None and worker.batch_jobs:
            self.faults.call_deadline.measured(took_s * batch)
            holding.measured(worker, took_s)
            if len(self.roster.gathering) == self.roster.ready:
                self.batching.measured(took_s)
            return
        self.faults.deadline.measured(took_s)
        self.batching.measured(took_s)
        if worker is not None and worker.local:
            self.concurrency.measured(demand)

    def _computing(self, worker: Worker) -> frozenset[int] | None:
        """The jobs that a worker that ended was computing; None where nobody can know."""
        found = self._read_slot(worker)
        if found is None and worker.batch_jobs:
            return holding.first_batch(worker, is_alone=self._is_alone)
        return found

    def _is_alone(self, job_id: int) -> bool:
        entry = self.ledger.get(job_id)
        return entry is not None and entry.is_alone

    def worker_gone(
        self, worker: Worker, cause: str, now_s: float, *, is_by_jobs: bool = True
    ) -> None:
        """A worker died, left or is fenced: what it held goes back, or is given up.

        `is_by_jobs`: whether it may be the fault of what it computed, or it was we who cut it off.
        """
        self.roster.remove(worker.worker_id)
        self.roster.turnover.went(worker, cause, now_s)
        loss = self.ledger.worker_gone(
            worker.worker_id,
            now_s,
            computing=self._computing(worker) if is_by_jobs else frozenset(),
            is_blaming=self.breaker.is_blaming,
            who=worker.name,
            cause=cause,
        )
        # one death, however many were in the batch; a cable that was cut is none of the model's
        if loss.blamed and not (worker.key and self.roster.is_silent(worker, now_s)):
            self.breaker.killed(loss.blamed[0].job_id, now_s)
        for entry in loss.blamed:
            self._journal.append(Hurt(entry.job_id, entry.deaths, entry.story.told()))
        for entry in loss.exhausted:
            self.ledger.end(entry.job_id)
            reason = f"{gave_up(entry)} (the last one: {cause})"
            self._failed(entry, reason, now_s)

    def ready(self, worker: Worker, message: wire.Ready) -> None:
        """A worker has loaded and warmed up its model."""
        worker.model_version = printable(message.model_version)
        worker.model_hash = printable(message.model_hash)
        worker.load_s = message.load_s
        if worker.state is WorkerState.LOADING:
            # its claim may have overtaken this: claims come on another socket
            busy = worker.current is not None
            self.roster.become(worker, WorkerState.BUSY if busy else WorkerState.IDLE)


def _finished(key: Key, message: wire.Result) -> Finished:
    status, reason = _STATUSES.get(message.status), message.reason
    if status is None:
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
