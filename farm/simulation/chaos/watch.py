"""Watches the processes of a farm from outside: who lives, and when a life of the broker ended."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import psutil

from farm.control import fetch_stats
from farm.errors import FarmError
from farm.simulation.chaos.history import Life

if TYPE_CHECKING:
    from farm.simulation.rig import Rig

LOOK_EVERY_S: Final = 0.1  # how exactly the end of a life is known
STATS_EVERY_S: Final = 0.5
STATS_TIMEOUT_S: Final = 0.2  # a stopped broker must not stop the chaos


class Watch:
    """See the module. `look` often.

    Attributes:
        broker: the process of the farm's broker; None while there is none.
        lives: of it, oldest first.
        stats: the newest snapshot; None while nobody answers.
        worker_pids: all that were seen.
    """

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.broker: psutil.Process | None = None
        self.lives: list[Life] = []
        self.stats: dict[str, Any] | None = None
        self.worker_pids: set[int] = set()
        self._workers: dict[int, psutil.Process] = {}
        self._seen_s = 0.0
        self._next_look_s = 0.0
        self._next_stats_s = 0.0

    def look(self, *, is_urgent: bool = False) -> None:
        """Look again, if it is time."""
        now_s = time.monotonic()
        if now_s >= self._next_look_s or is_urgent:
            self._next_look_s = now_s + LOOK_EVERY_S
            self._look_for_broker()
        if now_s >= self._next_stats_s or is_urgent:
            self._next_stats_s = now_s + STATS_EVERY_S
            self._ask()

    def workers(self) -> list[psutil.Process]:
        """Those that joined the farm and live, in a lasting order."""
        self._workers = {pid: one for pid, one in self._workers.items() if is_alive(one)}
        return [self._workers[pid] for pid in sorted(self._workers)]

    @property
    def ready(self) -> int:
        """Workers that are READY, as the farm says."""
        rows = self.stats["workers"] if self.stats else ()
        return sum(row["state"] in {"idle", "busy"} for row in rows)

    def _look_for_broker(self) -> None:
        if self.broker is not None and is_alive(self.broker):
            self._seen_s = time.monotonic()
            return
        now_s = time.monotonic()
        if self.broker is not None:
            self.lives[-1] = replace(self.lives[-1], ended_after_s=self._seen_s, ended_by_s=now_s)
            self.stats = None
        self.broker = self.find("broker")
        if self.broker is not None:
            self.lives.append(Life(self.broker.pid, now_s))
            self._seen_s = now_s

    def find(self, role: str) -> psutil.Process | None:
        """The living process of the farm that was started with this command."""
        try:
            children = psutil.Process(self._rig.pid).children()
        except psutil.Error:
            return None
        return next((child for child in children if _has_role(child, role)), None)

    def _ask(self) -> None:
        try:
            self.stats = fetch_stats(self._rig.control, timeout_s=STATS_TIMEOUT_S)
        except FarmError:
            self.stats = None
            return
        for row in self.stats["workers"]:
            pid = row["pid"]
            self.worker_pids.add(pid)
            if pid not in self._workers and psutil.pid_exists(pid):
                self._workers[pid] = psutil.Process(pid)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs or is stopped; the dead whose parent has not noticed are not alive."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _has_role(process: psutil.Process, role: str) -> bool:
    try:
        return role in process.cmdline() and is_alive(process)
    except psutil.Error:
        return False
