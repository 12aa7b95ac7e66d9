"""The `Observation`: what is noted of every hole for people alone; nothing is decided by it.

Owns the bounded tables by tool, the curves and the last incidents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm.adapter import Status, Terminal
from farm.broker.history import History, Totals
from farm.broker.incidents import Incidents
from farm.broker.tools import PLACES, Tools, judged

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from farm.adapter import Answer, Finished
    from farm.broker.throughput import ThroughputMonitor

UNLUCKY = (Terminal.DEAD, Terminal.SHED)


class Observation:
    """See the module. Times are monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self.tools = Tools(now_s)
        self.incidents = Incidents()
        self.history = History(now_s)

    def answered(self, hole_id: int, finished: Finished, answer: Answer, now_s: float) -> None:
        """A hole has its answer, which is not out yet."""
        quality = answer.quality
        tally = self.tools.of(finished.source)
        if quality is not None or answer.counts:
            judged(tally, quality, answer.counts)
        if answer.alert:
            self.incidents.alerted(finished.source, answer.alert, now_s)
            tally.reason, tally.reason_s = answer.alert, now_s
        if finished.status is Status.FAILED:
            tally.reason, tally.reason_s = finished.reason, now_s
        if answer.terminal in UNLUCKY:
            self.incidents.died(hole_id, finished, answer.terminal, now_s)

    def died(self, hole_id: int, finished: Finished, terminal: Terminal, now_s: float) -> None:
        """A hole that had its answer ends badly all the same."""
        tally = self.tools.of(finished.source)
        tally.reason, tally.reason_s = finished.reason, now_s
        self.incidents.died(hole_id, finished, terminal, now_s)

    def ended(self, source: str, terminal: Terminal, latency_s: float) -> None:
        """MQTT has confirmed a hole's answer, or there is none to confirm."""
        self.tools.of(source).ends[PLACES[terminal]] += 1
        if terminal is not Terminal.DEAD:  # which may have waited for a message that never came
            self.history.ended(latency_s)

    def look(
        self,
        now_s: float,
        *,
        busy: int,
        monitor: ThroughputMonitor,
        terminals: Counter[Terminal],
        backlog: Callable[[float], int],
    ) -> None:
        """See how it goes; call it many times a second."""
        if self.history.look(now_s, busy=busy):
            totals = Totals(
                monitor.arrived_total, monitor.processed_total, terminals[Terminal.DEAD]
            )
            self.history.close(now_s, totals, backlog=backlog(now_s))

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """The sections of the snapshot that are ours."""
        return {
            "history": self.history.snapshot(),
            "tools": self.tools.snapshot(now_s),
            "incidents": self.incidents.snapshot(now_s),
        }
