"""The fleet process: keeps workers on a Ray cluster, as many as the broker says.

A child of the supervisor, and the only process of a farm that has Ray in it. What it does is the
decision of `farm.fleet.fleet`. No job and no answer comes here: workers have a line to the broker.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final

import zmq

from farm import log, wire
from farm.control import ControlClient
from farm.errors import ExitCode, WireError
from farm.fleet.cluster import Cluster, ClusterError
from farm.fleet.fleet import Fleet, Sight, shortage
from farm.gpus import on_ray
from farm.waker import Waker

if TYPE_CHECKING:
    from farm.config import Config

POLL_MS: Final = 100
LOOK_EVERY_S: Final = 0.5  # at each actor; that long a worker that ended is not noticed
REPORT_EVERY_S: Final = 0.5
ROOM_EVERY_S: Final = 5.0  # Ray is asked what its nodes have
RETRY_S: Final = 1.0
MAX_RETRY_S: Final = 30.0  # between two tries to reach the cluster; doubles up to it
LEAVE_S: Final = 4.0  # at the end of a farm: its broker has drained, so nothing is left to hand in
STOP_AFTER_JOB_S: Final = 5.0


class FleetProcess:
    """See the module.

    Args:
        config: in force.
        control_endpoint: of the broker.
    """

    def __init__(self, config: Config, *, control_endpoint: str) -> None:
        self._config = config
        self._endpoint = control_endpoint
        self._cluster = Cluster(config.ray, num_gpus=on_ray(config))
        retire_timeout_s = config.dispatch.job_timeout_s + STOP_AFTER_JOB_S
        self._fleet = Fleet(retire_timeout_s=retire_timeout_s)
        self._log = log.get()
        self._waker = Waker()
        self._is_connected = False
        self._is_asked_to_stop = False
        self._retry_s = RETRY_S
        self._next_try_s = self._next_look_s = self._next_report_s = self._next_room_s = 0.0

    def run(self) -> ExitCode:
        """Keep the fleet until told to stop; returns the exit code."""
        self._listen_to_signals()
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        timeout_s = self._config.supervisor.broker_timeout_s
        self._control = ControlClient(context, self._endpoint, timeout_s=timeout_s)
        try:
            while not self._is_asked_to_stop:
                self._wait()
                self._talk_to_broker()
                self._connect()
                self._look()
                self._find_room()
                self._act()
            self._disband()
        except ClusterError as error:
            self._log.error("fleet_failed", reason=str(error), next="started again by the farm")
            return ExitCode.FAILURE
        finally:
            self._cluster.close()
            context.destroy(linger=0)
        return ExitCode.OK

    def _listen_to_signals(self) -> None:
        """Ray sets handlers of its own, too: call again once it has."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._asked_to_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload is the supervisor's

    def _asked_to_stop(self, _signum: int, _frame: object) -> None:
        self._is_asked_to_stop = True
        self._waker.wake()

    def _wait(self) -> None:
        poller = zmq.Poller()
        poller.register(self._waker.fd, zmq.POLLIN)
        poller.register(self._control.socket, zmq.POLLIN)
        poller.poll(POLL_MS)
        self._waker.clear()

    # ---- the broker ---------------------------------------------------------------------------

    def _talk_to_broker(self) -> None:
        now_s = time.monotonic()
        try:
            reply = self._control.receive()
        except WireError as error:
            self._log.error("broker_reply_refused", reason=str(error))
            reply = None
        match reply:
            case wire.FleetOrders(workers, level):
                log.follow(level)
                if 0 <= workers != self._fleet.wanted:
                    self._log.info("fleet_wanted", workers=workers, before=self._fleet.wanted)
                    self._fleet.wanted = workers
            case None:
                pass
            case _:
                self._log.error("broker_reply_refused", reason=f"{reply!r:.200}")
        self._control.give_up_if_late()
        if self._control.is_free and now_s >= self._next_report_s:
            self._next_report_s = now_s + REPORT_EVERY_S
            self._control.send(wire.FleetReport(self._fleet.names, self._fleet.told()))

    # ---- the cluster --------------------------------------------------------------------------

    def _connect(self) -> None:
        now_s = time.monotonic()
        if self._is_connected or now_s < self._next_try_s:
            return
        try:
            self._cluster.connect()
        except ClusterError as error:
            if str(error) != self._fleet.cause:
                self._log.error("fleet_has_no_cluster", reason=str(error), next="trying again")
            self._fleet.cause = str(error)
            self._next_try_s = time.monotonic() + self._retry_s
            self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)
            return
        finally:
            self._listen_to_signals()
        self._is_connected, self._fleet.cause = True, ""
        self._log.info("fleet_connected", nodes=len(self._cluster.nodes()))

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        for name, seen in self._cluster.look():
            if isinstance(seen, Sight):
                if fault := self._fleet.seen(name, seen, now_s):
                    self._log.warning(
                        "fleet_worker_faulty", worker=name, node=seen.node, cause=fault
                    )
            elif seen is None:
                if self._fleet.silent(name, now_s):
                    self._log.warning("fleet_worker_silent", worker=name, next="Ray restarts it")
            else:
                pause_s = self._fleet.lost(name, now_s)
                self._log.error("fleet_worker_lost", worker=name, cause=seen, next_in_s=pause_s)

    def _find_room(self) -> None:
        """See that the cluster is there, and say why it does not place what it was asked for."""
        now_s = time.monotonic()
        if not self._is_connected or now_s < self._next_room_s:
            return
        self._next_room_s = now_s + ROOM_EVERY_S
        nodes = self._cluster.nodes()
        former, self._fleet.cause = self._fleet.cause, ""
        if count := self._fleet.unplaced(now_s):
            why = shortage(self._cluster.demand, nodes)
            self._fleet.cause = f"{count} of them wait to be placed: {why}"
            if self._fleet.cause != former:
                self._log.warning("fleet_workers_unplaced", workers=count, cause=why)

    def _act(self) -> None:
        if not self._is_connected:
            return
        plan = self._fleet.step(time.monotonic())
        for name in plan.end:
            self._cluster.end(name)
        for name in plan.leave:
            self._cluster.leave(name)
        for name in plan.start:
            self._cluster.start(name)

    # ---- the end ------------------------------------------------------------------------------

    def _disband(self) -> None:
        """Have all workers leave, and end those that don't."""
        self._fleet.wanted, deadline_s = 0, time.monotonic() + LEAVE_S
        while self._is_connected and not self._fleet.is_empty and time.monotonic() < deadline_s:
            self._act()
            self._look()
            self._waker.clear()
            time.sleep(POLL_MS / 1000)
        left = self._fleet.names
        for name in left:
            self._cluster.end(name)
        self._log.info("fleet_disbanded", ended_at_once=len(left))
