"""The `Registrar`: with it a hole begins. It gives it an id, a ticket, a story and its record.

From then on the hole must end once: who asks here expects its answer (`Answers.expect`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.broker.correlator import Paired
from farm.broker.entry import Entry
from farm.broker.story import Story
from farm.journal.ids import first_id, told
from farm.journal.records import Opened

if TYPE_CHECKING:
    from farm.broker.correlator import Unpaired
    from farm.clock import WallClock
    from farm.doors.tickets import Tickets
    from farm.journal.journal import Recorder
    from farm.journal.recovery import FoundHole


class Registrar:
    """See the module. Times are monotonic seconds."""

    def __init__(self, *, journal: Recorder, clock: WallClock, tickets: Tickets) -> None:
        self._journal = journal
        self._clock = clock
        self._tickets = tickets
        self.last_id = first_id(journal.life)  # ids of a former life must mean nobody

    def new_id(self) -> int:
        """One that nothing else in this life has."""
        self.last_id += 1
        return self.last_id

    def opened(self, event: Paired | Unpaired, now_s: float, skew_s: float) -> Entry:
        """The hole of a join that is over; `skew_s` turns its intake time into monotonic time."""
        first_s, last_s = event.first_s + skew_s, event.last_s + skew_s
        payloads = event.payloads
        entry = Entry(
            job_id=self.new_id(),
            key=event.key,
            payloads=payloads,
            payload_bytes=sum(map(len, payloads.values())),
            first_s=first_s,
            last_s=last_s,
            queued_s=now_s,
            messages={kind: part.message_id for kind, part in event.parts.items()},
            story=Story(self._clock.at(first_s), first_s),
        )
        entry.story.note(first_s, "first part")
        entry.story.note(now_s, "paired" if isinstance(event, Paired) else "given up")
        self._record(entry, now_s)
        return entry

    def retried(self, hole_id: int, dead: tuple[str, str, dict[str, int]], now_s: float) -> Entry:
        """A new hole of a dead letter's messages.

        Args:
            hole_id: of the dead letter.
            dead: its source, part id, and messages by kind, all in the journal.
            now_s: the time.
        """
        source, part_id, messages = dead
        entry = Entry(
            job_id=self.new_id(),
            key=(source, part_id),
            payloads=None,
            payload_bytes=0,
            first_s=now_s,
            last_s=now_s,
            queued_s=now_s,
            messages=messages,
            story=Story(self._clock.at(now_s), now_s),
        )
        entry.story.note(now_s, "retried", told(hole_id))
        self._record(entry, now_s, hole_id)
        return entry

    def recovered(self, hole: FoundHole, now_s: float) -> Entry:
        """A hole of a former life, under its id and with what has happened to it."""
        story = Story(self._clock.at(now_s), now_s, hole.story)
        story.note(now_s, "recovered")
        return Entry(
            job_id=hole.hole_id,
            key=(hole.source, hole.part_id),
            payloads=None,
            payload_bytes=hole.payload_bytes,
            first_s=now_s,
            last_s=now_s,
            queued_s=now_s,
            messages=hole.messages,
            story=story,
            deaths=hole.deaths,
            ticket=self._tickets.of(hole.hole_id),
        )

    def _record(self, entry: Entry, now_s: float, retry_of: int | None = None) -> None:
        """The hole has its id: it will end once, in its turn, whatever happens."""
        entry.ticket = self._tickets.of(entry.job_id)
        at = self._clock.at
        entry.position = self._journal.append(
            Opened(
                *(entry.job_id, *entry.key, entry.messages),
                *(at(now_s), at(entry.first_s), at(entry.last_s), retry_of),
            )
        )
