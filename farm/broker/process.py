"""The broker process: owns the `Parts`, the switchboard and the loop. All decisions are the flow's.

`run` is the table of contents: wait, take what came, let time pass, send, publish.
"""

from __future__ import annotations

import gc
import hashlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

from farm import log, wire
from farm.broker import former_life, vitals
from farm.broker.desk import Desk, Introduction
from farm.broker.dispatcher import pack
from farm.broker.ending import Ending
from farm.broker.gate import Gate
from farm.broker.library import Library
from farm.broker.log_levels import LogLevels
from farm.broker.parts import Parts
from farm.broker.report import Report
from farm.broker.switchboard import Switchboard
from farm.broker.traffic import Traffic
from farm.broker.upkeep import Upkeep
from farm.config.reload import RAY, take_over
from farm.config.show import worker_view
from farm.doors.rates import RESULTS
from farm.errors import WireError
from farm.gathering import Gathering
from farm.journal.journal import Journal
from farm.journal.records import Setting
from farm.printable import printable
from farm.scaler import Scaler

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.broker.doors import Doors
    from farm.broker.monitoring import Monitoring
    from farm.config import Config
    from farm.errors import ExitCode
    from farm.metrics.vitals import Vitals
    from farm.state_dir import Endpoints

POLL_MS = 50  # with upkeep's LOOK_EVERY_S, how late a deadline is noticed at worst
STOP_TIMEOUT_S = 3.0
BUSY_HZ = 1200.0  # messages and results; five a hole
GAP_S = 0.002  # then between two turns
GC_THRESHOLD = 20_000  # new objects; about 200 holes
JOURNAL_STOP_S = 3.0  # a disk that works writes what is left in milliseconds


class BrokerProcess:
    """See the module. One thread runs it; the MQTT link has its own."""

    def __init__(
        self,
        config: Config,
        *,
        endpoints: Endpoints,
        state_dir: Path,
        client_id: str,
        instance: str,
        reload: Callable[[], Config],
        is_restart: bool = False,
    ) -> None:
        self._config = config
        self._reload = reload
        self._endpoints = endpoints
        self._log = log.get()
        parts = Parts.of(config, state_dir=state_dir, client_id=client_id, instance=instance)
        self._parts = parts
        self._flow = parts.flow
        self._journal = parts.journal
        self._waker = parts.waker
        self._desk = Desk(
            parts.flow,
            self,
            _introduction(config, endpoints, parts.doors),
            slots=parts.slots,
            expected_workers=config.mqtt.processing.workers,
            scaler=Scaler.of(config),
            attach=config.attach,
            has_fleet=config.workers.launch == RAY,
            gpu_batch_jobs=config.dispatch.gpu_batch_jobs,
            is_for_gpus=config.model_settings.get("device") == "cuda",
            log_levels=LogLevels(config.log.level),
        )
        self._ending = Ending()
        self._is_suspended = False  # the flow, for the end
        self._gathering = Gathering(busy_hz=BUSY_HZ, gap_s=GAP_S)
        self._traffic = Traffic(parts, ending=self._ending, gathering=self._gathering)
        self._report = Report(parts, traffic=self._traffic, desk=self._desk, ending=self._ending)
        self._upkeep = Upkeep(parts, desk=self._desk, report=self._report)
        self._monitoring = self._make_monitoring(is_patient=is_restart)

    # ---- the loop -----------------------------------------------------------------------------

    def run(self) -> ExitCode:
        """Serve until told to stop; returns the exit code."""
        flow, parts, traffic = self._flow, self._parts, self._traffic
        self._board = Switchboard(
            self._endpoints,
            doors=parts.doors,
            gate=Gate(flow.roster, flow.ledger),
            waker=self._waker,
            counts=flow.counts,
            rates=parts.rates,
        )
        if self._monitoring is not None:
            self._monitoring.start()
        self._log.info("broker_started", control=self._endpoints.control, instance=parts.instance)
        traffic.is_paused = former_life.take_up(parts)
        parts.link.start()
        if parts.otlp is not None:
            parts.otlp.start()
        _spare_the_collector()
        try:
            while not self._ending.is_due and not self._is_drained():
                self._board.wait(POLL_MS)
                if pause_s := self._gathering.pause_s(time.monotonic()):
                    time.sleep(pause_s)
                    self._board.wait(0)
                self._waker.clear()
                self._board.answer(self._respond)
                self._take_results()
                traffic.take()
                traffic.take_commits()
                self._upkeep.tick(time.monotonic())
                self._dispatch()
                traffic.publish()
                traffic.flush()
                if self._monitoring is not None:
                    self._monitoring.turn(self._vitals)
        finally:
            self._end()
        return self._ending.exit_code

    def _is_drained(self) -> bool:
        if not self._ending.is_draining:
            return False
        now_s = time.monotonic()
        if not self._is_suspended:
            self._is_suspended = True
            self._flow.suspend(now_s, self._parts.clock.read(now_s))
        is_written = self._journal.durable >= self._journal.position
        return self._flow.unanswered == 0 and len(self._flow.outbox) == 0 and is_written

    def _end(self) -> None:
        log.flush_limited()
        if self._monitoring is not None:
            self._monitoring.stop()
        self._parts.link.stop(STOP_TIMEOUT_S)
        self._board.close()
        is_written = True
        if isinstance(self._journal, Journal):
            is_written = self._journal.close(JOURNAL_STOP_S)
        self._parts.slots.close()
        if self._parts.otlp is not None:
            self._parts.otlp.close()
        self._report.log_end(is_written=is_written)

    # ---- what signals and the desk ask for -----------------------------------------------------

    def asked_to_end(self) -> None:
        """Drain; asked again, stop at once. For signal handlers."""
        if self._ending.is_asked_again():
            self.stop_at_once()
        self.drain()

    def stop_at_once(self) -> None:
        """End without finishing what is open, but say what that was. For signal handlers."""
        self._ending.is_due = True
        self._waker.wake()

    def drain(self) -> None:
        """Take in nothing new, finish what is open, then end."""
        self._ending.is_draining = True
        self._parts.link.hold()
        self._waker.wake()

    def pause(self, *, is_paused: bool) -> None:
        """Take in nothing more until further notice, also after a restart; or go on."""
        self._traffic.is_paused = is_paused
        self._journal.append(Setting("paused", "1" if is_paused else "0"))
        self._log.info("intake_paused" if is_paused else "intake_resumed")
        self._waker.wake()

    def reload(self) -> Introduction:
        """Read the configuration again, for the workers that join from now on.

        Raises:
            ConfigError: it is wrong; nothing has changed.
        """
        told, _, _ = take_over(self._config, self._reload())
        return _introduction(told, self._endpoints, self._parts.doors)

    def dead_letter(self, hole_id: int) -> tuple[str, str, dict[str, int]]:
        """Source, part id and messages of an unresolved dead letter.

        Raises:
            LookupError: there is none of this id; the message says why.
        """
        if isinstance(self._journal, Journal):
            found = self._journal.dead_letter(hole_id)
            if found is not None:
                return found
            raise LookupError("no dead letter with this id waits for a decision")
        raise LookupError("nothing is kept: journal.durability is off")

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """What `farm stats` shows."""
        return self._report.snapshot(now_s)

    # ---- monitoring ----------------------------------------------------------------------------

    def _make_monitoring(self, *, is_patient: bool) -> Monitoring | None:
        """What tells Prometheus; None: it is not asked for, and what it needs is not imported."""
        if not self._config.metrics.listen:
            return None
        from farm.broker.monitoring import monitor  # noqa: PLC0415

        return monitor(self._parts, self._traffic, self._ending, is_patient=is_patient)

    def _vitals(self, now_s: float) -> Vitals:
        return vitals.take(self._parts, self._desk, self._report.snapshot(now_s), now_s)

    # ---- workers -------------------------------------------------------------------------------

    def _respond(self, request: wire.Message, peer: str) -> wire.Message:
        return self._desk.answer(request, time.monotonic(), peer)

    def _take_results(self) -> None:
        for messages in self._board.results():
            self._gathering.came(1)
            for message in messages:
                self._take_result(message, time.monotonic(), len(messages))

    def _take_result(self, message: wire.Message, now_s: float, batch: int) -> None:
        match message:
            case wire.Claim():
                self._flow.dispatcher.claimed(message, now_s)
            case wire.Bounce():
                if key := self._flow.dispatcher.bounced(message, now_s):
                    self._parts.rates.give_back(key, RESULTS, 1)
            case wire.Result():
                self._flow.dispatcher.finished(message, now_s, batch=batch)
            case wire.Bye():
                if worker := self._flow.roster.get(message.worker_id):
                    self._desk.let_go(worker, printable(message.reason), now_s)
            case _:
                self._board.refuse_result(message)

    def _dispatch(self) -> None:
        dispatcher = self._flow.dispatcher
        if not self._board.takes_jobs:
            return  # no worker is connected yet: the jobs stay in the backlog
        while batch := dispatcher.next_jobs(time.monotonic()):
            try:
                is_sent = self._board.send(pack(batch))
            except WireError as error:
                dispatcher.unsendable(batch, str(error), time.monotonic())
                continue
            if not is_sent:
                dispatcher.held_back(batch, time.monotonic())
                return
            dispatcher.sent(batch, time.monotonic())


def _spare_the_collector() -> None:
    """What is there after the start stays: the garbage collector need not look at it again.

    Nor need it look for cycles after every few holes: those of ours are rare.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


def _introduction(config: Config, endpoints: Endpoints, doors: Doors | None) -> Introduction:
    view = worker_view(config)
    view_hash = hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()
    told = (socket.gethostname(), endpoints.jobs, endpoints.results, view, view_hash)
    if doors is None:
        return Introduction(*told)
    return Introduction(*told, doors.jobs_endpoint, doors.results_endpoint, Library.of(config))
