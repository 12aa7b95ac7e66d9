"""The `Roster`: which workers there are, whether they live, and which of them are idle.

A decision without I/O. *Liveness* is any message from this incarnation; *progress* is the age of
the claimed job. A worker that lacks either is fenced: its id is void, and if it speaks again it is
told to say Hello anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from farm.broker.holding import patience
from farm.broker.turnover import Turnover

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class WorkerState(Enum):
    """What a worker is doing, as the broker knows it."""

    LOADING = "loading"  # said Hello, loads and warms up its model
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"  # finishes what it has and leaves


RATE_S = 10.0

READY = (WorkerState.IDLE, WorkerState.BUSY)


@dataclass(slots=True)
class Worker:
    """One incarnation of one worker."""

    worker_id: int
    name: str
    host: str
    pid: int
    local: bool
    joined_s: float
    heard_s: float
    state: WorkerState = WorkerState.LOADING
    model_version: str = ""
    model_hash: str = ""
    load_s: float = 0.0
    jobs_done: int = 0
    jobs_claimed: int = 0  # if it is elsewhere
    jobs_late: int = 0  # that somebody else had finished before
    rss_bytes: int = 0
    current: int | None = None  # the job it claimed
    current_since_s: float = 0.0
    batch: int = 1  # how many it claimed together
    rate_hz: float = 0.0  # jobs done a second, over the last RATE_S or so
    beat_s: float = 0.0  # when that was looked at last
    beat_jobs: int = 0  # and how many jobs were done by then
    key: str = ""  # by whose name it came through a door; "": it did not
    device: str = ""  # the GPU that it computes on; "": none
    batch_jobs: int = 0  # of one batch that it gathers; 0: it gathers none
    held: dict[int, int] = field(default_factory=dict)  # of one that does: jobs with their bytes
    held_bytes: int = 0
    service_s: float | None = None  # of one job, about, likewise
    taken: list[int] = field(default_factory=list)  # its results since its last heartbeat, then
    leave: str = ""  # why it is to finish and leave; "": it is not
    anew: bool = False  # and to come back as a new process


class Roster:
    """See the module. Times are monotonic seconds."""

    def __init__(self, *, heartbeat_timeout_s: float, first_id: int) -> None:
        self._timeout_s = heartbeat_timeout_s
        self._workers: dict[int, Worker] = {}
        self._last_id = first_id - 1  # drawn anew for each broker: old ids must mean nobody
        self._idle = 0
        self._ready = 0  # idle or busy
        self._elsewhere = 0  # of these
        self._gathering: dict[int, Worker] = {}  # those that are ready and gather messages
        self.turnover = Turnover()

    @property
    def idle(self) -> int:
        """How many workers are ready and have nothing to do."""
        return self._idle

    @property
    def ready(self) -> int:
        """How many workers are ready, idle or busy."""
        return self._ready

    @property
    def elsewhere(self) -> int:
        """How many of the ready workers are on other machines."""
        return self._elsewhere

    @property
    def gathering(self) -> Collection[Worker]:
        """The ready workers that gather messages: those with a GPU. The counts have them, too."""
        return self._gathering.values()

    def all(self) -> tuple[Worker, ...]:
        """Every worker, oldest first."""
        return tuple(self._workers.values())

    def all_ready(self) -> tuple[Worker, ...]:
        """Those that are idle or busy, oldest first."""
        return tuple(w for w in self._workers.values() if w.state in READY)

    def get(self, worker_id: int) -> Worker | None:
        """The worker of an id, unless it was fenced or left."""
        return self._workers.get(worker_id)

    def of_pid(self, pid: int) -> tuple[Worker, ...]:
        """Every incarnation of a local process."""
        return tuple(w for w in self._workers.values() if w.local and w.pid == pid)

    def of_process(self, key: str, host: str, pid: int) -> tuple[Worker, ...]:
        """Every incarnation of a process on another machine."""
        return tuple(
            w for w in self._workers.values() if w.key == key and (w.host, w.pid) == (host, pid)
        )

    def of_name(self, name: str) -> tuple[Worker, ...]:
        """Every worker of a name; those of other machines also by the name of their key."""
        return tuple(w for w in self._workers.values() if name in (w.name, w.key))

    def of_key(self, key: str) -> tuple[Worker, ...]:
        """Every worker that came in by this key."""
        return tuple(w for w in self._workers.values() if key and w.key == key)

    def hello(
        self,
        *,
        name: str,
        host: str,
        pid: int,
        local: bool,
        now_s: float,
        key: str = "",
        device: str = "",
        batch_jobs: int = 0,
    ) -> Worker:
        """Take a worker in, under a new id."""
        self._last_id += 1
        worker = Worker(
            self._last_id,
            name,
            host,
            pid,
            local,
            joined_s=now_s,
            heard_s=now_s,
            key=key,
            device=device,
            batch_jobs=batch_jobs,
        )
        self._workers[worker.worker_id] = worker
        self.turnover.came(worker)
        return worker

    def heard(self, worker_id: int, now_s: float) -> Worker | None:
        """Any message came from this worker. None: it is not (or no longer) one of ours."""
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.heard_s = now_s
        return worker

    def beat(self, worker: Worker, now_s: float) -> None:
        """A heartbeat came: see how fast the worker is."""
        if worker.beat_s:
            elapsed_s = max(now_s - worker.beat_s, 1e-6)
            rate_hz = (worker.jobs_done - worker.beat_jobs) / elapsed_s
            worker.rate_hz += (rate_hz - worker.rate_hz) * -math.expm1(-elapsed_s / RATE_S)
        worker.beat_s, worker.beat_jobs = now_s, worker.jobs_done

    def become(self, worker: Worker, state: WorkerState) -> None:
        """Change a worker's state, keeping count."""
        self._idle += (state is WorkerState.IDLE) - (worker.state is WorkerState.IDLE)
        becomes_ready = (state in READY) - (worker.state in READY)
        self._ready += becomes_ready
        self._elsewhere += 0 if worker.local else becomes_ready
        worker.state = state
        if worker.batch_jobs and becomes_ready:
            if becomes_ready > 0:
                self._gathering[worker.worker_id] = worker
            else:
                del self._gathering[worker.worker_id]

    def take_up(self, worker: Worker, job_id: int, now_s: float, *, batch: int = 1) -> None:
        """The worker claimed a job, the first of a batch of so many."""
        if worker.state is WorkerState.IDLE:
            self.become(worker, WorkerState.BUSY)
        worker.current, worker.current_since_s, worker.batch = job_id, now_s, batch

    def gathered(self, worker: Worker, jobs: Mapping[int, int], now_s: float) -> None:
        """A worker that gathers has claimed a message: these jobs, with the bytes of each."""
        is_first = not worker.held
        worker.held.update(jobs)
        worker.held_bytes = sum(worker.held.values())
        batch = patience(len(worker.held))
        if is_first:
            self.take_up(worker, next(iter(jobs)), now_s, batch=batch)
        worker.batch = batch

    def lay_down(self, worker: Worker, job_id: int, now_s: float = 0.0) -> None:
        """The worker is done with a job."""
        if worker.batch_jobs:
            worker.held_bytes -= worker.held.pop(job_id, 0)
            if worker.held and worker.current not in worker.held:  # on with the next: its time runs
                worker.current, worker.current_since_s = next(iter(worker.held)), now_s
            if worker.held:
                return
            job_id = worker.current if worker.current is not None else job_id
        if worker.current == job_id:
            worker.current = None
            if worker.state is WorkerState.BUSY:
                self.become(worker, WorkerState.IDLE)

    def remove(self, worker_id: int) -> Worker | None:
        """The worker died, left or is fenced."""
        worker = self._workers.pop(worker_id, None)
        if worker is not None:
            self._idle -= worker.state is WorkerState.IDLE
            self._ready -= worker.state in READY
            self._elsewhere -= worker.state in READY and not worker.local
            self._gathering.pop(worker_id, None)
        return worker

    def silent(self, now_s: float) -> tuple[Worker, ...]:
        """Workers that were not heard of for longer than the timeout."""
        return tuple(w for w in self._workers.values() if self.is_silent(w, now_s))

    def is_silent(self, worker: Worker, now_s: float) -> bool:
        """Whether a worker was not heard of for longer than the timeout."""
        return now_s - worker.heard_s > self._timeout_s

    def stuck(
        self, now_s: float, timeout_s: float, others_s: Mapping[int, float] | None = None
    ) -> tuple[Worker, ...]:
        """Workers that take longer over a job, be it open in the ledger or not any more.

        Args:
            now_s: the time.
            timeout_s: of one job: a batch may take it for each of its jobs.
            others_s: of workers, by id, for which it is another one, for a whole batch.
        """
        others_s = others_s or {}
        return tuple(
            worker
            for worker in self._workers.values()
            if worker.current is not None
            and now_s - worker.current_since_s
            > others_s.get(worker.worker_id, timeout_s * worker.batch)
        )

    def stalled(self, now_s: float, after_s: float) -> int:
        """How many have a job for longer than `after_s` for each of its batch.

        Those with a GPU don't count: they use no core in any case.
        """
        return sum(
            worker.current is not None
            and not worker.batch_jobs
            and now_s - worker.current_since_s > after_s * worker.batch
            for worker in self._workers.values()
        )

    def over_memory(self, limit_bytes: int) -> tuple[Worker, ...]:
        """Workers whose memory, as they told last, is beyond the limit; 0: there is none."""
        if not limit_bytes:
            return ()
        return tuple(w for w in self._workers.values() if w.rss_bytes > limit_bytes)
