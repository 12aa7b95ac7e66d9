"""The child processes of a supervisor: started, told, reaped. Knows no roles, decides nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

from farm.supervisor.parent import adopt_orphans
from farm.supervisor.spawning import spawn

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Iterator, Mapping, Sequence


class Children:
    """Living children by pid. For the main thread: they die with the thread that forks them.

    It waits for every child that this process gets, also for those of children that have ended.
    """

    def __init__(self) -> None:
        adopt_orphans()
        self._alive: dict[int, subprocess.Popen[bytes] | None] = {}

    def spawn(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start `farm` with these arguments, see `farm.supervisor.spawning`; returns its pid.

        Raises:
            OSError: the system has no room for it now.
        """
        return self.take(spawn(arguments, environment=environment))

    def take(self, child: subprocess.Popen[bytes]) -> int:
        """Take on a child that was started already; returns its pid."""
        self._alive[child.pid] = child
        return child.pid

    def adopt(self, pid: int) -> bool:
        """Take on a child that another has forked for us; False: it has ended already."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        self._alive[pid] = None
        return True

    def ended(self) -> Iterator[tuple[int, int]]:
        """Pid and return code of each that has ended since the last call."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._alive:
                returncode = os.waitstatus_to_exitcode(status)
                self._forget(pid, returncode)
                yield pid, returncode

    def signal(self, pids: Iterable[int], signum: int) -> None:
        """Send a signal to each."""
        for pid in pids:
            if pid in self._alive:  # until it was waited for nobody else can have its pid
                with contextlib.suppress(ProcessLookupError):  # another has waited for it
                    os.kill(pid, signum)

    def wait(self, pid: int, timeout_s: float) -> None:
        """Until it has ended, or the time is over."""
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(timeout_s * 1000)
        finally:
            os.close(descriptor)

    def kill_all(self) -> None:
        """End all of them at once."""
        self.signal(self._alive, signal.SIGKILL)
        for pid in list(self._alive):
            returncode = -signal.SIGKILL
            with contextlib.suppress(ChildProcessError):  # another has waited for it
                returncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self._forget(pid, returncode)

    def _forget(self, pid: int, returncode: int) -> None:
        child = self._alive.pop(pid)
        if child is not None:
            child.returncode = returncode  # so that it does not wait for it itself
