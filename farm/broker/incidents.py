"""The `Incidents`: the last dead letters and alerts, in words, for `farm stats`.

A decision without I/O, and bounded. All those that wait are the journal's (`farm dead list`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from farm.journal.ids import told
from farm.printable import printable

if TYPE_CHECKING:
    from farm.adapter import Finished, Terminal

KEPT = 10
REASON_CHARS, NAME_CHARS = 160, 200


class Incidents:
    """See the module. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._dead: deque[tuple[float, int, Finished, Terminal]] = deque(maxlen=KEPT)
        self._alerts: deque[tuple[float, str, str]] = deque(maxlen=KEPT)

    def died(self, hole_id: int, finished: Finished, terminal: Terminal, now_s: float) -> None:
        """A hole ended badly; of the value and the rest nothing is kept."""
        self._dead.append((now_s, hole_id, finished._replace(value=None, provenance={}), terminal))

    def alerted(self, source: str, text: str, now_s: float) -> None:
        """The answerer calls for the operator."""
        self._alerts.append((now_s, source, text))

    def snapshot(self, now_s: float) -> dict[str, Any]:
        """Both, newest first."""
        return {
            "dead": [
                {
                    "age_s": now_s - at_s,
                    "hole": told(hole_id),
                    "source": printable(finished.source, NAME_CHARS),
                    "id": printable(finished.part_id, NAME_CHARS),
                    "terminal": terminal.value,
                    "reason": printable(finished.reason, REASON_CHARS),
                }
                for at_s, hole_id, finished, terminal in reversed(self._dead)
            ],
            "alerts": [
                {
                    "age_s": now_s - at_s,
                    "source": printable(source, NAME_CHARS),
                    "text": printable(text, 2 * REASON_CHARS),
                }
                for at_s, source, text in reversed(self._alerts)
            ],
        }
