"""The `Report`: what the broker process tells of itself, as a snapshot and as lines of the log.

It gathers what each part says; what that means is `farm.broker.snapshot`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm import log
from farm.broker import snapshot
from farm.journal.journal import Journal

if TYPE_CHECKING:
    from farm.broker.desk import Desk
    from farm.broker.ending import Ending
    from farm.broker.parts import Parts
    from farm.broker.traffic import Traffic


class Report:
    """See the module. Times are monotonic seconds."""

    def __init__(self, parts: Parts, *, traffic: Traffic, desk: Desk, ending: Ending) -> None:
        self._parts = parts
        self._flow = parts.flow
        self._traffic = traffic
        self._desk = desk
        self._ending = ending
        self._ready_by_s = parts.started_s + parts.config.workers.ready_timeout_s
        self._log = log.get()

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """What `farm stats` shows."""
        desk, group = self._desk, self._parts.group
        around = snapshot.Surroundings(
            instance=self._parts.instance,
            mqtt=self._traffic.mqtt(),
            intake=self._traffic.intake(),
            journal=self._told_journal(),
            expected_workers=desk.expected_workers,
            scaling=desk.scaler.snapshot(),
            failed_slots=desk.failed_slots,
            gpu_workers=desk.gpu_workers,
            nursery=desk.nursery,
            fleet=desk.fleet,
            ready_workers=desk.ready_workers,
            is_starting=not desk.was_complete and now_s < self._ready_by_s,
            is_draining=self._ending.is_draining,
            partition=group.snapshot(now_s) if group else {},
            partition_problems=group.problems(now_s) if group else (),
        )
        return snapshot.build(self._flow, around, now_s=now_s, started_s=self._parts.started_s)

    def _told_journal(self) -> dict[str, Any]:
        journal = self._parts.journal
        return {
            "durability": self._parts.config.journal.durability,
            "queued": journal.position - journal.durable,
            "commits": journal.commits if isinstance(journal, Journal) else 0,
            "failure": journal.failure,
            "life": journal.life,
        }

    def log_status(self, now_s: float) -> None:
        """One line with what matters, in the log."""
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

    def log_end(self, *, is_written: bool) -> None:
        """What was finished, and what was not."""
        journal = self._parts.journal
        open_holes, unconfirmed = self._flow.unanswered, len(self._flow.outbox)
        say = self._log.warning if open_holes or unconfirmed else self._log.info
        say(
            "broker_stopped",
            drained=self._ending.is_draining and not open_holes and not unconfirmed,
            unanswered=open_holes,
            unconfirmed=unconfirmed,
            kept=is_written and journal.is_durable,
        )
