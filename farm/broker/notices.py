"""Notices about dead letters, for whoever watches a site over MQTT: each one, and how many wait.

Owns their topics and their form. A decision without I/O.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from farm.adapter import Publication
from farm.journal.ids import told

if TYPE_CHECKING:
    from farm.adapter import Finished, Terminal
    from farm.clock import WallClock

TELL_COUNT_EVERY_S = 1.0  # however many letters die, their number is told no more often


class DeadLetterNotices:
    """See the module. `count` is the number of dead letters that nobody has dealt with."""

    def __init__(self, instance: str, clock: WallClock, *, is_publishing: bool) -> None:
        self.topic = f"farm/{instance}/dead"
        self._clock = clock
        self._is_publishing = is_publishing
        self.count = 0
        self._told = -1
        self._next_s = 0.0

    def one_more(self) -> None:
        """A hole ended as a dead letter."""
        self.count += 1

    def of(
        self, hole_id: int, finished: Finished, terminal: Terminal, now_s: float
    ) -> tuple[Publication, ...]:
        """The notice about one hole; none where they are switched off."""
        if not self._is_publishing:
            return ()
        hole = told(hole_id)
        names = shlex.join([finished.source, finished.part_id])  # to be pasted into a shell
        body = {
            "hole": hole,
            "source": finished.source,
            "id": finished.part_id,
            "terminal": terminal.value,
            "reason": finished.reason,
            "at_s": round(self._clock.at(now_s), 3),
            "cure": f"farm why {names}; farm dead retry {hole}",
        }
        return (Publication(self.topic, json.dumps(body).encode("utf-8", "backslashreplace")),)

    def news(self, now_s: float) -> Publication | None:
        """The number, when it has changed since it was told."""
        if not self._is_publishing or self.count == self._told or now_s < self._next_s:
            return None
        self._told = self.count
        self._next_s = now_s + TELL_COUNT_EVERY_S
        return Publication(f"{self.topic}/count", str(self.count).encode(), retain=True)
