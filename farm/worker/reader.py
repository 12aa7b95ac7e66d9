"""The reader thread: owns every socket of a worker, so that the model never makes the farm wait.

It joins the farm, reads jobs at once, claims them when the compute loop is idle and bounces them
when it is busy, sends results, and keeps the heartbeat. The compute loop talks to it through two
queues and a waker.

The slot (`farm.slot`) names a job from before its claim is sent until its results are there, and no
longer: a crash of the idle worker, or of one that has only to send, is not the job's. Of a worker
that gathers (`farm.worker.hand`) the compute loop marks it: what waits for it was not begun.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

from farm import log, wire
from farm.control import ControlClient
from farm.doors.invite import host_of
from farm.errors import WireError
from farm.slot import MAX_JOBS, Slot
from farm.sockets import Role, open_socket, send_at_once
from farm.systemd import Service
from farm.waker import Waker
from farm.worker.batches import Batches, Work
from farm.worker.hand import Hand, check_count
from farm.worker.phase import LEGAL, Phase
from farm.worker.service import WorkerService
from farm.worker.unconfirmed import Unconfirmed

if TYPE_CHECKING:
    from farm.sockets import Credentials

REPLY_TIMEOUT_S = 2.0  # an unanswered request is repeated after this
REPLY_POLL_S = 0.05
HELLO_PAUSE_S = 0.2
DRAINED_LINGER_S = 0.3  # how long a leaving worker still bounces what was on its way to it
CONFIRM_S = 15.0  # how long it then waits for a far broker to have its last results
JOB_TIMEOUT_S = 60.0  # of a farm that does not tell
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the compute loop says once its model is warm."""

    model_version: str
    model_hash: str
    load_s: float
    golden: dict[str, Any]  # what it made of the welcome's golden hole; {} where there was none


class Reader:
    """See the module. Public methods may be called from the compute thread and signal handlers."""

    def __init__(
        self,
        *,
        name: str,
        control_endpoint: str,
        credentials: Credentials | None = None,
        device: str = "",
        batch_jobs: int = 0,
        service: Service | None = None,
    ) -> None:
        self._service = WorkerService(service or Service())
        self._device = device  # as Hello tells it, with the most of a batch
        self._asked_batch_jobs = batch_jobs
        self._batch_jobs = 0  # as the broker has answered; 0: it does not gather
        self._credentials = credentials  # of a worker that comes through a door
        self._unconfirmed = Unconfirmed()  # what it sent
        self._is_to_reconnect = False
        self.is_to_return = False  # it left to come back as a new process
        self.welcomes: queue.SimpleQueue[wire.Welcome | str] = queue.SimpleQueue()
        self.inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._batches = Batches(self.inbox)
        self._name = name
        self._endpoint = control_endpoint
        self._outbox: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self._waker = Waker()
        self._loaded: Loaded | None = None
        self._announced = False
        self._drain_reason: str | None = None
        self._fault = ""  # why the compute loop has ended
        self.failed = False  # the thread ended by an error of its own, or the model was refused
        self._limited = log.Limited()
        self._phase = Phase.JOINING
        self._ready: dict[Any, int] = {}  # the sockets with something to read
        self._polled: tuple[Any, ...] = ()
        self._made_poller = zmq.Poller()
        self._welcome: wire.Welcome | None = None
        self._jobs: zmq.Socket[bytes] | None = None
        self._results: zmq.Socket[bytes] | None = None
        self._hand = Hand()
        self._slot: Slot | None = None  # changes only while the compute loop has nothing to do
        self._interval_s = 0.5
        self._next_beat_s = 0.0
        self._left_at_s = 0.0
        self._confirm_by_s = 0.0
        self._log = log.get()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    # ---- for the compute thread -----------------------------------------------------------

    def start(self) -> None:
        """Begin to join the farm."""
        self._thread.start()

    def set_heartbeat(self, interval_s: float) -> None:
        """How often to speak, as the configuration says."""
        self._interval_s = interval_s

    def ready(self, loaded: Loaded) -> None:
        """The model is warm: ask for work."""
        self._loaded = loaded
        self._waker.wake()

    def next_batch(self) -> Work | None:
        """What is to be computed next, when there is something; None: nothing any more."""
        batch = self._batches.next(self._batch_jobs)
        # the reader has marked it where the worker does not gather, before the claim
        if batch is not None and self._hand.gathers and self._slot is not None:
            self._slot.computing([job.job_id for job in batch.jobs])
        return batch

    def post(self, results: list[bytes]) -> None:
        """All results of the last batch; the worker is idle, or goes on with what it holds."""
        if self._slot is not None:
            self._slot.idle()  # first: from here on no crash is the job's
        self._outbox.put(results)
        self._waker.wake()

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to drain."""
        return self._drain_reason is not None

    def drain(self, reason: str) -> None:
        """Finish what is claimed, then leave for good; `inbox` ends with None."""
        self._drain_reason = reason
        self.is_to_return = False
        self._waker.wake()

    def give_up(self, fault: str) -> None:
        """The compute loop ends in the middle of a batch: tell the broker, and leave.

        The slot stays as it is: of a batch that broke the GPU nobody knows whether it will again.
        """
        self.failed = True
        self._fault = fault
        self._waker.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread, after `inbox` gave None."""
        self._thread.join(timeout_s)

    # ---- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context = context
        try:
            self._control = ControlClient(
                context, self._endpoint, timeout_s=REPLY_TIMEOUT_S, credentials=self._credentials
            )
            while self._phase is not Phase.LEFT:
                self._poll()
                self._take_replies()
                self._take_jobs()
                self._send_results()
                self._drain_if_asked()
                self._speak()
                self._tell_service()
        # a dead reader makes a deaf worker: say why, and let the compute loop end the process
        except Exception:  # noqa: BLE001
            self.failed = True
            self._log.exception("reader_failed")
        finally:
            self.inbox.put(None)
            self.welcomes.put("the reader thread ended")
            context.destroy(linger=500)

    def _tell_service(self) -> None:
        told = self._welcome.config.get("dispatch", {}) if self._welcome else {}
        self._service.tick(
            time.monotonic(),
            is_working=self._phase is Phase.WORKING,
            is_leaving=self._phase in (Phase.DRAINING, Phase.LEFT),
            job_id=self._hand.oldest,
            job_timeout_s=float(told.get("job_timeout_s", JOB_TIMEOUT_S)),
        )

    def _poll(self) -> None:
        wait_s = min(max(self._next_beat_s - time.monotonic(), 0.0), self._interval_s)
        if not self._control.is_free:  # the beat that is due has to wait for a reply anyway
            wait_s = max(wait_s, REPLY_POLL_S)
        self._ready = dict(self._poller().poll(int(wait_s * 1000) + 1))
        self._waker.clear()

    def _poller(self) -> zmq.Poller:
        """Of the sockets that there are now; made anew only when one of them is another one."""
        sockets = (self._control.socket, self._jobs)
        if sockets != self._polled:
            self._polled = sockets
            self._made_poller = zmq.Poller()
            for readable in (self._waker.fd, *sockets):
                if readable is not None:
                    self._made_poller.register(readable, zmq.POLLIN)
        return self._made_poller

    def _move(self, phase: Phase) -> None:
        assert phase in LEGAL[self._phase], (self._phase, phase)
        self._phase = phase

    # ---- control --------------------------------------------------------------------------

    def _speak(self) -> None:
        """Say the next thing on the control socket: Hello, Ready or a heartbeat."""
        now_s = time.monotonic()
        why = self._control.why_silent()
        is_late = self._control.give_up_if_late()
        # The other two sockets may be dead as well: after a handshake that was refused libzmq does
        # not try again.
        self._is_to_reconnect |= is_late and self._credentials is not None
        if is_late and self._phase is not Phase.DRAINING:
            told = {"cause": why} if why else {}
            self._limited.warning(
                "broker_silent", endpoint=self._endpoint, **told, next="trying again"
            )
        due = now_s >= self._next_beat_s
        # a fenced worker that still hangs in its old job has nothing to offer to a new broker
        is_able = self._loaded is not None and not self._hand
        announce = is_able and not self._announced and self._phase is Phase.LOADING
        is_mute = self._welcome is None and self._phase is not Phase.JOINING  # left before it came
        if is_mute or not self._control.is_free or not (due or announce):
            return
        self._next_beat_s = now_s + self._interval_s
        if self._phase is Phase.JOINING:
            self._next_beat_s = now_s + HELLO_PAUSE_S
            name = self._name[: wire.MAX_NAME_CHARS]
            device = self._device[: wire.MAX_NAME_CHARS]
            who = (name, socket.gethostname(), os.getpid())
            self._control.send(wire.Hello(*who, device, self._asked_batch_jobs))
        elif announce:
            self._announce()
        else:
            self._control.send(self._heartbeat())

    def _announce(self) -> None:
        assert self._welcome is not None
        assert self._loaded is not None
        self._connect(self._welcome)
        self._take_slot(self._welcome)
        self._batch_jobs = self._welcome.batch_jobs
        self._hand = Hand(self._batch_jobs)
        self._unconfirmed.make_room(self._batch_jobs)
        self._announced = True
        self._move(Phase.WORKING)
        self._send_batch(self._unconfirmed.for_newcomer(self._welcome.worker_id, time.monotonic()))
        loaded = self._loaded
        self._loaded = replace(loaded, golden={})  # told once: a later broker asks for another one
        self._control.send(
            wire.Ready(
                self._welcome.worker_id,
                str(loaded.model_version)[: wire.MAX_NAME_CHARS],
                str(loaded.model_hash)[: wire.MAX_NAME_CHARS],
                loaded.load_s,
                loaded.golden,
            )
        )

    def _take_slot(self, welcome: wire.Welcome) -> None:
        """Each incarnation has a slot of its own; without one its claims are blamed instead."""
        former, self._slot = self._slot, None
        try:
            if former is not None:
                former.close()
                former.remove()
            # who came through a door writes no file because the other end names its path
            if welcome.slot and self._credentials is None:
                room = max(welcome.batch_jobs, MAX_JOBS)
                self._slot = Slot.create(Path(welcome.slot), welcome.worker_id, room=room)
        except (OSError, ValueError) as error:
            self._log.warning("slot_unusable", path=welcome.slot, reason=str(error))

    def _heartbeat(self) -> wire.Heartbeat:
        return wire.Heartbeat(self._worker_id(), self._phase.value, _rss_bytes())

    def _take_replies(self) -> None:
        if self._control.socket not in self._ready:
            return
        try:
            reply = self._control.receive()
        except WireError as error:
            self._limited.warning("control_reply_refused", reason=str(error))
            return
        match reply:
            case wire.Welcome():
                self._welcomed(reply)
            case wire.Refused(reason):
                self._limited.warning("broker_refused", reason=reason)
                if self._phase is Phase.WORKING:
                    # Our answer to the golden hole was wrong, or the broker is of another version
                    # now. To join again would not mend it: leave, and be started anew.
                    self.failed = True
                    self._drain_reason = reason
            case wire.Orders(known=False):
                self._rejoin()
            case wire.Orders():
                self._obey(reply)
            case _:
                return

    def _obey(self, orders: wire.Orders) -> None:
        if self._is_to_reconnect and self._welcome is not None and self._results is not None:
            self._connect(self._welcome)
        log.follow(orders.log_level)
        self._unconfirmed.taken(orders.taken)
        self._send_batch(self._unconfirmed.overdue(time.monotonic()))
        if orders.leave and self._drain_reason is None:
            self.is_to_return = orders.anew
            self._drain_reason = orders.leave

    def _welcomed(self, welcome: wire.Welcome) -> None:
        former = self._welcome
        if self._phase is not Phase.JOINING:
            return
        self._welcome = welcome
        if former is None:
            self.welcomes.put(welcome)
        elif former.config_hash != welcome.config_hash:
            self._drain_reason = "the broker has another configuration now"
            self.is_to_return = self._credentials is not None
        self._move(Phase.LOADING)

    def _rejoin(self) -> None:
        """The broker does not know us: it restarted, or it fenced us. Nothing claimed counts."""
        if self._phase in (Phase.DRAINING, Phase.LEFT):
            return
        self._log.info("worker_rejoins")
        if self._phase is not Phase.JOINING:
            self._move(Phase.JOINING)
        self._announced = False
        self._next_beat_s = 0.0

    def _connect(self, welcome: wire.Welcome) -> None:
        self._is_to_reconnect = False
        for old in (self._jobs, self._results):
            if old is not None:
                old.close(0)
        self._results = self._open(Role.RESULTS_SENDER, welcome.results_endpoint)
        self._jobs = self._open(Role.JOBS_RECEIVER, welcome.jobs_endpoint)

    def _open(self, role: Role, endpoint: str) -> zmq.Socket[bytes]:
        there = endpoint
        if self._credentials is not None:  # by which address we reach it, only we know
            port = endpoint.rpartition(":")[2]
            there = f"tcp://{host_of(self._endpoint)}:{port}"
        return open_socket(self._context, role, there, self._credentials)

    # ---- jobs and results -----------------------------------------------------------------

    def _take_jobs(self) -> None:
        while self._jobs is not None and self._jobs in self._ready:
            try:
                frames = self._jobs.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = wire.decode_jobs(frames)
            except WireError as error:
                self._log.error("jobs_frame_refused", reason=str(error))
                continue
            jobs = message.jobs
            ids, tickets = [job.job_id for job in jobs], [job.ticket for job in jobs]
            if self._phase is not Phase.WORKING or not self._hand.takes(ids):
                self._send(wire.Bounce(self._worker_id(), ids, tickets))
                continue
            try:
                if self._hand.gathers:
                    check_count(ids)
                elif self._slot is not None:
                    self._slot.computing(ids)  # before the claim, which may be lost in a crash
            except ValueError as error:
                self._log.error("jobs_frame_refused", reason=str(error))
                continue
            self._hand.take(ids)
            self._send(wire.Claim(self._worker_id(), ids, tickets))
            self.inbox.put(Work(self._worker_id(), jobs, message.alone))

    def _send_results(self) -> None:
        while not self._outbox.empty():
            results = self._outbox.get()
            self._hand.done(len(results))
            if self._credentials is not None:
                self._unconfirmed.sent(results, time.monotonic())
                if let_go := self._unconfirmed.let_go:
                    self._limited.warning(
                        "results_let_go",
                        results=let_go,
                        cause="the farm has confirmed none of them for long, and no more are kept",
                        effect="it has these holes computed again",
                    )
            self._send_batch(results)

    def _send_batch(self, results: list[bytes]) -> None:
        if self._results is None:
            return
        for begin in range(0, len(results), wire.MAX_FRAMES):  # what is sent again may be more
            self._send_frames(results[begin : begin + wire.MAX_FRAMES])

    def _send(self, message: wire.Message) -> None:
        self._send_frames([wire.encode(message)])

    def _send_frames(self, frames: list[bytes]) -> None:
        """Never waits: a reader that does can't tell anybody why. Results are kept (`Unconfirmed`)
        where there may be nobody to take them; a claim is not missed by a broker that is gone.
        """
        assert self._results is not None
        try:
            send_at_once(self._results, frames)
        except zmq.Again:
            self._limited.warning("broker_takes_nothing", frames=len(frames))

    def _worker_id(self) -> int:
        assert self._welcome is not None
        return self._welcome.worker_id

    # ---- leaving --------------------------------------------------------------------------

    def _drain_if_asked(self) -> None:
        if self._fault:
            self._say_bye(self._fault)
            return
        if self._drain_reason is None:
            return
        now_s = time.monotonic()
        if self._phase is not Phase.DRAINING:
            self._move(Phase.DRAINING)
            self._left_at_s = now_s + DRAINED_LINGER_S
            self._confirm_by_s = now_s + CONFIRM_S
            self._next_beat_s = 0.0  # tell the broker at once
        if self._hand or (self._unconfirmed and now_s < self._confirm_by_s):
            return
        if self._results is None or now_s >= self._left_at_s:
            self._say_bye(self._drain_reason)

    def _say_bye(self, reason: str) -> None:
        if self._results is not None:
            self._send(wire.Bye(self._worker_id(), reason[: wire.MAX_KEY_CHARS]))
        self._move(Phase.LEFT)


def _rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_BYTES
