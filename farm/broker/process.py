"""The broker process: owns the MQTT link, the switchboard, the clock. All decisions are the flow's.

`run` is the table of contents: wait, take what came, let time pass, send, publish.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from farm import failpoints, log, wire
from farm.adapter import load_adapter
from farm.broker import snapshot
from farm.broker.desk import Desk, Introduction
from farm.broker.dispatcher import pack
from farm.broker.doors import Doors
from farm.broker.flow import Flow
from farm.broker.gate import Gate
from farm.broker.group import SETTING, Group
from farm.broker.intake import Arrival, Intake, IntakeClock
from farm.broker.library import Library
from farm.broker.mqtt import Down, Evicted, MqttLink, Private, Up
from farm.broker.slots import Slots
from farm.broker.switchboard import Switchboard
from farm.broker.topics import check_filters
from farm.clock import WallClock
from farm.config.reload import RAY, take_over
from farm.config.show import worker_view
from farm.doors.keyring import DIRECTORY_NAME
from farm.doors.rates import Rates
from farm.doors.tickets import load_tickets
from farm.errors import ExitCode, JournalError, WireError
from farm.gathering import Gathering
from farm.journal.journal import Journal, NoJournal
from farm.journal.records import Setting
from farm.printable import printable
from farm.scaler import Scaler
from farm.waker import Waker

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from farm.adapter import Publication
    from farm.broker.packets import Publish
    from farm.config import Config
    from farm.state_dir import Endpoints

POLL_MS = 50  # with LOOK_EVERY_S, how late a deadline is noticed at worst
LOOK_EVERY_S = 0.02  # at deadlines, and at who is silent
ARRIVALS_PER_TURN = 200  # so that results and control get their turn under a flood
RECENT_S = 60.0  # latencies are shown over the last one to two of these
STOP_TIMEOUT_S = 3.0
MARK_EVERY_S = 1.0  # how much a start has to look through again, at most
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
    ) -> None:
        self._config = config
        self._reload = reload
        self._endpoints = endpoints
        self._instance = instance
        self._log = log.get()
        self._limited = log.Limited()
        self._adapter = load_adapter(config)
        news = (f"farm/{instance}/{tail}" for tail in ("status", "dead", "dead/count"))
        check_filters(self._adapter, tuple(news))
        self._waker = Waker()
        self._intake = Intake(
            max_messages=config.intake.max_queued_messages,
            max_bytes=config.intake.max_queued_bytes,
        )
        self._clock = IntakeClock()
        self._wall = WallClock()
        self._slots = Slots(state_dir)
        self._journal: Journal | NoJournal = NoJournal()
        if config.journal.durability != "off":
            self._journal = Journal(
                config.journal, state_dir, utc=self._wall.utc, wake=self._waker.wake
            )
        self._started_s = time.monotonic()
        self._said: deque[Publish] = deque()  # by partitions of our group, this one among them
        self._group = self._make_group(config)
        filters = self._adapter.topic_filters()
        self._link = MqttLink(
            config.mqtt.broker,
            client_id=client_id,
            filters=(*filters, self._group.stream) if self._group else filters,
            status_topic=f"farm/{instance}/status",
            intake=self._intake,
            wake=self._waker.wake,
            max_payload_bytes=config.limits.message_bytes,
            private=Private(self._group.prefix, self._said.append) if self._group else None,
        )
        has_doors = bool(config.attach.listen)
        self._flow = Flow(
            config,
            self._adapter,
            self._started_s,
            journal=self._journal,
            clock=self._wall,
            instance=instance,
            read_slot=self._slots.read,
            tickets=load_tickets(state_dir / DIRECTORY_NAME) if has_doors else None,
            share=self._group.share if self._group else None,
        )
        counts = self._flow.counts
        self._doors = Doors(config.attach, state_dir, counts) if has_doors else None
        self._rates = Rates(config.attach, counts)
        self._desk = Desk(
            self._flow,
            self,
            _introduction(config, endpoints, self._doors),
            slots=self._slots,
            expected_workers=config.mqtt.processing.workers,
            scaler=Scaler.of(config),
            attach=config.attach,
            has_fleet=config.workers.launch == RAY,
        )
        self._unacknowledged: deque[tuple[int, Arrival]] = deque()  # after which position each
        self._gathering = Gathering(busy_hz=BUSY_HZ, gap_s=GAP_S)
        self._leaving: list[str] = []  # failpoints of what leaves with the next flush
        self._is_paused = False
        self._mqtt_state: dict[str, Any] = {"state": "connecting", "reconnects": 0}
        self._connections = 0
        self._draining = False
        self._suspended = False
        self._times_asked = 0  # by signal; a drain that was ordered over the socket is no first one
        self._stop = False
        self._exit_code = ExitCode.OK
        self._next_look_s = self._started_s
        self._next_status_s = self._started_s + config.throughput.status_interval_s
        self._next_forget_s = self._started_s
        self._next_turn_s = self._started_s + RECENT_S
        self._next_mark_s = self._started_s
        self._ready_by_s = self._started_s + config.workers.ready_timeout_s

    # ---- the loop -----------------------------------------------------------------------------

    def run(self) -> ExitCode:
        """Serve until told to stop; returns the exit code."""
        flow = self._flow
        self._board = Switchboard(
            self._endpoints,
            doors=self._doors,
            gate=Gate(flow.roster, flow.ledger),
            waker=self._waker,
            counts=flow.counts,
            rates=self._rates,
        )
        self._log.info("broker_started", control=self._endpoints.control, instance=self._instance)
        self._recover()
        self._link.start()
        _spare_the_collector()
        try:
            while not self._stop and not self._is_drained():
                self._board.wait(POLL_MS)
                if pause_s := self._gathering.pause_s(time.monotonic()):
                    time.sleep(pause_s)
                    self._board.wait(0)
                self._waker.clear()
                self._board.answer(self._respond)
                self._take_results()
                self._take_mqtt()
                self._take_commits()
                self._let_time_pass()
                self._dispatch()
                self._publish()
                self._flush()
        finally:
            self._end()
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

    def pause(self, *, is_paused: bool) -> None:
        """Take in nothing more until further notice, also after a restart; or go on."""
        self._is_paused = is_paused
        self._journal.append(Setting("paused", "1" if is_paused else "0"))
        self._log.info("intake_paused" if is_paused else "intake_resumed")
        self._waker.wake()

    def reload(self) -> Introduction:
        """Read the configuration again, for the workers that join from now on.

        Raises:
            ConfigError: it is wrong; nothing has changed.
        """
        told, _, _ = take_over(self._config, self._reload())
        return _introduction(told, self._endpoints, self._doors)

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

    def _make_group(self, config: Config) -> Group | None:
        """This farm's place among others; None where it is alone."""
        if not config.partition.group:
            return None
        return Group(
            config.partition,
            self._started_s,
            utc_s=self._wall.utc(),
            record=self._journal.append,
            say=self._say,
        )

    def _say(self, publication: Publication) -> None:
        self._link.exchange.say(publication)  # made behind the group, which it is told of

    def _is_drained(self) -> bool:
        if not self._draining:
            return False
        now_s = time.monotonic()
        if not self._suspended:
            self._suspended = True
            self._flow.suspend(now_s, self._clock.read(now_s))
        is_written = self._journal.durable >= self._journal.position
        return self._flow.unanswered == 0 and len(self._flow.outbox) == 0 and is_written

    def _recover(self) -> None:
        if isinstance(self._journal, NoJournal):
            return
        now_s = time.monotonic()
        past_s = self._flow.remembers_s
        if self._group is not None:
            self._group.begin(self._journal.setting(SETTING))
            if (since_s := self._group.prepared_at_s) is not None:
                past_s += max(self._wall.utc() - since_s, 0.0)
        found = self._journal.recover(
            optional_kinds=self._flow.optional_kinds,
            past_s=past_s,
            judged_since_s=self._wall.utc() - self._flow.judges_s,
        )
        for sentence in found.damaged:
            self._log.error("journal_damaged", what=sentence)
        self._journal.start()
        self._flow.resume(found, now_s)
        if self._group is not None:
            self._group.go_on(self._flow.correlator.known_keys())
        self._find_golden_hole(self._journal, now_s)
        self._is_paused = found.is_paused
        self._log.info(
            "journal_recovered",
            life=self._journal.life,
            unpaired=len(found.waiting),
            unanswered=len(found.holes),
            unconfirmed=len(found.letters),
            dead_letters=found.dead_letters,
            paused=found.is_paused,
            took_s=round(time.monotonic() - now_s, 3),
        )

    def _find_golden_hole(self, journal: Journal, now_s: float) -> None:
        newest = journal.newest_value()
        if newest is None:
            return
        messages, value, model_hash = newest
        with contextlib.suppress(JournalError):  # then the next hole that is answered will do
            parts = journal.parts(messages)
            self._flow.dispatcher.golden.keep(parts, value, model_hash, now_s)

    def _end(self) -> None:
        log.flush_limited()
        self._link.stop(STOP_TIMEOUT_S)
        self._board.close()
        is_written = True
        if isinstance(self._journal, Journal):
            is_written = self._journal.close(JOURNAL_STOP_S)
        self._slots.close()
        open_holes, unconfirmed = self._flow.unanswered, len(self._flow.outbox)
        is_lossless = is_written and self._journal.is_durable
        is_drained = self._draining and not open_holes and not unconfirmed
        say = self._log.warning if open_holes or unconfirmed else self._log.info
        say(
            "broker_stopped",
            drained=is_drained,
            unanswered=open_holes,
            unconfirmed=unconfirmed,
            kept=is_lossless,
        )

    # ---- workers, supervisor, commands --------------------------------------------------------

    def _respond(self, request: wire.Message, peer: str) -> wire.Message:
        return self._desk.answer(request, time.monotonic(), peer)

    def _take_results(self) -> None:
        for messages in self._board.results():
            self._gathering.came(1)
            for message in messages:
                self._take_result(message, time.monotonic())

    def _take_result(self, message: wire.Message, now_s: float) -> None:
        match message:
            case wire.Claim():
                self._flow.dispatcher.claimed(message, now_s)
            case wire.Bounce():
                self._flow.dispatcher.bounced(message, now_s)
            case wire.Result():
                self._flow.dispatcher.finished(message, now_s)
            case wire.Bye():
                if worker := self._flow.roster.get(message.worker_id):
                    self._desk.let_go(worker, printable(message.reason), now_s)
            case _:
                self._board.refuse_result(message)

    # ---- MQTT ---------------------------------------------------------------------------------

    def _take_mqtt(self) -> None:
        while (event := self._link.poll_event()) is not None:
            match event:
                case Up():
                    self._note_up(event)
                case Down(reason):
                    self._note_down(reason)
                case Evicted():
                    self._log.error(
                        "mqtt_evicted",
                        cause="another client connected with our MQTT client id",
                        cure="give each farm its own mqtt.broker.client_id or state directory",
                    )
                    self._exit_code = ExitCode.MQTT_EVICTED
                    self._stop = True
        if self._group is not None:
            self._hear_group(self._group)
        while (confirmed := self._link.exchange.poll()) is not None:
            if letter := self._flow.outbox.confirmed(confirmed.mid, confirmed.refusal):
                self._flow.delivered(letter, time.monotonic())
        self._take_arrivals()

    def _hear_group(self, group: Group) -> None:
        """Take in what the partitions tell, and tell of this one."""
        now_s = time.monotonic()
        while self._said:
            packet = self._said.popleft()
            group.heard(packet.topic.decode("utf-8", "replace"), packet.payload, now_s)
        group.tick(now_s)
        if group.has_rival and not self._stop:
            self._log.error(
                "partition_runs_twice",
                cause=f"another farm is partition {group.index} of this group, for longer",
                cure="give each its own partition.index, and start each once",
            )
            self._exit_code = ExitCode.MQTT_EVICTED
            self._stop = True

    def _vow(self, taken: list[Arrival]) -> None:
        """Tell, behind the acknowledgement of a message about a cut, that it is."""
        group = self._group
        if group is None:
            return
        for arrival in taken:
            vow = group.vow(arrival.payload) if arrival.topic == group.stream else None
            if vow is not None and not self._link.exchange.say(vow, behind=arrival):
                group.unvow()

    def _take_commits(self) -> None:
        """Acknowledge and publish what the journal has written by now."""
        if isinstance(self._journal, Journal) and self._journal.is_broken:
            self._exit_code = ExitCode.JOURNAL
            self._stop = True
        durable = self._journal.durable
        taken = []
        while self._unacknowledged and self._unacknowledged[0][0] <= durable:
            taken.append(self._unacknowledged.popleft()[1])
        if taken:
            failpoints.reach(failpoints.JOURNALED)
            self._link.exchange.acknowledge(taken)
            self._vow(taken)
            self._leaving.append(failpoints.ACKNOWLEDGED)
        self._flow.release(time.monotonic())

    def _note_up(self, event: Up) -> None:
        self._flow.outbox.max_packet_bytes = event.max_packet_bytes
        self._flow.outbox.limit(event.most_inflight)
        self._connections += 1
        self._mqtt_state["reconnects"] = self._connections - 1
        self._mqtt_state.update(state="connected", protocol=event.protocol, reason="")
        if self._group is not None:
            self._group.connected(time.monotonic())
        self._log.info(
            "mqtt_connected", protocol=event.protocol, session_present=event.session_present
        )

    def _note_down(self, reason: str) -> None:
        broker = self._config.mqtt.broker
        self._mqtt_state.update(state="disconnected", reason=reason)
        if self._group is not None:
            self._group.disconnected()
        if not self._stop:
            self._limited.warning(
                "mqtt_disconnected",
                reason=reason,
                address=f"{broker.host}:{broker.port}",
                next="trying again",
            )

    def _take_arrivals(self) -> None:
        now_s = time.monotonic()
        is_open = self._link.connected and self._takes_in
        self._clock.set_open(now_s, is_open=is_open)
        for _ in range(ARRIVALS_PER_TURN):
            if not self._takes_in:
                return
            arrival = self._intake.take()
            if arrival is None:
                return
            failpoints.reach(failpoints.RECEIVED)
            self._gathering.came(1)
            now_s = time.monotonic()
            if self._group is not None and arrival.topic == self._group.stream:
                known = self._flow.correlator.known_keys
                self._group.arrived(arrival.payload, known, self._wall.utc())
            else:
                self._flow.arrived(
                    arrival.topic,
                    arrival.payload,
                    arrived_s=arrival.arrived_s,
                    intake_s=self._clock.read(now_s),
                    now_s=now_s,
                    is_redelivered=arrival.is_redelivered,
                )
            self._unacknowledged.append((self._journal.position, arrival))
        self._waker.wake()

    @property
    def _takes_in(self) -> bool:
        is_held = self._group is not None and self._group.holds
        return not (self._draining or self._is_paused or is_held or self._flow.is_full)

    # ---- time, jobs, answers ------------------------------------------------------------------

    def _let_time_pass(self) -> None:
        now_s = time.monotonic()
        if now_s < self._next_look_s:  # under load there are a thousand turns a second
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        # what still lies in the intake has arrived in time: nothing may expire ahead of it
        self._flow.expire(now_s, self._clock.read(now_s) - self._intake.delay_s(now_s))
        self._flow.dispatcher.reclaim(now_s)
        self._flow.relieve(now_s)
        self._flow.look(now_s)
        for worker, cause in self._flow.dispatcher.faulty(now_s):
            self._desk.fence(worker, cause, now_s)
        if self._doors is not None:
            self._keep_out(self._doors, now_s)
            self._doors.tend(now_s)
        self._wall.look()
        if now_s >= self._next_mark_s:
            self._next_mark_s = now_s + MARK_EVERY_S
            self._flow.mark()
        if now_s >= self._next_forget_s:
            self._next_forget_s = now_s + self._config.mqtt.listener.cleanup_interval
            self._flow.correlator.forget(self._clock.read(now_s))
        if now_s >= self._next_turn_s:
            self._next_turn_s = now_s + RECENT_S
            self._tidy_up()
            for histogram in self._flow.stages.values():
                histogram.rotate()
            self._flow.observation.tools.rotate(now_s)
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + self._config.throughput.status_interval_s
            self._log_status(now_s)

    def _keep_out(self, doors: Doors, now_s: float) -> None:
        """Who says far too much is out for a while, and its workers are nobody's."""
        for name, cause in self._rates.take_offenders().items():
            seconds = self._config.attach.keep_out_s
            self._log.warning("key_kept_out", key=name, cause=cause, for_s=seconds)
            doors.keep_out(name, seconds, now_s)
            for worker in self._flow.roster.of_key(name):
                self._desk.fence(worker, cause, now_s)

    def _tidy_up(self) -> None:
        """Follow what the journal's retention has let go of."""
        journal = self._journal
        if not isinstance(journal, Journal):
            return
        journal.let_go()
        if journal.durable == journal.position:  # else what is counted here is not all written
            with contextlib.suppress(JournalError):  # the next time will do
                self._flow.set_dead_letters(journal.count_dead_letters())

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

    def _publish(self) -> None:
        # not `link.connected`: the limits that came with the connection must be in force first
        if self._mqtt_state["state"] != "connected":
            return
        if self._link.wants_to_reconnect:
            if not self._flow.outbox.inflight:
                self._link.let_reconnect()
            return  # what is published now could not be confirmed any more
        while (publication := self._flow.publication(time.monotonic())) is not None:
            self._flow.outbox.sent(self._link.exchange.publish(publication))
            self._leaving.append(failpoints.PUBLISHED)

    def _flush(self) -> None:
        """Send what this turn has acknowledged and published."""
        self._link.exchange.flush()
        for name in self._leaving:
            failpoints.reach(name)
        self._leaving.clear()

    # ---- what it tells ------------------------------------------------------------------------

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """What `farm stats` shows."""
        broker = self._config.mqtt.broker
        journal = self._journal
        around = snapshot.Surroundings(
            instance=self._instance,
            mqtt={"address": f"{broker.host}:{broker.port}", **self._mqtt_state},
            intake={
                "queued": len(self._intake),
                "payload_bytes": self._intake.payload_bytes,
                "braked": self._flow.is_full,
                "paused": self._is_paused,
                "unacknowledged": len(self._unacknowledged),
                "overruns": self._link.exchange.overruns,
                "oversize": self._link.exchange.oversize,
                "lost_qos0": self._link.exchange.lost_qos0,
            },
            journal={
                "durability": self._config.journal.durability,
                "queued": journal.position - journal.durable,
                "commits": journal.commits if isinstance(journal, Journal) else 0,
                "failure": journal.failure,
                "life": journal.life,
            },
            expected_workers=self._desk.expected_workers,
            scaling=self._desk.scaler.snapshot(),
            failed_slots=self._desk.failed_slots,
            nursery=self._desk.nursery,
            fleet=self._desk.fleet,
            ready_workers=self._desk.ready_workers,
            is_starting=not self._desk.was_complete and now_s < self._ready_by_s,
            is_draining=self._draining,
            partition=self._group.snapshot(now_s) if self._group else {},
            partition_problems=self._group.problems(now_s) if self._group else (),
        )
        return snapshot.build(self._flow, around, now_s=now_s, started_s=self._started_s)

    def _log_status(self, now_s: float) -> None:
        log.flush_limited()
        shot = self.snapshot(now_s)
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
