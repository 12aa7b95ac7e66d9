"""The `Account`: what is inside a recording, for people and for programs. Reads it once.

Damage does not end it: it says what can be read, and where that ends.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from farm.recording.moments import told_duration, told_moment
from farm.recording.reader import RecordingReader
from farm.recording.record import Gap, Message, Note
from farm.recording.selection import Selection
from farm.recording.tally import Tally

if TYPE_CHECKING:
    from pathlib import Path

    from farm.recording.traffic import Traffic

TOOLS_SHOWN: Final = 20
BEGUN: Final = "begun: "  # a note of a recorder's
EVERYTHING: Final = Selection()
KEPT: Final = 10  # gaps and notes, the newest


class Account:
    """See the module.

    Args:
        path: of the recording.
        traffic: what its messages are about.
        chosen: the part of it that is wanted.

    Attributes:
        tally: of all that is inside.
        chosen: of what is wanted of the messages.
        pauses: how often the recording was gone on with; `pause_ns`, how long nothing was recorded
            before.

    Raises:
        RecordingError: it is no recording, or can't be read at all.
    """

    def __init__(self, path: Path, traffic: Traffic, chosen: Selection = EVERYTHING) -> None:
        self.tally = self.chosen = Tally(traffic)
        if chosen != EVERYTHING:
            self.chosen = Tally(traffic)
        self.gaps: deque[Gap] = deque(maxlen=KEPT)
        self.notes: deque[Note] = deque(maxlen=KEPT)
        self.pauses = self.pause_ns = 0
        self._last_ns: int | None = None  # of the last message, before
        self._has_begun = False  # a recorder, since then
        with RecordingReader(path, is_patient=True) as reader:
            for record in reader.records():
                self.tally.add(record)
                if self.chosen is not self.tally and is_chosen(record, traffic, chosen):
                    self.chosen.add(record)
                if isinstance(record, Gap):
                    self.gaps.append(record)
                elif isinstance(record, Note):
                    self.notes.append(record)
                self._note_pause(record)
            self.header, self.size = reader.header, reader.size
            self.torn, self.damage, self.unknown = reader.torn, reader.damage, reader.unknown
            self.raw_bytes = reader.raw_bytes

    def _note_pause(self, record: Message | Gap | Note) -> None:
        if isinstance(record, Note):
            self._has_begun |= record.text.startswith(BEGUN)
        elif isinstance(record, Message) and not record.is_answer:
            if self._has_begun and self._last_ns is not None and record.at_ns > self._last_ns:
                self.pauses += 1
                self.pause_ns += record.at_ns - self._last_ns
            self._has_begun, self._last_ns = False, record.at_ns

    @property
    def ratio(self) -> float:
        """How many times smaller the file is than what is in it."""
        return self.raw_bytes / self.size if self.size else 0.0

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for a table."""
        tally = self.tally
        begun = told_moment(self.header.created_ns) if self.header.created_ns else "(not told)"
        rows = [
            ("begun", f"{begun} by {self.header.writer}"),
            ("size", f"{_mb(self.size)}, {self.ratio:.1f} times smaller than its messages"),
        ]
        if tally.first_ns is not None and tally.last_ns is not None:
            first, last = told_moment(tally.first_ns), told_moment(tally.last_ns)
            rows.append(("span", f"{first} to {last} ({told_duration(tally.span_s)})"))
        kinds = ", ".join(f"{n} {kind or 'of no known kind'}" for kind, n in tally.kinds.items())
        rows.append(("messages", f"{tally.messages}" + (f": {kinds}" if kinds else "")))
        rows.append(("holes", f"{tally.holes} complete, of {len(tally.tools)} tools"))
        rows.append(("answers", f"{tally.answers}" if tally.answers else "none recorded"))
        if tally.without_id:
            rows.append(("without an id", f"{tally.without_id} messages"))
        if self.header.is_anonymous:
            rows.append(("anonymous", "names, ids and serial numbers are made up"))
        if self.pauses:
            told = (
                f"{self.pauses}, {told_duration(self.pause_ns / 1e9)} in all: nothing was recorded"
            )
            rows.append(("pauses", told))
        if tally.gaps:
            rows.append(("gaps", f"{tally.gaps}, {told_duration(tally.gap_ns / 1e9)} in all"))
        rows += [("", f"{told_moment(gap.at_ns)}: {gap.note}") for gap in self.gaps]
        if self.unknown:
            rows.append(("unknown", f"{self.unknown} records of kinds of a later farm"))
        if self.torn is not None:
            rows.append(("torn end", str(self.torn)))
        if self.damage:
            rows.append(("DAMAGED", self.damage))
        return rows

    def data(self) -> dict[str, Any]:
        """The same for programs."""
        tally = self.tally
        return {
            "created_ns": self.header.created_ns,
            "writer": self.header.writer,
            "anonymous": self.header.is_anonymous,
            "bytes": self.size,
            "raw_bytes": self.raw_bytes,
            "first_ns": tally.first_ns,
            "last_ns": tally.last_ns,
            "messages": tally.messages,
            "answers": tally.answers,
            "holes": tally.holes,
            "kinds": dict(tally.kinds),
            "tools": dict(tally.tools),
            "without_id": tally.without_id,
            "gaps": [gap._asdict() for gap in self.gaps],
            "gap_count": tally.gaps,
            "pauses": self.pauses,
            "pause_ns": self.pause_ns,
            "notes": [note._asdict() for note in self.notes],
            "unknown_records": self.unknown,
            "torn_bytes": self.torn.torn_bytes if self.torn else 0,
            "damage": self.damage,
        }


def is_chosen(record: Message | Gap | Note, traffic: Traffic, chosen: Selection) -> bool:
    """Whether a record is a unit's message that is to be replayed."""
    return (
        isinstance(record, Message)
        and not record.is_answer
        and chosen.has_time(record.at_ns)
        and (not chosen.tools or chosen.has_tool(traffic.source(record.topic)))
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size} bytes"
