"""The `Dialogue`: what the supervisor and the broker say to each other, one request at a time.

It knows what is outstanding and what must be told next: the drain, a reload, a number of workers,
a snapshot for systemd, else a report, which tells of each end of a worker until the broker has
taken it. What the broker orders is the supervisor's to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from farm import log, wire
from farm.errors import WireError

if TYPE_CHECKING:
    from farm.control import ControlClient
    from farm.supervisor.reloading import Reloading
    from farm.supervisor.service import FarmService
    from farm.supervisor.staffing import Staffing

REPORT_EVERY_S = 0.5
REPORT_FRESH_EVERY_S = 0.005  # while it matters whether a worker is READY


class Dialogue:
    """See the module. Times are monotonic seconds.

    Attributes:
        control: the line to the broker.
        is_drain_told: nobody has to tell it any more.
    """

    def __init__(
        self,
        control: ControlClient,
        *,
        staffing: Staffing,
        reloading: Reloading,
        service: FarmService,
    ) -> None:
        self._service = service
        self.control = control
        self.is_drain_told = False
        self._staffing = staffing
        self._reloading = reloading
        self._asked: wire.Message | None = None  # the request that is outstanding
        self._unreported: list[tuple[int, str]] = []
        self._in_report = 0  # how many of them the outstanding report tells
        self._next_report_s = 0.0
        self._log = log.get()

    def hasten(self) -> None:
        """There is something to tell, or to be told: with the next turn."""
        self._next_report_s = 0.0

    def worker_ended(self, pid: int, how: str) -> None:
        """The broker is to be told, as soon as may be."""
        self._unreported.append((pid, how))
        self.hasten()

    def broker_ended(self) -> None:
        """Nobody answers what was asked."""
        self.control.reset()
        self._asked = None

    # ---- hearing ------------------------------------------------------------------------------

    def hear(self) -> wire.Message | None:
        """What the broker says, if anything; give it to `take`."""
        try:
            return self.control.receive()
        except WireError as error:
            self._log.error("broker_reply_refused", reason=str(error))
            return None

    def take(self, reply: wire.Message) -> wire.SupervisorOrders | None:
        """What is said in the reply; returns the orders, where it has some."""
        asked, self._asked = self._asked, None
        match asked, reply:
            case wire.StatsRequest(), wire.StatsReply(shot):
                self._service.heard(shot)
                self.hasten()  # it was not the report's turn
            case wire.Drain(), wire.Done():
                self.is_drain_told = True
            case wire.Reload(), _:
                self._reloading.answered(reply)
                self.hasten()
            case wire.Scale() | wire.Configured(), wire.Done():
                self._staffing.told(asked)
                self.hasten()  # the orders that come with the next report will say so
            case wire.SupervisorReport(), wire.SupervisorOrders():
                del self._unreported[: self._in_report]
                self._in_report = 0
                return reply
            case _:
                self._log.error("broker_reply_refused", reason=f"{reply!r:.200}")
        return None

    def give_up_if_late(self) -> None:
        """What is unanswered for too long is asked again."""
        if self.control.give_up_if_late():
            self._asked = None

    # ---- speaking -----------------------------------------------------------------------------

    def wait_s(self, now_s: float) -> float | None:
        """In how many seconds something may be said; None: not before a reply has come."""
        return self._next_report_s - now_s if self.control.is_free else None

    def speak(
        self,
        now_s: float,
        *,
        is_running: bool,
        is_draining: bool,
        is_fresh: bool,
        failed: list[tuple[int, str]],
        nursery: dict[str, Any],
        gpus: dict[str, str],
    ) -> None:
        """Say what is next.

        Args:
            now_s: the time.
            is_running: the farm is to go on.
            is_draining: it is to finish what is open.
            is_fresh: a worker was started just now.
            failed: the slots that were given up, for a report.
            nursery: how workers are launched, likewise.
            gpus: the workers with a GPU, likewise.
        """
        self._next_report_s = now_s + (REPORT_FRESH_EVERY_S if is_fresh else REPORT_EVERY_S)
        self._asked = self._next_request(is_running=is_running, is_draining=is_draining)
        if self._asked is None and self._service.wants_snapshot(now_s):
            self._asked = wire.StatsRequest()
        if self._asked is None:
            self._in_report = len(self._unreported)
            told = (list(self._unreported), failed, nursery, gpus)
            self._asked = wire.SupervisorReport(*told, self._reloading.is_under_way)
        self.control.send(self._asked)

    def _next_request(self, *, is_running: bool, is_draining: bool) -> wire.Message | None:
        """What comes before a report."""
        if is_draining and not self.is_drain_told and not self._unreported:
            return wire.Drain()
        return (self._reloading.request or self._staffing.request) if is_running else None
