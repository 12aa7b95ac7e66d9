"""The `Turnover`: how often a worker's place got a new process, and how the last ones ended.

A decision without I/O, and bounded. A place is a name, together with the key it came in by.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farm.printable import printable

if TYPE_CHECKING:
    from farm.broker.roster import Worker

MAX_PLACES = 1024  # names may be strangers'; the longest unheard goes first
MAX_ENDS = 10  # shown as the last ones
CAUSE_CHARS = 160


@dataclass(slots=True)
class _Place:
    process: tuple[str, int]  # host and pid
    restarts: int = 0
    last_end: str = ""


class Turnover:
    """See the module. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()
        self._ends: deque[tuple[float, str, str, str]] = deque(maxlen=MAX_ENDS)

    def came(self, worker: Worker) -> None:
        """A worker said Hello; the same process, twice, is no restart."""
        where, process = (worker.key, worker.name), (worker.host, worker.pid)
        place = self._places.get(where)
        if place is None:
            self._places[where] = _Place(process)
            if len(self._places) > MAX_PLACES:
                self._places.popitem(last=False)
        elif place.process != process:
            place.process = process
            place.restarts += 1
        self._places.move_to_end(where)

    def went(self, worker: Worker, cause: str, now_s: float) -> None:
        """It died, left or was fenced."""
        told = printable(cause, CAUSE_CHARS)
        self._ends.append((now_s, worker.key, worker.name, told))
        if place := self._places.get((worker.key, worker.name)):
            place.last_end = told

    def of(self, worker: Worker) -> dict[str, Any]:
        """For the worker's row."""
        place = self._places.get((worker.key, worker.name))
        if place is None:
            return {"restarts": 0, "last_end": ""}
        return {"restarts": place.restarts, "last_end": place.last_end}

    def ends(self, now_s: float) -> list[dict[str, Any]]:
        """The last ones that ended, newest first."""
        return [
            {"age_s": now_s - at_s, "key": key, "name": name, "cause": cause}
            for at_s, key, name, cause in reversed(self._ends)
        ]
