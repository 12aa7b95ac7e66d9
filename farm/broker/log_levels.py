"""The `LogLevels`: which part of the farm logs at another level than configured, and until when.

A decision without I/O. It lives with the broker process, whom all others ask for orders; when that
ends, everything is as configured again, and so it is once the time is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farm import wire

BROKER: Final = "broker"
SUPERVISOR: Final = "supervisor"
FLEET: Final = "fleet"
ALL: Final = "all"
WORKERS: Final = "workers"
OF_A_WORKER: Final = "worker "  # and its name, as the lines of its log have it
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
MOST_S: Final = 86_400.0  # what shall last for longer belongs into the configuration
MOST_PARTS: Final = 100  # that differ from `all` and `workers` at once


@dataclass(frozen=True, slots=True)
class _Change:
    level: str
    ends_s: float


class LogLevels:
    """See the module. Times are monotonic seconds.

    Args:
        configured: the level of the configuration.
    """

    def __init__(self, configured: str) -> None:
        self._configured = configured
        self._changes: dict[str, _Change] = {}

    def answer(self, asked: wire.LogLevel, workers: set[str], now_s: float) -> wire.Message:
        """The reply to an operator.

        Args:
            asked: what he wants; without a level, only to be told.
            workers: the names of those that there are.
            now_s: the time.
        """
        self._forget(now_s)
        if asked.level:
            if fault := self._fault(asked, workers):
                return wire.Refused(fault)
            self._change(asked, now_s)
        changes = {
            part: [change.level, change.ends_s - now_s] for part, change in self._changes.items()
        }
        return wire.LogLevels(self._configured, changes)

    def of(self, part: str, now_s: float) -> str:
        """The level at which a part is to log now; "": as configured."""
        if not self._changes:  # nearly always
            return ""
        self._forget(now_s)
        kind = WORKERS if part.startswith(OF_A_WORKER) else part
        for name in (part, kind, ALL):
            if (change := self._changes.get(name)) is not None:
                return change.level
        return ""

    def _change(self, asked: wire.LogLevel, now_s: float) -> None:
        if asked.part == ALL:
            self._changes.clear()  # each of them is meant
        elif asked.part == WORKERS:
            for name in [part for part in self._changes if part.startswith(OF_A_WORKER)]:
                del self._changes[name]
        # the configured level is a change as well: it may be meant for one part among all
        self._changes[asked.part] = _Change(asked.level, now_s + asked.for_s)

    def _forget(self, now_s: float) -> None:
        over = [part for part, change in self._changes.items() if change.ends_s <= now_s]
        for part in over:
            del self._changes[part]

    def _fault(self, asked: wire.LogLevel, workers: set[str]) -> str:
        """Why it can't be done, as a sentence; "" where it can."""
        if asked.level not in LEVELS:
            return f"there is no level {asked.level!r:.40}: {', '.join(LEVELS)}"
        if not 0 < asked.for_s <= MOST_S:
            return f"for at most {MOST_S:g} s: what shall last belongs into log.level"
        if len(self._changes) >= MOST_PARTS and asked.part not in self._changes:
            return f"{MOST_PARTS} parts log at levels of their own already: change them all at once"
        worker = asked.part.removeprefix(OF_A_WORKER)
        is_worker = worker != asked.part and worker in workers
        if is_worker or asked.part in (ALL, BROKER, SUPERVISOR, FLEET, WORKERS):
            return ""
        named = [f"{OF_A_WORKER}{name}" for name in sorted(workers)]
        known = ", ".join((ALL, BROKER, SUPERVISOR, FLEET, WORKERS, *named))
        return f"there is no part {asked.part!r:.80}: {known}"
