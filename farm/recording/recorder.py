"""The `Recorder`: what of a stream of messages goes into a recording, and in which form.

Owns the way of one record: wanted, made anonymous, written, counted. Where records come from are
`farm.recording.subscription`, the journal, or another recording.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from farm.errors import JournalError
from farm.recording.anonymous import HiddenError
from farm.recording.record import Gap, Message, Note, UnfitError
from farm.recording.tally import MAX_OPEN_HOLES, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, KeysView

    from farm.journal.reader import JournalReader
    from farm.recording.anonymous import Anonymiser
    from farm.recording.selection import Selection
    from farm.recording.traffic import Key, Traffic
    from farm.recording.writer import RecordingWriter

NS_PER_S = 1_000_000_000
ENDS = ("stopped", "the time is over", "enough holes", "all is kept")
# What a recorder says of itself, and what names nobody.
HIDDEN_NOTE = "(a note, whose text may name somebody)"
OWN_NOTES = frozenset(
    [f"begun: {origin}" for origin in ("mqtt", "journal", "another recording")]
    + [f"ended: {why}" for why in ENDS]
)


class Recorder:
    """See the module.

    Args:
        writer: of the recording.
        traffic: what its messages are about.
        selection: which ones are wanted.
        anonymiser: rewrites them; None: they are kept as they came.

    Attributes:
        tally: of what was written.
        left_out: how many wanted messages are not in the recording, by why.
    """

    def __init__(
        self,
        writer: RecordingWriter,
        traffic: Traffic,
        selection: Selection,
        anonymiser: Anonymiser | None = None,
    ) -> None:
        self.writer = writer
        self.tally = Tally(traffic)
        self.left_out: Counter[str] = Counter()
        self._unanswered: dict[Key, set[str]] = {}  # what is still to come of each answer
        self._traffic = traffic
        self._selection = selection
        self._anonymiser = anonymiser
        self._last_ns = 0  # of the last record, as it was written

    @property
    def unanswered(self) -> KeysView[Key]:
        """Holes that are complete, and of whose answer one message or both have not come yet."""
        return self._unanswered.keys()

    def take(self, record: Message | Gap | Note, *, is_late: bool = False) -> bool:
        """Write a record, if it is wanted; whether it was.

        Args:
            record: what came.
            is_late: the recording is over, and only answers to its holes are still wanted.

        Raises:
            RecordingError: the disk is full or fails.
        """
        is_wanted = not isinstance(record, Message) if is_late else self._wants(record)
        if not is_wanted and not self._is_awaited(record):
            return False
        try:
            written = self._rewritten(record)
            self.writer.append(written)
            self._last_ns = written.at_ns
        except (HiddenError, UnfitError) as error:
            self.left_out[str(error)] += 1
            return False
        # told by the real names: the made-up ones need not suit the configured topics
        complete = self.tally.add(record)
        if complete is not None and len(self._unanswered) < MAX_OPEN_HOLES:
            self._unanswered[complete] = set(self._traffic.answer_tails[:2])
        if isinstance(record, Message) and record.is_answer:
            self._note_answer(record)
        return True

    @property
    def is_anonymising(self) -> bool:
        """Whether names are made up."""
        return self._anonymiser is not None

    def note(self, at_ns: int, text: str) -> None:
        """Write what the recorder says of itself.

        Raises:
            RecordingError: the disk is full or fails.
        """
        if self._anonymiser is not None and self._anonymiser.shift_s:
            # this moment, moved, would say by how much: who gets the file knows when it was made
            at_ns = self._last_ns
        record = Note(at_ns, text)
        self.writer.append(record)
        self.tally.add(record)

    def _note_answer(self, answer: Message) -> None:
        found = self._traffic.answer(answer.topic)
        key = self._traffic.answered(answer.topic, answer.payload)
        if found is None or key is None or key not in self._unanswered:
            return
        tails = self._unanswered[key]
        tails.discard(found.tail)
        if not tails:
            del self._unanswered[key]

    def _is_awaited(self, record: Message | Gap | Note) -> bool:
        """Whether it belongs to a hole that is recorded, whenever it came."""
        return (
            isinstance(record, Message)
            and record.is_answer
            and self._traffic.answered(record.topic, record.payload) in self._unanswered
        )

    def _wants(self, record: Message | Gap | Note) -> bool:
        if isinstance(record, Gap):
            return self._selection.has_span(record.at_ns, record.to_ns)
        if not self._selection.has_time(record.at_ns):
            return False
        if not isinstance(record, Message):
            return True
        source = self._traffic.source(record.topic)
        return bool(source) and self._selection.has_tool(source)

    def _rewritten(self, record: Message | Gap | Note) -> Message | Gap | Note:
        if self._anonymiser is None:
            return record
        if isinstance(record, Message):
            return self._anonymiser.apply(record)
        shift_ns = self._anonymiser.shift_s * NS_PER_S
        if isinstance(record, Gap):
            return record._replace(
                at_ns=max(0, record.at_ns + shift_ns), to_ns=max(0, record.to_ns + shift_ns)
            )
        text = record.text if record.text in OWN_NOTES else HIDDEN_NOTE
        return Note(max(0, record.at_ns + shift_ns), text)


def kept_messages(
    journal: JournalReader, selection: Selection, *, with_answers: bool, gone: Counter[str]
) -> Iterator[Message]:
    """The messages of a journal in the order of their arrival, then the farm's answers.

    Args:
        journal: of a farm that runs or does not.
        selection: which times are looked at.
        with_answers: give the answers, too.
        gone: counts what can't be read any more, by why.

    Raises:
        JournalError: the journal can't be read.
    """
    since_s = selection.since_ns / NS_PER_S
    until_s = selection.until_ns / NS_PER_S
    for message in journal.messages(since_s=since_s, until_s=until_s):
        try:
            payload = journal.payload(message)
        except JournalError:
            # the farm may have let go of it since the row was read
            gone["it is damaged in the journal, or gone from it"] += 1
            continue
        yield Message(round(message.at_s * NS_PER_S), message.topic, payload)
    if not with_answers:
        return
    for at_s, _, publication in journal.answers(since_s=since_s, until_s=until_s):
        # within the time that was asked for, though the answer may have come a little later
        at_ns = min(round(at_s * NS_PER_S), selection.until_ns - 1)
        yield Message(at_ns, publication.topic, publication.payload, is_answer=True)
