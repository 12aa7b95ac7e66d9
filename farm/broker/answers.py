"""The `Answers`: brings every hole with a ticket to its one `Terminal`, in order per source.

Owns the way sequencer ▶ answerer ▶ outbox and what is counted there; how a hole came to its end is
the flow's. A decision without I/O.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farm.adapter import Status, Terminal
from farm.broker.outbox import Letter
from farm.broker.sequencer import Sequencer
from farm.log import Limited
from farm.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from farm.adapter import Finished, Publication, Route
    from farm.broker.guard import GuardedAnswerer
    from farm.broker.outbox import Outbox
    from farm.broker.throughput import ThroughputMonitor


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished join on its way out."""

    ticket: int
    finished: Finished
    first_s: float
    last_s: float


class Answers:
    """See the module. `now_s` is monotonic."""

    def __init__(
        self,
        answerer: GuardedAnswerer,
        outbox: Outbox,
        monitor: ThroughputMonitor,
        counts: Counter[str],
    ) -> None:
        self._answerer = answerer
        self._sequencer: Sequencer[Outcome] = Sequencer()
        self._outbox = outbox
        self._monitor = monitor
        self._counts = counts
        self.terminals: Counter[Terminal] = Counter()
        self.publishing = Histogram()
        self.total = Histogram()
        self._log = Limited()

    def expect(self, source: str, ticket: int, now_s: float) -> None:
        """A hole begins its way: its answer will be the next one of this source."""
        self._sequencer.expect(source, ticket)
        self._monitor.arrived(now_s)
        self._counts["holes"] += 1

    @property
    def open(self) -> int:
        """Holes that are expected and have not reached their end."""
        return self._counts["holes"] - self.terminals.total()

    def settle(self, outcome: Outcome, now_s: float) -> None:
        """How an expected hole ended; what may go out now, goes."""
        source = outcome.finished.source
        for released in self._sequencer.settle(source, outcome.ticket, outcome):
            self._answer(released, now_s)

    def reject(self, route: Route, reason: str, now_s: float) -> None:
        """A part that belongs to no hole: tell its source, in no order."""
        self._counts["rejected"] += 1
        self._log.warning("part_rejected", source=route.source, kind=route.kind, reason=reason)
        publications = self._answerer.reject(route, reason)
        self._post(publications, Letter(route.source, "", None, now_s, now_s, now_s), now_s)

    def delivered(self, letter: Letter, now_s: float) -> None:
        """The last publication of a letter was confirmed, or none could be sent."""
        terminal = letter.terminal
        if letter.refusals:
            self._counts["refused_publications"] += len(letter.refusals)
            terminal = terminal and Terminal.DEAD
            self._log.warning(
                "answer_refused", source=letter.source, id=letter.part_id, why=letter.refusals
            )
        if terminal is None:
            return
        self.terminals[terminal] += 1
        self._monitor.processed(now_s)
        self.publishing.add(now_s - letter.answered_s)
        self.total.add(now_s - letter.last_s)

    def _answer(self, outcome: Outcome, now_s: float) -> None:
        finished = outcome.finished
        if finished.status is Status.FAILED:
            self._log.warning(
                "hole_failed", source=finished.source, id=finished.part_id, reason=finished.reason
            )
        answer = self._answerer.answer(finished, now_s)
        self._counts.update(answer.counts)
        if answer.alert:
            self._counts["alerts"] += 1
            self._log.warning("alert", source=finished.source, reason=answer.alert)
        letter = Letter(
            finished.source,
            finished.part_id,
            answer.terminal,
            outcome.first_s,
            outcome.last_s,
            now_s,
        )
        self._post(answer.publications, letter, now_s)

    def _post(self, publications: tuple[Publication, ...], letter: Letter, now_s: float) -> None:
        if self._outbox.add(publications, letter):
            self.delivered(letter, now_s)
