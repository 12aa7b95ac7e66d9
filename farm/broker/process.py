"""The broker process: owns the sockets, the MQTT link, the clock. All decisions are the flow's.

`run` is the table of contents: wait, take what came, let time pass, send, publish.
"""

from __future__ import annotations

import functools
import hashlib
import json
import socket
import time
from typing import TYPE_CHECKING, Any

import zmq

from farm import log, wire
from farm.adapter import load_adapter
from farm.broker import carryover, snapshot
from farm.broker.desk import Desk, Introduction
from farm.broker.flow import Flow
from farm.broker.intake import Intake, IntakeClock
from farm.broker.mqtt import Confirmed, Down, Evicted, MqttLink, Up
from farm.config.show import worker_view
from farm.errors import ExitCode, WireError
from farm.sockets import Role, open_socket
from farm.waker import Waker

if TYPE_CHECKING:
    from pathlib import Path

    from farm.config import Config
    from farm.state_dir import Endpoints

POLL_MS = 50  # how late a deadline is noticed at worst
ARRIVALS_PER_TURN = 200  # so that results and control get their turn under a flood
RESULTS_PER_TURN = 500
RECENT_S = 60.0  # latencies are shown over the last one to two of these
STOP_TIMEOUT_S = 3.0


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
    ) -> None:
        self._config = config
        self._carryover = state_dir / carryover.FILE_NAME
        self._endpoints = endpoints
        self._instance = instance
        self._log = log.get()
        self._limited = log.Limited()
        self._adapter = load_adapter(config)
        self._waker = Waker()
        self._intake = Intake(
            max_messages=config.intake.max_queued_messages,
            max_bytes=config.intake.max_queued_bytes,
        )
        self._clock = IntakeClock()
        self._link = MqttLink(
            config.mqtt.broker,
            client_id=client_id,
            filters=self._adapter.topic_filters(),
            status_topic=f"farm/{instance}/status",
            intake=self._intake,
            wake=self._waker.wake,
        )
        self._started_s = time.monotonic()
        self._flow = Flow(config, self._adapter, self._started_s)
        self._desk = Desk(
            self._flow,
            _introduction(config, endpoints),
            expected_workers=config.mqtt.processing.workers,
            take_snapshot=self._snapshot,
            start_drain=self.drain,
        )
        self._mqtt_state: dict[str, Any] = {"state": "connecting", "reconnects": 0}
        self._connections = 0
        self._draining = False
        self._suspended = False
        self._times_asked = 0  # by signal; a drain that was ordered over the socket is no first one
        self._stop = False
        self._exit_code = ExitCode.OK
        self._next_status_s = self._started_s + config.throughput.status_interval_s
        self._next_forget_s = self._started_s
        self._next_turn_s = self._started_s + RECENT_S
        self._ready_by_s = self._started_s + config.workers.ready_timeout_s

    # ---- the loop -----------------------------------------------------------------------------

    def run(self) -> ExitCode:
        """Serve until told to stop; returns the exit code."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._jobs = open_socket(context, Role.JOBS_SENDER, self._endpoints.jobs)
        self._results = open_socket(context, Role.RESULTS_RECEIVER, self._endpoints.results)
        self._control = open_socket(context, Role.CONTROL_SERVER, self._endpoints.control)
        poller = zmq.Poller()
        for readable in (self._results, self._control, self._waker.fd):
            poller.register(readable, zmq.POLLIN)
        self._log.info("broker_started", control=self._endpoints.control, instance=self._instance)
        self._take_carryover()
        self._link.start()
        try:
            while not self._stop and not self._is_drained():
                poller.poll(POLL_MS)
                self._waker.clear()
                self._take_control()
                self._take_results()
                self._take_mqtt()
                self._let_time_pass()
                self._dispatch()
                self._publish()
        finally:
            self._say_stopped()
            self._link.stop(STOP_TIMEOUT_S)
            context.destroy(linger=200)
        return self._exit_code

    def asked_to_end(self) -> None:
        """Drain; asked again, stop at once. For signal handlers."""
        self._times_asked += 1
        if self._times_asked > 1:
            self.stop_at_once()
        self.drain()

    def stop_at_once(self) -> None:
        """End without finishing what is open, but say what that was. For signal handlers."""
        self._stop = True
        self._waker.wake()

    def drain(self) -> None:
        """Take in nothing new, finish what is open, then end."""
        self._draining = True
        self._link.hold()
        self._waker.wake()

    def _is_drained(self) -> bool:
        if not self._draining:
            return False
        now_s = time.monotonic()
        if not self._suspended:
            self._suspended = True
            save = functools.partial(carryover.save, self._carryover)
            self._flow.suspend(save, now_s=now_s, intake_s=self._clock.read(now_s))
        return self._flow.unanswered == 0 and len(self._flow.outbox) == 0

    def _take_carryover(self) -> None:
        try:
            parts = carryover.take(self._carryover)
        except (OSError, ValueError) as error:
            self._log.error("carryover_unreadable", file=str(self._carryover), reason=str(error))
            return
        if parts:
            self._log.info("carryover_taken", parts=len(parts))
            self._flow.resume(parts, time.monotonic())

    def _say_stopped(self) -> None:
        log.flush_limited()
        open_holes, unconfirmed = self._flow.unanswered, len(self._flow.outbox)
        is_drained = self._draining and not open_holes and not unconfirmed
        say = self._log.warning if open_holes or unconfirmed else self._log.info
        say("broker_stopped", drained=is_drained, unanswered=open_holes, unconfirmed=unconfirmed)

    # ---- control socket -----------------------------------------------------------------------

    def _take_control(self) -> None:
        while True:
            try:
                identity, *frames = self._control.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                request = wire.decode([f for f in frames if f])
                reply = wire.encode(self._desk.answer(request, time.monotonic()))
            except WireError as error:
                self._flow.counts["bad_frames"] += 1
                self._limited.warning("control_frame_refused", reason=str(error))
                reply = wire.encode(wire.Refused(str(error)))
            self._control.send_multipart([identity, b"", reply])

    # ---- results socket -----------------------------------------------------------------------

    def _take_results(self) -> None:
        for _ in range(RESULTS_PER_TURN):
            try:
                frames = self._results.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take_result(wire.decode(frames), time.monotonic())
            except WireError as error:
                self._flow.counts["bad_frames"] += 1
                self._limited.warning("result_frame_refused", reason=str(error))
        self._waker.wake()  # more may lie there

    def _take_result(self, message: wire.Message, now_s: float) -> None:
        match message:
            case wire.Claim():
                self._flow.claimed(message, now_s)
            case wire.Bounce():
                self._flow.bounced(message, now_s)
            case wire.Result():
                self._flow.finished(message, now_s)
            case wire.Bye():
                if worker := self._flow.roster.get(message.worker_id):
                    self._flow.worker_gone(worker, message.reason, now_s)
            case _:
                raise WireError(f"{type(message).__name__} on the results socket")

    # ---- MQTT ---------------------------------------------------------------------------------

    def _take_mqtt(self) -> None:
        while (event := self._link.poll_event()) is not None:
            match event:
                case Up():
                    self._note_up(event)
                case Down(reason):
                    self._note_down(reason)
                case Confirmed(mid, refusal):
                    if letter := self._flow.outbox.confirmed(mid, refusal):
                        self._flow.delivered(letter, time.monotonic())
                case Evicted():
                    self._log.error(
                        "mqtt_evicted",
                        cause="another client connected with our MQTT client id",
                        cure="give each farm its own mqtt.broker.client_id or state directory",
                    )
                    self._exit_code = ExitCode.MQTT_EVICTED
                    self._stop = True
        self._take_arrivals()

    def _note_up(self, event: Up) -> None:
        self._flow.outbox.max_packet_bytes = event.max_packet_bytes
        self._flow.outbox.limit(event.receive_maximum)
        self._connections += 1
        self._mqtt_state["reconnects"] = self._connections - 1
        self._mqtt_state.update(state="connected", protocol=event.protocol, reason="")
        self._log.info(
            "mqtt_connected", protocol=event.protocol, session_present=event.session_present
        )

    def _note_down(self, reason: str) -> None:
        broker = self._config.mqtt.broker
        self._mqtt_state.update(state="disconnected", reason=reason)
        if not self._stop:
            self._limited.warning(
                "mqtt_disconnected",
                reason=reason,
                address=f"{broker.host}:{broker.port}",
                next="trying again",
            )

    def _take_arrivals(self) -> None:
        now_s = time.monotonic()
        is_open = self._link.connected and not self._flow.is_full and not self._draining
        self._clock.set_open(now_s, is_open=is_open)
        for _ in range(ARRIVALS_PER_TURN):
            if self._draining or self._flow.is_full:
                return
            arrival = self._intake.take()
            if arrival is None:
                return
            now_s = time.monotonic()
            self._flow.arrived(
                arrival.topic,
                arrival.payload,
                arrived_s=arrival.arrived_s,
                intake_s=self._clock.read(now_s),
                now_s=now_s,
            )
            self._link.acknowledge(arrival)
        self._waker.wake()

    # ---- time, jobs, answers ------------------------------------------------------------------

    def _let_time_pass(self) -> None:
        now_s = time.monotonic()
        # what still lies in the intake has arrived in time: nothing may expire ahead of it
        self._flow.expire(now_s, self._clock.read(now_s) - self._intake.delay_s(now_s))
        self._flow.reclaim(now_s)
        for worker, cause in self._flow.faulty(now_s):
            self._desk.fence(worker, cause, now_s)
        if now_s >= self._next_forget_s:
            self._next_forget_s = now_s + self._config.mqtt.listener.cleanup_interval
            self._flow.correlator.forget(self._clock.read(now_s))
        if now_s >= self._next_turn_s:
            self._next_turn_s = now_s + RECENT_S
            for histogram in self._flow.stages.values():
                histogram.rotate()
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + self._config.throughput.status_interval_s
            self._log_status(now_s)

    def _dispatch(self) -> None:
        while (offer := self._flow.next_job()) is not None:
            entry, jobs = offer
            try:
                self._jobs.send_multipart(wire.encode_jobs(jobs), zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return  # no worker is connected yet: the job stays in the backlog
            self._flow.sent(entry, time.monotonic())

    def _publish(self) -> None:
        # not `link.connected`: the limits that came with the connection must be in force first
        if self._mqtt_state["state"] != "connected":
            return
        while (publication := self._flow.publication()) is not None:
            self._flow.outbox.sent(self._link.publish(publication))

    # ---- what it tells ------------------------------------------------------------------------

    def _snapshot(self, now_s: float) -> dict[str, Any]:
        broker = self._config.mqtt.broker
        return snapshot.build(
            self._flow,
            now_s=now_s,
            started_s=self._started_s,
            instance=self._instance,
            mqtt={"address": f"{broker.host}:{broker.port}", **self._mqtt_state},
            intake={
                "queued": len(self._intake),
                "payload_bytes": self._intake.payload_bytes,
                "braked": self._flow.is_full,
                "overruns": self._link.overruns,
                "lost_qos0": self._link.lost_qos0,
            },
            expected_workers=self._config.mqtt.processing.workers,
            is_starting=not self._desk.was_complete and now_s < self._ready_by_s,
            is_draining=self._draining,
        )

    def _log_status(self, now_s: float) -> None:
        log.flush_limited()
        shot = self._snapshot(now_s)
        pace, jobs = shot["throughput"], shot["jobs"]
        self._log.info(
            "status",
            state=shot["state"],
            arrival_rate=round(pace["arrival_rate"], 1),
            processing_rate=round(pace["processing_rate"], 1),
            backlog=pace["backlog"],
            drain_s=pace["drain_s"] and round(pace["drain_s"], 1),
            buffers=shot["buffers"]["parts_by_kind"],
            active=jobs["active"],
            pending=jobs["pending"],
            completed=jobs["completed"],
            unanswered=jobs["unanswered"],
            unconfirmed=jobs["unconfirmed_publications"],
            insufficient=shot["holes"]["insufficient"],
            skipped=shot["holes"]["skipped"],
            dead=shot["holes"]["dead"],
            workers_ready=self._flow.roster.ready,
            problems=shot["problems"],
        )


def _introduction(config: Config, endpoints: Endpoints) -> Introduction:
    view = worker_view(config)
    view_hash = hashlib.sha256(json.dumps(view, sort_keys=True).encode()).hexdigest()
    return Introduction(socket.gethostname(), endpoints.jobs, endpoints.results, view, view_hash)
