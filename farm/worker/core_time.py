"""The `CoreTime`: how much of a core a thread used, and how long it was kept from one.

From the thread's own clock, and from the kernel's account of its time in the queue for a core:
/proc/thread-self/schedstat (proc(5), Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

_MAX_BYTES = 100


class Moment(NamedTuple):
    """The accounts at one moment, in seconds."""

    now_s: float
    ran_s: float
    queued_s: float


class CoreTime:
    """Of the thread that made it. Where the kernel keeps no such accounts, nothing is known."""

    def __init__(self) -> None:
        try:
            self._descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def read(self) -> Moment | None:
        """The accounts now."""
        if self._descriptor < 0:
            return None
        try:
            _, queued, *_ = os.pread(self._descriptor, _MAX_BYTES, 0).split()
        except (OSError, ValueError):
            return None
        # Not the first of them: the kernel adds to it only at its ticks, milliseconds apart.
        return Moment(time.monotonic(), time.thread_time(), int(queued) / 1e9)

    def demand_since(self, begin: Moment | None) -> float:
        """How much of a core the thread used while it was not kept from one, 0 to 1; 0: unknown.

        1: it computed all the time. 0.1: nine tenths it waited for something that is no core.
        """
        end = self.read()
        if begin is None or end is None:
            return 0.0
        ran_s = end.ran_s - begin.ran_s
        wanted_s = (end.now_s - begin.now_s) - (end.queued_s - begin.queued_s)
        if ran_s <= 0:
            return 0.0
        # A thread that is put aside between the readings of two accounts has that wait in one of
        # them only: then it seems to have wanted less time than it ran, or less than none.
        return ran_s / max(wanted_s, ran_s)
