"""The `Answers`: brings every hole with a ticket to its one `Terminal`, in order per source.

Owns the way sequencer ▶ answerer ▶ journal ▶ outbox and what is counted there; how a hole came to
its end is the flow's. An answer goes out once it is on disk: after a crash the very same bytes are
published again, never others.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from farm import failpoints, log
from farm.adapter import Status, Terminal
from farm.broker.observation import UNLUCKY
from farm.broker.outbox import Letter
from farm.broker.sequencer import Sequencer
from farm.journal.records import Answered, Ended, Rejected, RejectionEnded
from farm.log import Limited
from farm.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.adapter import Finished, Publication, Route
    from farm.broker.guard import GuardedAnswerer
    from farm.broker.notices import DeadLetterNotices
    from farm.broker.observation import Observation
    from farm.broker.outbox import Outbox
    from farm.broker.story import Story
    from farm.broker.throughput import ThroughputMonitor
    from farm.clock import WallClock
    from farm.journal.journal import Recorder
    from farm.telemetry.spans import HoleSpans


MAX_NAMES = 100  # of what an answerer counts
OTHER = "other_counts"  # what comes after them


class Outcome(NamedTuple):
    """A finished join on its way out."""

    ticket: int
    finished: Finished
    first_s: float
    last_s: float
    story: Story
    terminal: Terminal | None = None  # what the answerer can't know: that it was shed


@dataclass(slots=True)
class _Unrecorded:
    """An answer that is being written; it goes out once the journal has come to `position`."""

    position: int
    publications: tuple[Publication, ...]
    letter: Letter = field(repr=False)


class Answers:
    """See the module. `now_s` is monotonic."""

    def __init__(
        self,
        answerer: GuardedAnswerer,
        outbox: Outbox,
        monitor: ThroughputMonitor,
        counts: Counter[str],
        *,
        journal: Recorder,
        clock: WallClock,
        notices: DeadLetterNotices,
        is_late: Callable[[int], bool],
        grace_s: float,
        observation: Observation,
    ) -> None:
        self.observation = observation
        self._answerer = answerer
        self._sequencer: Sequencer[Outcome] = Sequencer(is_late, grace_s=grace_s)
        self._outbox = outbox
        self._monitor = monitor
        self._counts = counts
        self._journal = journal
        self._clock = clock
        self.notices = notices
        self._unrecorded: deque[_Unrecorded] = deque()
        self.said: Counter[str] = Counter()  # what the answerer counts, by its names
        self.open = 0  # holes that are expected and have not reached their end
        self.terminals: Counter[Terminal] = Counter()
        self.publishing = Histogram()
        self.total = Histogram()
        self._log = Limited()
        self.spans: HoleSpans | None = None  # who tells a collector of holes, where that is wanted

    def expect(self, source: str, ticket: int, now_s: float) -> None:
        """A hole begins its way: its answer will be the next one of this source."""
        self._sequencer.expect(source, ticket)
        self._monitor.arrived(now_s)
        self._counts["holes"] += 1
        self.open += 1

    @property
    def unrecorded(self) -> int:
        """Answers that wait for the journal."""
        return len(self._unrecorded)

    @property
    def overtaken(self) -> int:
        """Holes that were late and let others of their source pass."""
        return self._sequencer.overtaken

    def settle(self, outcome: Outcome, now_s: float) -> None:
        """How an expected hole ended; what may go out now, goes."""
        source = outcome.finished.source
        for released in self._sequencer.settle(source, outcome.ticket, outcome, now_s):
            self._answer(released, now_s)
        self.release(now_s)

    def let_pass(self, now_s: float) -> None:
        """Answers that have waited long enough for late ones go out. Call it now and then."""
        if overdue := self._sequencer.overdue(now_s):
            for released in overdue:
                self._answer(released, now_s)
            self.release(now_s)

    def reject(
        self, route: Route, reason: str, now_s: float, *, rejection_id: int, message_id: int
    ) -> None:
        """A part that belongs to no hole: tell its source, in no order."""
        self._counts["rejected"] += 1
        self.observation.tools.rejected(route.source, reason, now_s)
        self._log.warning("part_rejected", source=route.source, kind=route.kind, reason=reason)
        publications = self._answerer.reject(route, reason)
        position = self._journal.append(
            Rejected(
                rejection_id=rejection_id,
                message_id=message_id,
                at_s=self._clock.at(now_s),
                source=route.source,
                kind=route.kind,
                reason=reason,
                publications=publications,
            )
        )
        letter = Letter(rejection_id, route.source, "", None, now_s, now_s, now_s)
        self._unrecorded.append(_Unrecorded(position, publications, letter))
        self.release(now_s)

    def release(self, now_s: float) -> None:
        """Send the answers that are on disk by now."""
        durable = self._journal.durable
        while self._unrecorded and self._unrecorded[0].position <= durable:
            ready = self._unrecorded.popleft()
            failpoints.reach(failpoints.RECORDED)
            if self._outbox.add(ready.publications, ready.letter):
                self.delivered(ready.letter, now_s)

    def take_up(self, letter: Letter, count: int, now_s: float) -> None:
        """An answer of a former life that MQTT has not confirmed: the same bytes once more."""
        if letter.terminal is not None:
            self._monitor.arrived(now_s)
            self._counts["holes"] += 1
            self.open += 1
        if count:
            self._outbox.add_found(letter, count)
        else:
            self.delivered(letter, now_s)

    def remember(self, finished: Finished, at_s: float) -> None:
        """An answer of a former life: the answerer is to know of it, and nobody else."""
        self._answerer.answer(finished, at_s)

    def delivered(self, letter: Letter, now_s: float) -> None:
        """The last publication of a letter was confirmed, or none could be sent."""
        terminal = letter.terminal
        if letter.refusals:
            self._counts["refused_publications"] += len(letter.refusals)
            terminal = terminal and Terminal.DEAD
            self._log.warning(
                "answer_refused", source=letter.source, id=letter.part_id, why=letter.refusals
            )
        if not letter.letter_id:
            return
        at_s = self._clock.at(now_s)
        if terminal is None:
            self._journal.append(RejectionEnded(letter.letter_id, at_s))
            return
        refusals = "; ".join(letter.refusals)
        self._journal.append(Ended(letter.letter_id, at_s, terminal.value, refusals))
        if terminal in UNLUCKY:
            self.notices.one_more()
        self.terminals[terminal] += 1
        self.open -= 1
        self._monitor.processed(now_s)
        self.publishing.add(now_s - letter.answered_s)
        if terminal is not Terminal.DEAD:  # which may have waited for a message that never came
            self.total.add(now_s - letter.last_s)
        self.observation.ended(letter.source, terminal, now_s - letter.last_s)
        if self.spans is not None:
            self.spans.ended(letter.letter_id, terminal, now_s)
        if log.is_debug():
            log.get().debug(
                "hole_ended",
                source=letter.source,
                id=letter.part_id,
                terminal=terminal.value,
                total_ms=round(1000 * (now_s - letter.last_s), 2),
            )

    def _count(self, name: str) -> None:
        """What the answerer counts: apart from our own counts, and under so many names only."""
        if name not in self.said and len(self.said) >= MAX_NAMES:
            name = OTHER
        self.said[name] += 1

    def _answer(self, outcome: Outcome, now_s: float) -> None:
        finished = outcome.finished
        if finished.status is Status.FAILED:
            self._log.warning(
                "hole_failed", source=finished.source, id=finished.part_id, reason=finished.reason
            )
        answer = self._answerer.answer(finished, now_s)
        for name in answer.counts:
            self._count(name)
        if answer.alert:
            self._counts["alerts"] += 1
            self._log.warning("alert", source=finished.source, reason=answer.alert)
        if outcome.terminal is not None:
            answer = answer._replace(terminal=outcome.terminal)
        self.observation.answered(outcome.ticket, finished, answer, now_s)
        publications = answer.publications
        if answer.terminal in UNLUCKY:
            publications += self.notices.of(outcome.ticket, finished, answer.terminal, now_s)
        terminal = answer.terminal.value
        outcome.story.note(now_s, "answered", terminal)
        story = outcome.story.told()
        if self.spans is not None:
            self.spans.answered(outcome.ticket, finished, answer.terminal, story, now_s)
        position = self._journal.append(
            Answered(
                hole_id=outcome.ticket,
                at_s=self._clock.at(now_s),
                terminal=terminal,
                status=finished.status.value,
                reason=finished.reason,
                value=finished.value,
                provenance=finished.provenance,
                model_version=finished.model_version,
                model_hash=finished.model_hash,
                publications=publications,
                story=story,
            ),
            is_urgent=True,
        )
        letter = Letter(
            *(outcome.ticket, finished.source, finished.part_id, answer.terminal),
            *(outcome.first_s, outcome.last_s, now_s),
        )
        self._unrecorded.append(_Unrecorded(position, publications, letter))
