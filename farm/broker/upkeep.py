"""The `Upkeep`: what is due from time to time, and by no event. For the loop's thread.

Deadlines and silence at every look; marks, retention and histograms each at its own pace.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from farm import log
from farm.broker.log_levels import BROKER
from farm.errors import JournalError
from farm.journal.journal import Journal

if TYPE_CHECKING:
    from farm.broker.desk import Desk
    from farm.broker.doors import Doors
    from farm.broker.parts import Parts
    from farm.broker.report import Report

LOOK_EVERY_S = 0.02  # at deadlines, and at who is silent
RECENT_S = 60.0  # latencies are shown over the last one to two of these
MARK_EVERY_S = 1.0  # how much a start has to look through again, at most


class Upkeep:
    """See the module. Times are monotonic seconds."""

    def __init__(self, parts: Parts, *, desk: Desk, report: Report) -> None:
        self._config = parts.config
        self._flow = parts.flow
        self._journal = parts.journal
        self._intake = parts.intake
        self._clock = parts.clock
        self._wall = parts.wall
        self._doors = parts.doors
        self._rates = parts.rates
        self._desk = desk
        self._report = report
        self._log = log.get()
        self._next_look_s = parts.started_s
        self._next_status_s = parts.started_s + parts.config.throughput.status_interval_s
        self._next_forget_s = parts.started_s
        self._next_turn_s = parts.started_s + RECENT_S
        self._next_mark_s = parts.started_s

    def tick(self, now_s: float) -> None:
        """Do what is due by now."""
        if now_s < self._next_look_s:  # under load there are a thousand turns a second
            return
        self._next_look_s = now_s + LOOK_EVERY_S
        # what still lies in the intake has arrived in time: nothing may expire ahead of it
        self._flow.expire(now_s, self._clock.read(now_s) - self._intake.delay_s(now_s))
        self._flow.dispatcher.reclaim(now_s)
        self._flow.relieve(now_s)
        self._flow.look(now_s)
        for worker, cause in self._flow.dispatcher.faults.faulty(now_s):
            self._desk.fence(worker, cause, now_s)
        if self._doors is not None:
            self._keep_out(self._doors, now_s)
        self._wall.look()
        log.follow(self._desk.log_levels.of(BROKER, now_s))
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
            self._report.log_status(now_s)

    def _keep_out(self, doors: Doors, now_s: float) -> None:
        """Who was revoked, or says far too much, is out at once, and its workers are nobody's.

        What these computed had no part in it.
        """
        for name in doors.tend(now_s):
            for worker in self._flow.roster.of_key(name):
                self._desk.fence(worker, "its key was revoked", now_s, is_by_jobs=False)
        for name, cause in self._rates.take_offenders().items():
            seconds = self._config.attach.keep_out_s
            self._log.warning("key_kept_out", key=name, cause=cause, for_s=seconds)
            doors.keep_out(name, seconds, now_s)
            for worker in self._flow.roster.of_key(name):
                self._desk.fence(worker, cause, now_s, is_by_jobs=False)

    def _tidy_up(self) -> None:
        """Follow what the journal's retention has let go of."""
        journal = self._journal
        if not isinstance(journal, Journal):
            return
        journal.let_go()
        if journal.durable == journal.position:  # else what is counted here is not all written
            with contextlib.suppress(JournalError):  # the next time will do
                self._flow.set_dead_letters(journal.count_dead_letters())
