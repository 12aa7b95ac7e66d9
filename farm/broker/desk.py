"""The `Desk`: answers what comes on the control socket, from workers, supervisor and commands.

A decision without I/O: a request and a time go in, the reply comes out. It also keeps the list of
local workers that the supervisor shall kill, since it is the supervisor who asks for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from farm import log, wire
from farm.broker.holding import batch_jobs
from farm.broker.library import Library
from farm.broker.log_levels import FLEET, OF_A_WORKER, SUPERVISOR, LogLevels
from farm.broker.roster import Worker, WorkerState
from farm.config.attach import AttachConfig
from farm.config.gpus import GPU_BATCH_JOBS
from farm.metrics.endings import ending_of
from farm.printable import printable
from farm.scaler import Bounds, Load, Scaler

if TYPE_CHECKING:
    from farm.broker.flow import Flow
    from farm.broker.slots import Slots

# A kill order is repeated until the supervisor reports the end. A worker that was started by hand
# has nobody to do that: its order lapses.
ORDER_LIFE_S = 30.0

UP = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.DRAINING)


@dataclass(frozen=True, slots=True)
class Introduction:
    """What every worker is told when it joins."""

    host: str  # ours: a worker of the same host is local
    jobs_endpoint: str
    results_endpoint: str
    config: dict[str, Any]
    config_hash: str
    far_jobs_endpoint: str = ""  # of workers that come through a door
    far_results_endpoint: str = ""
    library: Library = field(default_factory=lambda: Library(None))  # the model, for these

    @property
    def far_config_hash(self) -> str:
        """Of all that a worker of another machine is told, the model's files among it."""
        return f"{self.config_hash}-{self.library.digest}"


@dataclass(frozen=True, slots=True)
class _KillOrder:
    why: str
    lapses_s: float


class House(Protocol):
    """What the broker process itself does on request."""

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """What `farm stats` shows."""
        ...

    def drain(self) -> None:
        """Take in nothing new, finish what is open, then end."""
        ...

    def pause(self, *, is_paused: bool) -> None:
        """Take in nothing more until further notice; or go on."""
        ...

    def reload(self) -> Introduction:
        """Read the configuration again.

        Raises:
            ConfigError: it is wrong.
        """
        ...

    def dead_letter(self, hole_id: int) -> tuple[str, str, dict[str, int]]:
        """Source, part id and messages of an unresolved dead letter.

        Raises:
            LookupError: there is none of this id; the message says why.
        """
        ...


class Desk:
    """See the module. Times are monotonic seconds."""

    def __init__(
        self,
        flow: Flow,
        house: House,
        introduction: Introduction,
        *,
        slots: Slots,
        expected_workers: int,
        scaler: Scaler | None = None,
        attach: AttachConfig | None = None,
        has_fleet: bool = False,
        gpu_batch_jobs: int = GPU_BATCH_JOBS,
        is_for_gpus: bool = False,
        log_levels: LogLevels | None = None,
    ) -> None:
        self._is_for_gpus = is_for_gpus  # the model runs on nothing else
        self._most_gathered = gpu_batch_jobs
        self._attach = attach or AttachConfig()
        self._limited = log.Limited()
        self.log_levels = log_levels or LogLevels("INFO")
        self._flow = flow
        self._house = house
        self._introduction = introduction
        self._slots = slots
        fixed = Bounds(expected_workers, expected_workers)
        self.scaler = scaler or Scaler(fixed, start=expected_workers)
        self._is_told = self.scaler.is_on  # whether the supervisor is to follow our number
        self.failed_slots: list[tuple[int, str]] = []  # of the supervisor, given up
        self.gpu_workers: dict[str, Any] = {}  # as the supervisor tells it, see SupervisorReport
        self.nursery: dict[str, Any] = {}  # as the supervisor tells it; empty without one
        self._has_fleet = has_fleet  # the workers whose number counts are on Ray
        self._fleet_names: frozenset[str] = frozenset()
        self.fleet: dict[str, Any] = {}  # as the fleet tells it; empty without one
        self.exits: Counter[str] = Counter()  # of workers here, by `farm.metrics.endings.Ending`
        self._is_supervised = False  # the supervisor has told what an operator said before us
        self._resolved: set[int] = set()  # dead letters, in this life
        self._kill: dict[int, _KillOrder] = {}
        self._log = log.get()
        self.was_complete = False  # all expected workers were READY at the same time, once

    @property
    def expected_workers(self) -> int:
        """How many local workers, or of the fleet, should be READY."""
        return self.scaler.settled + (0 if self._has_fleet else len(self.gpu_workers))

    @property
    def ready_workers(self) -> int:
        """How many of these are."""
        roster = self._flow.roster
        if not self._has_fleet:
            return roster.ready - roster.elsewhere
        return sum(w.key != "" and w.name in self._fleet_names for w in roster.all_ready())

    def answer(self, request: wire.Message, now_s: float, peer: str = "") -> wire.Message:
        """The reply to a request.

        Args:
            request: what is asked; the `Gate` has let it pass.
            now_s: the time.
            peer: the name of the key by which it came through a door; "": it did not.

        Raises:
            ConfigError: a configuration that was to be read again is wrong.
        """
        reply: wire.Message
        match request:
            case wire.Hello():
                reply = self._welcome(request, now_s, peer)
            case wire.Ready():
                reply = self._note_ready(request, now_s)
            case wire.Heartbeat():
                reply = self._note_heartbeat(request, now_s)
            case wire.Fetch(name, offset):
                reply = self._introduction.library.piece(name, offset)
            case wire.SupervisorReport():
                reply = self._serve_supervisor(request, now_s)
            case wire.FleetReport(names, told):
                self._fleet_names, self.fleet = frozenset(names), told
                # before that a number that an operator has pinned is not known here
                wanted = self.scaler.wanted if self._is_supervised else -1
                reply = wire.FleetOrders(wanted, self.log_levels.of(FLEET, now_s))
            case wire.LogLevel():
                there = {worker.name for worker in self._flow.roster.all()}
                reply = self.log_levels.answer(request, there, now_s)
            case _:
                reply = self._serve_operator(request, now_s)
        return reply

    def _serve_operator(self, request: wire.Message, now_s: float) -> wire.Message:
        reply: wire.Message = wire.Done()
        match request:
            case wire.StatsRequest():
                reply = wire.StatsReply(self._house.snapshot(now_s))
            case wire.StoryRequest(source, part_id):
                reply = wire.StoryReply(self._flow.stories(source, part_id))
            case wire.Retry(hole_ids) | wire.Drop(hole_ids):
                reply = self._resolve(hole_ids, now_s, is_retried=isinstance(request, wire.Retry))
            case wire.Drain():
                self._house.drain()
            case wire.Pause() | wire.Resume():
                self._house.pause(is_paused=isinstance(request, wire.Pause))
            case wire.Scale(workers):
                reply = self._scale(workers)
            case wire.Configured(workers):
                self.scaler.configure(workers)
                self._is_told = True
            case wire.DrainWorker(name):
                reply = self._drain(name)
            case wire.Reload():
                self._reload()
            case _:
                reply = wire.Refused(f"{type(request).__name__} is no request")
        return reply

    def _reload(self) -> None:
        """The configuration is read again; the supervisor replaces its workers, we the others."""
        before = self._introduction
        self._introduction = self._house.reload()
        if self._introduction.far_config_hash != before.far_config_hash:
            for worker in self._flow.roster.all():
                if worker.key:
                    worker.leave, worker.anew = "the farm's configuration has changed", True

    def _drain(self, name: str) -> wire.Message:
        """Have the workers of a name leave."""
        found = self._flow.roster.of_name(name)
        if not found:
            known = ", ".join(sorted({worker.name for worker in self._flow.roster.all()}))
            return wire.Refused(f"there is no worker {name!r:.80}: {known or 'there is none'}")
        for worker in found:
            worker.leave, worker.anew = "an operator said so", False
        self._log.info("workers_drain", name=name, workers=len(found))
        return wire.Done()

    def _scale(self, workers: int) -> wire.Message:
        """An operator says how many workers to keep, or that the load shall."""
        if self.gpu_workers and self._is_for_gpus:
            return wire.Refused(
                "model_settings.device is cuda: there are workers with a GPU alone, whose number"
                " workers.gpus and workers.per_gpu say"
            )
        before = self.scaler.wanted
        if workers == wire.Scale.AUTO:
            self.scaler.release()
        else:
            self.scaler.pin(workers)
        self._is_told = True
        told = {"workers": self.scaler.wanted, "before": before, "pinned": self.scaler.pinned}
        self._log.info("workers_wanted", **told)
        return wire.Done()

    def _follow_load(self, now_s: float) -> None:
        """Have more or fewer workers, as the load says."""
        dispatcher, roster = self._flow.dispatcher, self._flow.roster
        if dispatcher.breaker.reason:  # what waits, waits for the model and not for workers
            return
        reading, inference = dispatcher.stages["reading"], dispatcher.stages["inference"]
        busy_s = reading.sum_s + inference.sum_s
        if self._has_fleet:
            ready = self.ready_workers
            elsewhere = roster.ready - ready
        else:
            # one with a GPU takes its part, as those elsewhere do
            local = [w for w in roster.all() if w.local and w.state in UP]
            ready = sum(not w.device for w in local)
            elsewhere = roster.elsewhere + len(local) - ready
        load = Load(
            arrival_rate=self._flow.monitor.assess(now_s, waiting=0).arrival_rate,
            backlog=self._flow.ledger.waiting + self._flow.ledger.on_wire,
            service_s=busy_s / inference.count if inference.count else None,
            ready=ready,
            elsewhere=elsewhere,
        )
        before = self.scaler.wanted
        if self.scaler.look(load, now_s):
            told = {"workers": self.scaler.wanted, "before": before}
            self._log.info("workers_scaled", **told, reason=self.scaler.reason)

    def _resolve(self, hole_ids: list[int], now_s: float, *, is_retried: bool) -> wire.Message:
        done: list[int] = []
        refused: list[tuple[int, str]] = []
        for hole_id in dict.fromkeys(hole_ids):
            try:
                letter = self._house.dead_letter(hole_id)
            except LookupError as error:
                refused.append((hole_id, str(error)))
                continue
            if hole_id in self._resolved:  # the journal may not know it yet
                refused.append((hole_id, "it has just been dealt with"))
                continue
            if is_retried and (missing := self._flow.missing(letter[2])):
                refused.append((hole_id, f"there is nothing to compute: no {missing} ever came"))
                continue
            self._resolved.add(hole_id)
            if is_retried:
                done.append(self._flow.retry(hole_id, letter, now_s))
            else:
                self._flow.drop(hole_id)
                done.append(hole_id)
        return wire.Handled(done, refused)

    def fence(self, worker: Worker, cause: str, now_s: float, *, is_by_jobs: bool = True) -> None:
        """Take a worker's jobs back, forget it, and have it killed where possible.

        `is_by_jobs` as in `let_go`.
        """
        self._log.warning("worker_fenced", worker=worker.name, pid=worker.pid, cause=cause)
        self._flow.counts["workers_fenced"] += 1
        if worker.local:
            self._kill[worker.pid] = _KillOrder(cause, now_s + ORDER_LIFE_S)
        self.let_go(worker, cause, now_s, is_by_jobs=is_by_jobs)

    def let_go(self, worker: Worker, cause: str, now_s: float, *, is_by_jobs: bool = True) -> None:
        """Forget a worker that left or ended; what it held goes to others.

        `is_by_jobs`: whether it may be the fault of what it computed, or it was we who cut it off.
        """
        # One Hello costs a stranger with a key nothing: of his the golden hole is not lost, unless
        # there are no others to tell by.
        is_witness = (
            is_by_jobs
            and worker.state is WorkerState.LOADING
            and not (worker.key and self.expected_workers)
        )
        if is_witness and self._flow.dispatcher.golden.lost():
            self._log.warning(
                "golden_hole_dropped",
                cause="new workers ended, one after the other, before they were READY",
                effect="new workers are not checked until the next hole was answered",
            )
        self._flow.dispatcher.worker_gone(worker, cause, now_s, is_by_jobs=is_by_jobs)
        self._slots.remove(worker)

    def _welcome(self, hello: wire.Hello, now_s: float, peer: str) -> wire.Message:
        told = self._introduction
        for former in self._flow.roster.of_process(peer, hello.host, hello.pid) if peer else ():
            self.let_go(former, "it said hello again", now_s)  # its reply was lost, or came late
        if peer and (fault := self._crowd(peer)):
            self._flow.counts["workers_refused"] += 1
            self._limited.warning("worker_refused", key=peer, reason=fault)
            return wire.Refused(fault)
        local = hello.host == told.host and not peer
        if local:
            for former in self._flow.roster.of_pid(hello.pid):
                self.let_go(former, "it said hello again", now_s)
        worker = self._flow.roster.hello(
            name=printable(hello.name),
            host=printable(hello.host),
            pid=hello.pid,
            local=local,
            now_s=now_s,
            key=peer,
            device=printable(hello.device),
            batch_jobs=batch_jobs(hello, most=self._most_gathered),
        )
        return wire.Welcome(
            worker.worker_id,
            told.far_jobs_endpoint if peer else told.jobs_endpoint,
            told.far_results_endpoint if peer else told.results_endpoint,
            told.config,
            told.far_config_hash if peer else told.config_hash,
            self._slots.path_of(worker),
            self._flow.dispatcher.golden.parts,
            told.library.catalogue() if peer else {},
            worker.batch_jobs,
        )

    def _crowd(self, key: str) -> str:
        """Why one more worker by this key is too many, as a sentence; "" where it is not."""
        attach = self._attach
        elsewhere = [worker.key for worker in self._flow.roster.all() if worker.key]
        if len(elsewhere) >= attach.max_workers:
            return (
                f"{len(elsewhere)} workers of other machines are here, and no more may be: raise "
                "attach.max_workers, or drain some (farm workers)"
            )
        of_key = elsewhere.count(key)
        if of_key >= attach.max_workers_per_key:
            return (
                f"{of_key} workers came in by the key {key}, and no more may: give the others a key"
                " of their own, or raise attach.max_workers_per_key"
            )
        return ""

    def _note_ready(self, ready: wire.Ready, now_s: float) -> wire.Message:
        worker = self._flow.roster.heard(ready.worker_id, now_s)
        if worker is None:
            return wire.Orders(known=False)
        golden = self._flow.dispatcher.golden.fault(ready.model_hash, ready.golden)
        cause = golden and f"the check on a golden hole failed: {golden}"
        if worker.key and not cause:
            cause = self._introduction.library.fault(ready.model_hash)
        if cause:
            self.fence(worker, cause, now_s)
            return wire.Refused(cause)  # known=False would make it join again, unchecked
        self._flow.dispatcher.ready(worker, ready)
        count = self.ready_workers
        self.was_complete = self.was_complete or count >= self.expected_workers
        self._log.info(
            "worker_ready",
            worker=worker.name,
            **({"host": worker.host, "key": worker.key} if worker.key else {}),
            pid=worker.pid,
            model=ready.model_version,
            load_s=round(ready.load_s, 2),
            ready=count,
            expected=self.expected_workers,
        )
        return wire.Orders(known=True)

    def _note_heartbeat(self, beat: wire.Heartbeat, now_s: float) -> wire.Message:
        worker = self._flow.roster.heard(beat.worker_id, now_s)
        if worker is None:
            return wire.Orders(known=False)
        worker.rss_bytes = beat.rss_bytes
        self._flow.roster.beat(worker, now_s)
        if beat.state == WorkerState.DRAINING.value:
            self._flow.roster.become(worker, WorkerState.DRAINING)
        taken, worker.taken = worker.taken, []
        level = self.log_levels.of(f"{OF_A_WORKER}{worker.name}", now_s)
        return wire.Orders(
            known=True, taken=taken, leave=worker.leave, anew=worker.anew, log_level=level
        )

    def _serve_supervisor(self, report: wire.SupervisorReport, now_s: float) -> wire.Message:
        for pid, how in report.exits:
            self.exits[ending_of(how).value] += 1
            self._kill.pop(pid, None)
            for worker in self._flow.roster.of_pid(pid):
                self.let_go(worker, how, now_s)
        self._kill = {pid: order for pid, order in self._kill.items() if order.lapses_s > now_s}
        pids = [w.pid for w in self._flow.roster.all() if w.local and w.state in UP]
        self.failed_slots, self.nursery = report.failed, report.nursery
        self.gpu_workers = report.gpus
        kill = [(pid, order.why) for pid, order in self._kill.items()]
        self._is_supervised = True
        self._follow_load(now_s)
        workers = self.scaler.wanted if self._is_told else -1
        level = self.log_levels.of(SUPERVISOR, now_s)
        return wire.SupervisorOrders(pids, kill, workers, self.scaler.pinned, level)
