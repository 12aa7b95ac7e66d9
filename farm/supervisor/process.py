"""The supervisor process: spawns, watches, restarts and stops. The decisions are the pool's, what
is said to the broker and by it is the dialogue's, who is stuck the watch's.

Signal handlers only record; the loop acts. Children are started from the main thread, each in a
process group of its own, so that Ctrl-C in a terminal reaches the supervisor alone.
"""

from __future__ import annotations

import os
import signal
import time
from enum import Enum
from typing import TYPE_CHECKING

import zmq

from farm import log
from farm.config.reload import RAY
from farm.control import ControlClient
from farm.errors import ExitCode
from farm.supervisor.aside import page_of
from farm.supervisor.children import Children
from farm.supervisor.dialogue import Dialogue
from farm.supervisor.launcher import Launcher
from farm.supervisor.memory import OutOfMemoryKills
from farm.supervisor.nursery import Way
from farm.supervisor.pool import Pool, Slot, SlotState
from farm.supervisor.reloading import Reloading
from farm.supervisor.restart import RestartPolicy
from farm.supervisor.service import FarmService
from farm.supervisor.staffing import Staffing
from farm.supervisor.watch import FLEET_SETTLED_S, Watch
from farm.systemd import Service
from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from farm import wire
    from farm.config import Config
    from farm.gpus import Plan
    from farm.state_dir import Endpoints
    from farm.supervisor.in_force import InForce
    from farm.supervisor.spawning import Cradle

POLL_MS = 100
# So soon after a worker was started one wants to know whether it is READY: a forked one is at once.
FRESH_S = 0.5
TELL_DRAIN_S = 2.0  # a broker that did not confirm the drain by then is told by SIGTERM
LAST_WORDS_S = 4.0
WORKER_STOP_S = 5.0  # after the drain nothing is left to compute: this is generous
FLEET_STOP_S = 12.0  # its workers are on other machines
BROKER_NAME = "broker"
FLEET_NAME = "fleet"
# Exit codes of the broker that trying again would not change; and those of one that never was up.
HOPELESS = (ExitCode.MQTT_EVICTED, ExitCode.CONFIG, ExitCode.JOURNAL)
HOPELESS_AT_FIRST = (*HOPELESS, ExitCode.LOCKED)


class Phase(Enum):
    """The life of a farm."""

    RUNNING = "running"
    DRAINING = "draining"  # the broker finishes what is open
    STOPPING = "stopping"  # the workers leave
    ENDED = "ended"


class Supervisor:
    """See the module.

    Args:
        in_force: the configuration.
        endpoints: of the broker's sockets.
        child_args: what each child is told of the configuration.
        early: a nursery that was started already, if any.
        gpus: which workers get a GPU; None: none does.
        service: where systemd is told of it; by default nowhere.
    """

    def __init__(
        self,
        in_force: InForce,
        *,
        endpoints: Endpoints,
        child_args: Sequence[str],
        early: Cradle | None = None,
        gpus: Plan | None = None,
        service: Service | None = None,
    ) -> None:
        self._service = FarmService(service or Service(), time.monotonic())
        self._in_force = in_force
        self._endpoints = endpoints
        self._child_args = list(child_args)
        self._log = log.get()
        config = in_force.config
        self._staffing = Staffing(config)
        # with workers on Ray their number is the fleet's, and that of those here is fixed
        has_fleet = config.workers.launch == RAY
        local = config.ray.local_workers if has_fleet else self._staffing.wanted
        names = [str(n) for n in range(1, local + 1)]
        self._workers = Pool(
            names,
            self._make_policy,
            ready_timeout_s=config.workers.ready_timeout_s,
            retire_timeout_s=config.dispatch.job_timeout_s + WORKER_STOP_S,
            fixed=gpus.workers if gpus else (),
        )
        self._broker = Pool(
            [BROKER_NAME], self._make_policy, ready_timeout_s=config.supervisor.broker_timeout_s
        )
        self._fleet = Pool(
            [FLEET_NAME] if has_fleet else [], self._make_policy, ready_timeout_s=FLEET_SETTLED_S
        )
        self._watch = Watch(
            workers=self._workers, broker=self._broker, fleet=self._fleet, now_s=time.monotonic()
        )
        self._reloading = Reloading(in_force, self._workers)
        self._out_of_memory = OutOfMemoryKills()
        self._children = Children()
        self._launcher = Launcher(
            self._children,
            child_args,
            config=lambda: in_force.config,
            edition=lambda: in_force.edition,
            make_policy=self._make_policy,
            control_endpoint=endpoints.control,
            early=early,
            gpus=gpus,
        )
        self._page = page_of(self._children, config.page.listen, child_args)
        self._waker = Waker()
        self._signals: list[int] = []
        self._phase = Phase.RUNNING
        self._had_broker = False
        self._deadline_s = 0.0
        self._tell_by_s = 0.0
        self._exit_code = ExitCode.OK

    @property
    def _config(self) -> Config:
        return self._in_force.config

    def _make_policy(self) -> RestartPolicy:
        settings = self._config.supervisor
        return RestartPolicy(
            initial_s=settings.backoff_initial_s,
            max_s=settings.backoff_max_s,
            budget=settings.restart_budget,
            window_s=settings.restart_window_s,
        )

    def run(self) -> ExitCode:
        """Keep the farm alive until told to stop; returns the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(signum, self._record)
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        control = ControlClient(
            context, self._endpoints.control, timeout_s=self._config.supervisor.broker_timeout_s
        )
        self._dialogue = Dialogue(
            control, staffing=self._staffing, reloading=self._reloading, service=self._service
        )
        gpus = {"gpu_workers": len(fixed)} if (fixed := self._workers.fixed) else {}
        self._log.info("farm_started", pid=os.getpid(), workers=self._staffing.wanted, **gpus)
        self._waker.wake()  # there is something to do at once
        try:
            while self._phase is not Phase.ENDED:
                self._wait()
                self._act_on_signals()
                self._reap()
                self._talk_to_broker()
                self._start_due()
                self._judge()
                self._advance()
                self._tell_service()
        finally:
            self._children.kill_all()
            context.destroy(linger=0)
        self._log.info("farm_stopped", exit_code=int(self._exit_code))
        return self._exit_code

    def _tell_service(self) -> None:
        self._service.tick(
            time.monotonic(),
            self._config,
            workers=self._staffing.wanted,
            is_ending=self._phase is not Phase.RUNNING,
            is_reloading=self._reloading.is_under_way,
        )

    # ---- signals ------------------------------------------------------------------------------

    def _record(self, signum: int, _frame: object) -> None:
        self._signals.append(signum)
        self._waker.wake()

    def _act_on_signals(self) -> None:
        while self._signals:
            signum = self._signals.pop(0)
            if signum in (signal.SIGTERM, signal.SIGINT):
                self._asked_to_stop(signal.Signals(signum).name)
            elif signum == signal.SIGHUP:
                self._asked_to_reload()

    def _asked_to_reload(self) -> None:
        if self._phase is not Phase.RUNNING:
            self._log.warning("reload_refused", reason="the farm is stopping")
            return
        if self._reloading.begin():
            self._launcher.reloaded()
            self._dialogue.hasten()

    def _reload_step(self, now_s: float) -> None:
        """Go on with a reload; at its end the settings that are in force are followed."""
        self._workers.ready_timeout_s = self._config.workers.ready_timeout_s
        if not self._reloading.is_under_way:
            return
        self._tell_to_leave(self._reloading.step(now_s))
        if self._reloading.is_under_way:
            return
        self._dialogue.control.timeout_s = self._config.supervisor.broker_timeout_s
        for slot in self._broker.slots:
            slot.policy = self._make_policy()
        self._staffing.reconfigured(self._config)
        self._dialogue.hasten()

    def _asked_to_scale(self, workers: int) -> None:
        if workers == self._staffing.wanted:
            return
        self._log.info("scaled", workers=workers, before=self._staffing.wanted)
        self._staffing.wanted = workers
        if self._fleet.slots:  # the broker has told it, too
            return
        self._tell_to_leave(self._workers.scale(workers, time.monotonic()))

    def _tell_to_leave(self, pids: Sequence[int]) -> None:
        self._children.signal(pids, signal.SIGTERM)

    def _asked_to_stop(self, name: str) -> None:
        if self._phase is not Phase.RUNNING:
            self._log.warning("stopped_at_once", signal=name)
            self._exit_code = ExitCode.FAILURE
            self._phase = Phase.ENDED
            return
        limit_s = self._config.supervisor.drain_timeout_s
        self._log.info("draining", signal=name, limit_s=limit_s)
        if not self._broker.running:
            self._log.error("drain_failed", broker="it is not running: what is open stays open")
            self._exit_code = ExitCode.FAILURE
        self._phase = Phase.DRAINING
        self._deadline_s = time.monotonic() + limit_s
        self._tell_by_s = time.monotonic() + TELL_DRAIN_S
        self._dialogue.hasten()

    # ---- children -----------------------------------------------------------------------------

    def _start_due(self) -> None:
        now_s = time.monotonic()
        # workers also while draining: the last one may die with a job that is still to be answered
        if self._phase not in (Phase.RUNNING, Phase.DRAINING):
            return
        self._launcher.keep_nursery(  # before the broker: it takes longer
            now_s,
            is_needed=any(not self._launcher.has_gpu(slot) for slot in self._workers.slots),
            keeps_former=self._reloading.is_under_way,
        )
        if self._phase is Phase.RUNNING:
            for slot in self._broker.due(now_s):
                self._started(self._broker, slot, self._spawn_broker)
                self._watch.broker_started(now_s)
            for slot in self._fleet.due(now_s):
                self._started(self._fleet, slot, self._spawn_fleet)
            self._page.keep(now_s)
        self._take_births(now_s)
        for slot in self._workers.due(now_s):
            if not self._launcher.is_asked(slot):
                self._launch(slot, now_s)

    def _launch(self, slot: Slot, now_s: float) -> None:
        if self._launcher.has_gpu(slot):
            self._exec(slot)
            return
        match self._launcher.way(now_s):
            case Way.FORK:
                self._launcher.fork(slot, now_s)
            case Way.EXEC:
                self._exec(slot)
            case Way.REFUSED:
                self._workers.not_worth_starting(slot, ExitCode.MODEL, now_s)
                self._say_ended(f"worker {slot.name}", slot, now_s)
            case Way.WAIT:
                pass

    def _take_births(self, now_s: float) -> None:
        for slot, pid in self._launcher.born(now_s):
            if slot not in self._workers.slots:
                continue  # scaled away meanwhile: the newborn goes as well
            if pid:
                self._workers.started(slot, pid, now_s)
                self._dialogue.hasten()
            else:
                self._exec(slot)

    def _exec(self, slot: Slot) -> None:
        self._started(self._workers, slot, lambda: self._launcher.exec(slot))

    def _spawn_broker(self) -> int:
        workers = ["--workers", str(self._staffing.broker_starts())]
        launch = ["--launch", RAY] if self._fleet.slots else []
        # one that refuses the configuration ends the farm: so a former one did not
        again = ["--again"] if self._had_broker else []
        pid = self._children.spawn(["broker", *workers, *launch, *again, *self._child_args])
        self._had_broker = True
        return pid

    def _spawn_fleet(self) -> int:
        return self._children.spawn(["fleet", *self._child_args])

    def _started(self, pool: Pool, slot: Slot, spawn: Callable[[], int]) -> None:
        now_s = time.monotonic()
        try:
            pid = spawn()
        except OSError as error:  # no memory, no process ids: it is for this that we are here
            slot.start_at_s = now_s + slot.policy.kept_from_starting()
            self._log.error(
                "spawn_failed",
                child=slot.name,
                reason=str(error),
                retry_in_s=round(slot.start_at_s - now_s, 2),
            )
        else:
            pool.started(slot, pid, now_s)
            self._log.debug("process_started", child=slot.name, pid=pid)

    def _reap(self) -> None:
        for pid, returncode in self._children.ended():
            now_s = time.monotonic()
            # asked only where it matters: the count may be that of the whole system
            no_memory = returncode == -signal.SIGKILL and self._out_of_memory.has_risen()
            if self._launcher.ended(pid, returncode, now_s, is_out_of_memory=no_memory):
                continue
            if self._page.ended(pid, returncode, now_s):
                continue
            if self._broker.of_pid(pid):
                self._broker_ended(pid, returncode, now_s, no_memory=no_memory)
            elif slot := self._fleet.exited(pid, returncode, now_s, is_out_of_memory=no_memory):
                if self._phase is not Phase.STOPPING:
                    self._say_ended(FLEET_NAME, slot, now_s)
            elif slot := self._workers.exited(pid, returncode, now_s, is_out_of_memory=no_memory):
                self._dialogue.worker_ended(pid, slot.last_end)
                if self._phase is not Phase.STOPPING:
                    self._say_ended(f"worker {slot.name}", slot, now_s)

    def _broker_ended(self, pid: int, returncode: int, now_s: float, *, no_memory: bool) -> None:
        was_up = self._broker.was_any_ready
        slot = self._broker.exited(pid, returncode, now_s, is_out_of_memory=no_memory)
        assert slot is not None
        self._dialogue.broker_ended()
        if self._phase is Phase.DRAINING:
            if returncode != 0:
                self._log.error("drain_failed", broker=slot.last_end)
                self._exit_code = ExitCode.FAILURE
            return
        if returncode in (HOPELESS if was_up else HOPELESS_AT_FIRST):
            self._exit_code = ExitCode(returncode)
            self._phase = Phase.ENDED
        self._say_ended("broker", slot, now_s)

    def _say_ended(self, what: str, slot: Slot, now_s: float) -> None:
        if slot.state is SlotState.FAILED:
            self._log.error(
                "gave_up", child=what, how=slot.last_end, cure="see its log lines above"
            )
        elif slot.state is SlotState.RETIRING:
            self._log.info("process_retired", child=what, how=slot.last_end)
        else:
            self._log.warning(
                "process_ended",
                child=what,
                how=slot.last_end,
                restart_in_s=round(slot.start_at_s - now_s, 2),
            )

    def _kill(self, condemned: Iterable[tuple[int, str]]) -> None:
        for pid, why in condemned:
            if self._workers.condemn(pid) or self._broker.condemn(pid):
                self._log.warning("killing", pid=pid, why=why)
                self._children.signal([pid], signal.SIGKILL)

    # ---- the broker ---------------------------------------------------------------------------

    def _talk_to_broker(self) -> None:
        now_s = time.monotonic()
        reply = self._dialogue.hear()
        if reply is not None:
            self._watch.broker_replied(now_s)
            if orders := self._dialogue.take(reply):
                self._obey(orders, now_s)
        self._dialogue.give_up_if_late()
        wait_s = self._dialogue.wait_s(now_s)
        if wait_s is not None and wait_s <= 0 and self._broker.running:
            self._dialogue.speak(
                now_s,
                is_running=self._phase is Phase.RUNNING,
                is_draining=self._phase is Phase.DRAINING,
                is_fresh=self._workers.has_started_since(now_s - FRESH_S),
                failed=self._workers.failed,
                nursery=self._launcher.told(now_s),
                gpus=self._workers.told_fixed,
            )

    def _obey(self, orders: wire.SupervisorOrders, now_s: float) -> None:
        self._watch.ordered(orders.ready_pids, now_s)
        self._kill(self._watch.strangers(now_s, self._config))
        self._kill(orders.kill)
        self._staffing.is_pinned = orders.pinned
        if orders.take_back and self._phase is Phase.RUNNING:
            self._reloading.failed_elsewhere(orders.take_back)
        log.follow(orders.log_level)
        if orders.workers >= 0 and self._phase is Phase.RUNNING:
            self._asked_to_scale(orders.workers)

    def _judge(self) -> None:
        now_s = time.monotonic()
        if self._phase is Phase.RUNNING:
            self._reload_step(now_s)
        self._kill(self._watch.stuck(now_s, self._config))
        if self._phase is not Phase.RUNNING:
            return
        if self._watch.is_hopeless:
            self._log.error(
                "farm_hopeless",
                cause="more than half of the workers, the broker, or what keeps workers on Ray, "
                "could not be kept alive",
                cure="read the log lines of the first one that ended",
            )
            self._exit_code = ExitCode.WORKERS_FAILED
            self._phase = Phase.ENDED

    # ---- the end ------------------------------------------------------------------------------

    def _advance(self) -> None:
        now_s = time.monotonic()
        if self._phase is Phase.DRAINING:
            if not self._broker.running:
                self._stop_workers(now_s)
            elif not self._dialogue.is_drain_told and now_s > self._tell_by_s:
                # its control socket may be gone with the state directory; a signal still gets there
                self._dialogue.is_drain_told = True
                self._log.warning("drain_by_signal", cause="the broker does not answer")
                self._tell_to_leave([slot.pid for slot in self._broker.running])
            elif now_s > self._deadline_s:
                self._log.error(
                    "drain_timeout",
                    limit_s=self._config.supervisor.drain_timeout_s,
                    cure="raise supervisor.drain_timeout_s; what is left open stands below",
                )
                self._exit_code = ExitCode.FAILURE
                self._phase = Phase.ENDED
                self._end_broker_loudly()
        elif self._phase is Phase.STOPPING and (
            not (self._workers.running or self._fleet.running) or now_s > self._deadline_s
        ):
            self._phase = Phase.ENDED

    def _end_broker_loudly(self) -> None:
        """SIGQUIT makes the broker say what it leaves open; it has a moment for that."""
        for slot in self._broker.running:
            self._children.signal([slot.pid], signal.SIGQUIT)
            self._children.wait(slot.pid, LAST_WORDS_S)

    def _stop_workers(self, now_s: float) -> None:
        self._phase = Phase.STOPPING
        self._deadline_s = now_s + (FLEET_STOP_S if self._fleet.running else WORKER_STOP_S)
        self._launcher.close()
        self._page.stop()
        self._tell_to_leave([s.pid for s in (*self._workers.running, *self._fleet.running)])

    def _wait(self) -> None:
        poller = zmq.Poller()
        poller.register(self._waker.fd, zmq.POLLIN)
        poller.register(self._dialogue.control.socket, zmq.POLLIN)
        for descriptor in self._launcher.descriptors():
            poller.register(descriptor, zmq.POLLIN)
        wait_ms = POLL_MS
        wait_s = self._dialogue.wait_s(time.monotonic())
        if wait_s is not None and self._broker.running:
            wait_ms = min(wait_ms, int(wait_s * 1000) + 1)
        poller.poll(max(wait_ms, 0))
        self._waker.clear()
