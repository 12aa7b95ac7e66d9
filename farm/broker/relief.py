"""The `Relief`: when more is open than may be, and what then goes to disk or is shed.

The limits are the configuration's; how long intake has waited is the `Brake`'s to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker.brake import Brake

if TYPE_CHECKING:
    from collections import Counter

    from farm.broker.answers import Answers
    from farm.broker.entry import Entry
    from farm.broker.ledger import Ledger
    from farm.broker.outbox import Outbox
    from farm.config.intake import OverloadConfig
    from farm.journal.journal import Recorder

# An answer is two publications; a source that sends rubbish gets error messages beyond that.
PUBLICATIONS_PER_JOB = 4
SHED_SHARE = 0.05  # of the holes that may be open: makes room for a moment, not a hole in the day


class Relief:
    """See the module. Times are monotonic seconds."""

    def __init__(
        self,
        limits: OverloadConfig,
        *,
        journal: Recorder,
        ledger: Ledger,
        outbox: Outbox,
        answers: Answers,
        counts: Counter[str],
    ) -> None:
        self._limits = limits
        self._journal = journal
        self._ledger = ledger
        self._outbox = outbox
        self._answers = answers
        self._counts = counts
        self._most_jobs = limits.max_open_jobs
        self._most_bytes = limits.max_open_bytes if journal.is_durable else limits.memory_bytes
        self.brake = Brake(policy=limits.shed, after_s=limits.shed_after_s)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be taken in until some of what is open has left."""
        return (
            self._answers.open >= self._most_jobs
            or self._ledger.open_bytes >= self._most_bytes
            or len(self._outbox) >= PUBLICATIONS_PER_JOB * self._most_jobs
            or self._journal.is_behind
        )

    def tick(self, now_s: float) -> list[Entry]:
        """Move payloads to disk beyond the memory budget; shed where the policy says so.

        Returns:
            The holes that were shed: they are out of the ledger, and nobody was told.
        """
        if self._journal.is_durable:
            self._spill()
        if not self.brake.update(now_s, is_full=self.is_full):
            return []
        return self._ledger.shed(self._excess, which=self.brake.policy)

    def _spill(self) -> None:
        while self._ledger.memory_bytes > self._limits.memory_bytes:
            entry = self._ledger.next_to_spill(self._journal.durable)
            if entry is None:
                return  # what could go is still on its way to the disk
            self._ledger.spill(entry)
            self._counts["spilled"] += 1

    @property
    def _excess(self) -> int:
        """How many holes to shed, to make room for a moment. What only waits for MQTT, or for the
        disk, is none of them: shedding would free nothing.
        """
        some = max(1, int(self._limits.max_open_jobs * SHED_SHARE))
        if self._ledger.open_bytes >= self._most_bytes:
            return min(some, len(self._ledger))
        return len(self._ledger) - (self._limits.max_open_jobs - some)
