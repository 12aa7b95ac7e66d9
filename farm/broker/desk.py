"""The `Desk`: answers what comes on the control socket, from workers, supervisor and commands.

A decision without I/O: a request and a time go in, the reply comes out. It also keeps the list of
local workers that the supervisor shall kill, since it is the supervisor who asks for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm import log, wire
from farm.broker.roster import Worker, WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.broker.flow import Flow

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


@dataclass(frozen=True, slots=True)
class _KillOrder:
    why: str
    lapses_s: float


class Desk:
    """See the module. Times are monotonic seconds."""

    def __init__(
        self,
        flow: Flow,
        introduction: Introduction,
        *,
        expected_workers: int,
        take_snapshot: Callable[[float], dict[str, Any]],
        start_drain: Callable[[], None],
    ) -> None:
        self._flow = flow
        self._introduction = introduction
        self._expected_workers = expected_workers
        self._take_snapshot = take_snapshot
        self._start_drain = start_drain
        self._kill: dict[int, _KillOrder] = {}
        self._log = log.get()
        self.was_complete = False  # all expected workers were READY at the same time, once

    def answer(self, request: wire.Message, now_s: float) -> wire.Message:
        """The reply to a request."""
        reply: wire.Message
        match request:
            case wire.Hello():
                reply = self._welcome(request, now_s)
            case wire.Ready():
                reply = self._note_ready(request, now_s)
            case wire.Heartbeat():
                reply = self._note_heartbeat(request, now_s)
            case wire.SupervisorReport():
                reply = self._serve_supervisor(request, now_s)
            case wire.StatsRequest():
                reply = wire.StatsReply(self._take_snapshot(now_s))
            case wire.Drain():
                self._start_drain()
                reply = wire.Done()
            case _:
                reply = wire.Refused(f"{type(request).__name__} is no request")
        return reply

    def fence(self, worker: Worker, cause: str, now_s: float) -> None:
        """Take a faulty worker's jobs back, forget it, and have it killed where possible."""
        self._log.warning("worker_fenced", worker=worker.name, pid=worker.pid, cause=cause)
        self._flow.counts["workers_fenced"] += 1
        if worker.local:
            self._kill[worker.pid] = _KillOrder(cause, now_s + ORDER_LIFE_S)
        self._flow.worker_gone(worker, cause, now_s)

    def _welcome(self, hello: wire.Hello, now_s: float) -> wire.Message:
        told = self._introduction
        local = hello.host == told.host
        if local:
            for former in self._flow.roster.of_pid(hello.pid):
                self._flow.worker_gone(former, "it said hello again", now_s)
        worker = self._flow.roster.hello(
            name=hello.name, host=hello.host, pid=hello.pid, local=local, now_s=now_s
        )
        return wire.Welcome(
            worker.worker_id,
            told.jobs_endpoint,
            told.results_endpoint,
            told.config,
            told.config_hash,
        )

    def _note_ready(self, ready: wire.Ready, now_s: float) -> wire.Message:
        worker = self._flow.roster.heard(ready.worker_id, now_s)
        if worker is None:
            return wire.Orders(known=False)
        self._flow.ready(worker, ready)
        count = self._flow.roster.ready
        self.was_complete = self.was_complete or count >= self._expected_workers
        self._log.info(
            "worker_ready",
            worker=worker.name,
            pid=worker.pid,
            model=ready.model_version,
            load_s=round(ready.load_s, 2),
            ready=count,
            expected=self._expected_workers,
        )
        return wire.Orders(known=True)

    def _note_heartbeat(self, beat: wire.Heartbeat, now_s: float) -> wire.Message:
        worker = self._flow.roster.heard(beat.worker_id, now_s)
        if worker is None:
            return wire.Orders(known=False)
        worker.rss_bytes = beat.rss_bytes
        if beat.state == WorkerState.DRAINING.value:
            self._flow.roster.become(worker, WorkerState.DRAINING)
        return wire.Orders(known=True)

    def _serve_supervisor(self, report: wire.SupervisorReport, now_s: float) -> wire.Message:
        for pid, how in report.exits:
            self._kill.pop(pid, None)
            for worker in self._flow.roster.of_pid(pid):
                self._flow.worker_gone(worker, how, now_s)
        self._kill = {pid: order for pid, order in self._kill.items() if order.lapses_s > now_s}
        pids = [w.pid for w in self._flow.roster.all() if w.local and w.state in UP]
        return wire.SupervisorOrders(pids, [(pid, order.why) for pid, order in self._kill.items()])
