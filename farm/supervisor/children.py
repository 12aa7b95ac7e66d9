"""The child processes of a supervisor: started, told, reaped. Knows no roles, decides nothing."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Children:
    """Living children by pid. For the main thread: they die with the thread that forks them."""

    def __init__(self) -> None:
        self._alive: dict[int, subprocess.Popen[bytes]] = {}

    def spawn(self, arguments: Sequence[str]) -> int:
        """Start `farm` with these arguments, in a process group of its own; returns its pid.

        Raises:
            OSError: the system has no room for it now.
        """
        # -P: a json.py in the folder where the farm was started must not shadow the library's
        command = [sys.executable, "-P", "-m", "farm", *arguments, "--parent", str(os.getpid())]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        self._alive[child.pid] = child
        return child.pid

    def ended(self) -> Iterator[tuple[int, int]]:
        """Pid and return code of each that has ended since the last call."""
        for pid, child in list(self._alive.items()):
            returncode = child.poll()
            if returncode is not None:
                del self._alive[pid]
                yield pid, returncode

    def signal(self, pids: Iterable[int], signum: int) -> None:
        """Send a signal to each."""
        for pid in pids:
            self._alive[pid].send_signal(signum)

    def wait(self, pid: int, timeout_s: float) -> None:
        """Until it has ended, or the time is over."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._alive[pid].wait(timeout_s)

    def kill_all(self) -> None:
        """End all of them at once."""
        for child in self._alive.values():
            child.kill()
        for child in self._alive.values():
            child.wait()
        self._alive.clear()
