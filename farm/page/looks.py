"""The `Looks`: what is looked up in the journal for one hole, one tool, the dead letters.

Each look opens the journal, reads what it needs and closes it. Blocking: for a thread, not for the
loop. Gives plain data; texts in it are a stranger's, and the browser treats them so.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from farm.errors import FarmError, JournalBusyError, JournalError, ReadError
from farm.journal.ids import told
from farm.journal.records import HoleState
from farm.journal.tail import JournalTail
from farm.printable import file_name
from farm.telemetry.life import as_data
from farm.viewer import fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from farm.journal.reader import KeptHole, KeptMessage
    from farm.viewer import GuardedViewer

MAX_LEVELS: Final = 120  # holes whose raw messages are read for one trend
MAX_KEPT_LEVELS: Final = 20_000
MAX_TWINS: Final = 20  # holes of one key
FIRST: Final = "first part"  # of a story: the arrivals say it better


class Looks:
    """See the module.

    Args:
        state_dir: of the farm.
        viewer: of its traffic.
        story_of: asks a running farm for the story of an open hole: source, part id, hole id.
    """

    def __init__(
        self,
        state_dir: Path,
        viewer: GuardedViewer,
        story_of: Callable[[str, str, str], list[Any] | None],
    ) -> None:
        self._state_dir = state_dir
        self._viewer = viewer
        self._story_of = story_of
        self._levels: OrderedDict[int, Mapping[str, float]] = OrderedDict()
        self._lock = Lock()

    def hole(self, hole_id: int) -> dict[str, Any] | None:
        """All that is known of a hole, but its picture; None where the journal has none such."""
        with JournalTail(self._state_dir) as journal:
            hole = journal.hole(hole_id)
            if hole is None:
                return None
            messages = journal.messages_of(hole)
            twins = [h.hole_id for h in journal.find(hole.source, hole.part_id)][-MAX_TWINS:]
        story = hole.story
        if hole.state is HoleState.OPEN:
            story = self._story_of(hole.source, hole.part_id, str(hole_id)) or story
        return {
            **as_data(hole, messages, story),
            "is_dead_letter": hole.is_dead_letter,
            "provenance": hole.provenance,
            "figures": self._viewer.figures(hole.value),
            "fields": fields_of(hole.value),
            "timeline": timeline(hole, messages, story),
            "gone_messages": len(hole.messages) - len(messages),
            "twins": [told(twin) for twin in twins if twin != hole_id],
        }

    def picture(self, hole_id: int) -> dict[str, Any] | None:
        """What to draw of a hole, or why there is nothing; None: there is no such hole."""
        with JournalTail(self._state_dir) as journal:
            hole = journal.hole(hole_id)
            if hole is None:
                return None
            try:
                parts = journal.parts(hole)
            except JournalError as error:
                return {"problem": str(error)}
        try:
            picture = self._viewer.picture(parts, hole.value)
        except ReadError as error:
            return {"problem": str(error)}
        return {"views": picture.views, "series": picture.series, "fields": picture.fields}

    def part(self, hole_id: int, kind: str) -> tuple[str, bytes] | None:
        """The raw message of a kind, with a name for its file; None where there is none such.

        Raises:
            JournalError: its bytes are gone or damaged.
        """
        with JournalTail(self._state_dir) as journal:
            hole = journal.hole(hole_id)
            if hole is None or kind not in hole.messages:
                return None
            found = {message.kind: message for message in journal.messages_of(hole)}
            if kind not in found:
                raise JournalError("its bytes are no longer kept (journal.keep_s)")
            name = file_name(f"{hole.source}-{hole.part_id}-{kind}.json")
            return name, journal.payload(found[kind])

    def levels(self, hole_ids: Sequence[int]) -> dict[str, Mapping[str, float]]:
        """What is measured in the raw messages of some holes, by hole, those that are kept."""
        chosen = hole_ids[-MAX_LEVELS:]
        missing = [i for i in chosen if i not in self._levels]
        if missing and self._viewer.levels:
            with JournalTail(self._state_dir) as journal:
                for hole_id in missing:
                    try:
                        self._keep(hole_id, self._measure(journal, hole_id))
                    except JournalBusyError:
                        continue  # the next look tries again
        return {told(i): self._levels[i] for i in chosen if self._levels.get(i)}

    def dead(self, before: int | None, limit: int) -> dict[str, Any]:
        """Dead letters, newest first, and how many there are in all."""
        with JournalTail(self._state_dir) as journal:
            letters = journal.dead_before(before, limit)
            total = journal.count_dead_letters()
        return {"total": total, "letters": [_letter(letter) for letter in letters]}

    def _measure(self, journal: JournalTail, hole_id: int) -> Mapping[str, float]:
        hole = journal.hole(hole_id)
        if hole is None or hole.value is None:
            return {}
        try:
            return self._viewer.measure(journal.parts(hole), hole.value)
        except JournalBusyError:
            raise
        except FarmError:  # its bytes are gone
            return {}

    def _keep(self, hole_id: int, levels: Mapping[str, float]) -> None:
        with self._lock:
            self._levels[hole_id] = levels
            while len(self._levels) > MAX_KEPT_LEVELS:
                self._levels.popitem(last=False)


def timeline(
    hole: KeptHole, messages: Sequence[KeptMessage], story: list[Any]
) -> list[dict[str, Any]]:
    """What happened, in order of time: arrivals, the story's events, the confirmation.

    Args:
        hole: as the journal has it.
        messages: of it, those that are kept.
        story: see `farm.broker.story`.
    """
    rows = [(m.at_s, 0, "arrived", f"{m.kind}, {m.place.length} bytes", 0) for m in messages]
    for life, (began_s, _left_out, events) in enumerate(story):
        rows += [
            (began_s + t, 1, what, detail, life) for t, what, detail in events if what != FIRST
        ]
    if hole.ended_s is not None:
        what, detail = "ended", "nothing to publish"
        if hole.refusals:
            what, detail = "refused", hole.refusals
        elif hole.publications:
            what, detail = "confirmed", "every answer, by the MQTT broker"
        rows.append((hole.ended_s, 2, what, detail, max(len(story) - 1, 0)))
    rows.sort(key=lambda row: (row[0], row[1]))
    return [
        {"at_s": at_s, "what": what, "detail": detail, "life": life}
        for at_s, _, what, detail, life in rows
    ]


def _letter(hole: KeptHole) -> dict[str, Any]:
    return {
        "hole": told(hole.hole_id),
        "source": hole.source,
        "id": hole.part_id,
        "outcome": hole.terminal,
        "reason": hole.reason,
        "refusals": hole.refusals,
        "deaths": hole.deaths,
        "ended_s": hole.ended_s,
        "kinds": sorted(hole.messages),
    }
