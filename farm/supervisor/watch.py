"""The `Watch`: which of the children is stuck, and is to be killed for what reason.

A decision without I/O. What each pool knows of its processes is the pool's; here it is held against
the time-outs of the configuration, and against when the broker was heard last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farm.supervisor.dialogue import REPORT_EVERY_S
from farm.supervisor.pool import SlotState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farm.config import Config
    from farm.supervisor.pool import Pool

SILENCE_S = 4 * REPORT_EVERY_S  # of the broker: whom it knew before is not asked for
REJOIN_TIMEOUTS = 2.0  # a worker joins a new broker in so many heartbeat timeouts, or is stuck
BROKER_START_S = 120.0  # from its start to its first answer
FLEET_SETTLED_S = 5.0  # one that has run for so long has come up


class Watch:
    """See the module. Times are monotonic seconds."""

    def __init__(self, *, workers: Pool, broker: Pool, fleet: Pool, now_s: float) -> None:
        self._workers = workers
        self._broker = broker
        self._fleet = fleet
        self._last_reply_s = 0.0
        self._last_orders_s = 0.0
        self._last_turn_s = now_s

    def broker_started(self, now_s: float) -> None:
        """Its silence begins."""
        self._last_reply_s = now_s

    def broker_replied(self, now_s: float) -> None:
        """It is there."""
        self._last_reply_s = now_s
        self._broker.note_ready([slot.pid for slot in self._broker.running], now_s)

    def ordered(self, ready_pids: list[int], now_s: float) -> None:
        """It has told which workers are READY; it may be another one than before."""
        if now_s - self._last_orders_s > SILENCE_S:
            self._workers.note_silence(now_s)
        self._last_orders_s = now_s
        self._workers.note_ready(ready_pids, now_s)

    def strangers(self, now_s: float, config: Config) -> Iterator[tuple[int, str]]:
        """The workers that the broker does not know, and should by now; ask after its orders."""
        timeout_s = REJOIN_TIMEOUTS * config.workers.heartbeat_timeout_s
        for slot in self._workers.unknown(now_s, timeout_s):
            yield slot.pid, f"worker {slot.name} has not joined the new broker in {timeout_s:g} s"

    def stuck(self, now_s: float, config: Config) -> Iterator[tuple[int, str]]:
        """Whoever did not come up, leave or answer in time."""
        for slot in self._workers.overdue(now_s):
            yield slot.pid, f"worker {slot.name} was told to leave and did not"
        timeout_s = config.workers.ready_timeout_s
        for slot in self._workers.never_ready(now_s):
            cure = "raise workers.ready_timeout_s or read its log lines"
            yield slot.pid, f"worker {slot.name} not READY in {timeout_s:g} s: {cure}"
        settled = [s.pid for s in self._fleet.running if now_s - s.started_s > FLEET_SETTLED_S]
        self._fleet.note_ready(settled, now_s)
        if now_s - self._last_turn_s > SILENCE_S:
            self._last_reply_s = now_s  # it was us who were away, and asked nothing
        self._last_turn_s = now_s
        for slot in self._broker.running:
            # a journal that is checked after a crash, on a slow disk, takes its time
            is_up = slot.state is SlotState.READY
            timeout_s = config.supervisor.broker_timeout_s if is_up else BROKER_START_S
            if now_s - self._last_reply_s > timeout_s:
                self._last_reply_s = now_s
                yield slot.pid, f"the broker did not answer for {timeout_s:g} s"

    @property
    def is_hopeless(self) -> bool:
        """Whether so many could not be kept alive that there is no farm."""
        return any(pool.is_hopeless for pool in (self._workers, self._broker, self._fleet))
