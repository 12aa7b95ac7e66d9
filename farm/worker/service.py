"""What a worker that systemd keeps tells of itself: that it is up, and that its work goes on.

A decision without I/O. A worker on another machine that hangs in its model can't be killed by the
farm; its watchdog can: a worker at work for much longer than a hole may take gives no sign of life,
nor does one that loads its model for longer than it may. STOPPING is for a worker that leaves for
good: after that word systemd kills what is still there, a worker that only starts anew with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farm.systemd import State

if TYPE_CHECKING:
    from farm.systemd import Service

JOB_TIMEOUTS: Final = 2.0  # the farm has given the hole to another worker long before


class WorkerService:
    """See the module. Times are monotonic seconds. For the reader's thread."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._was_up = False
        self._job_id: int | None = None
        self._since_s = 0.0
        self._loads_since_s: float | None = None

    def tick(
        self,
        now_s: float,
        *,
        is_working: bool,
        is_leaving: bool,
        is_loading: bool,
        ready_timeout_s: float,
        job_id: int | None,
        job_timeout_s: float,
    ) -> None:
        """Say what is due. Call it in every turn of the loop.

        Args:
            now_s: the time.
            is_working: it belongs to a farm, and its model is warm.
            is_leaving: it finishes what it has, and ends; it does not come back by itself.
            is_loading: it was welcomed, and its model is not warm yet.
            ready_timeout_s: how long that may take at most.
            job_id: of its holes the one that is the first to be done; None: it has none.
            job_timeout_s: how long one may take at most.
        """
        if not self._service.is_on:
            return
        if job_id is None or job_id != self._job_id:  # what it gathers goes on without a pause
            self._job_id, self._since_s = job_id, now_s
        self._was_up = self._was_up or is_working
        state = State.UP if self._was_up else State.STARTING
        status = "works for its farm" if is_working else "waits for its farm, or loads its model"
        if is_leaving:
            state, status = State.STOPPING, "leaves: what it has is finished"
        if not is_loading:
            self._loads_since_s = None
        elif self._loads_since_s is None:
            self._loads_since_s = now_s
        loads_s = 0.0 if self._loads_since_s is None else now_s - self._loads_since_s
        is_well = now_s - self._since_s < JOB_TIMEOUTS * job_timeout_s and loads_s < ready_timeout_s
        self._service.tick(now_s, state, status=status, is_well=is_well)
