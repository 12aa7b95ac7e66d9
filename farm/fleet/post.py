"""The `Post`: what an actor of Ray does. It holds one worker process, the same as `farm worker`.

Runs on any node of the cluster. It is looked at once in a while and does everything then: no
thread, no loop. Its worker dies with it, by the kernel's hand; it dies with its node or the fleet.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from farm.doors.invite import Invite
from farm.errors import ExitCode, StateError
from farm.supervisor.parent import die_with_parent
from farm.supervisor.pool import describe_end

PAUSE_S: Final = 0.5
MAX_PAUSE_S: Final = 30.0
"""Seconds before a worker that ended is started again; doubles up to this while none settles."""

SETTLED_S: Final = 10.0
"""A worker that lived for so long has shown that it can."""

_CURES: Final = {
    ExitCode.MODEL: "the model can't be loaded there: its log says why",
    ExitCode.CONFIG: "its configuration is wrong",
}


class Post:
    """See the module.

    Args:
        name: of the worker.
        key_file: on this node.
        node: this node, for people.
        has_gpu: Ray has given this actor a GPU, or a share of one, by CUDA_VISIBLE_DEVICES.
    """

    def __init__(self, name: str, key_file: str, node: str, *, has_gpu: bool = False) -> None:
        # Ray's own way is to look whether init is the parent now, which under another reaper of
        # orphans (a user's systemd, a container's) it never is: the worker would be one too many.
        die_with_parent(os.getppid())
        self._name, self._key_file = name, Path(key_file)
        self._gpu = ["--gpu", "auto"] if has_gpu else []
        self._node = f"{socket.gethostname()} ({node[:8]})"
        self._child: subprocess.Popen[bytes] | None = None
        self._started_s = self._start_at_s = 0.0
        self._pause_s = PAUSE_S
        self._fault = ""
        self._is_leaving = False

    def look(self) -> tuple[str, bool, bool, str]:
        """Keep the worker running; returns node, whether it runs, whether it has left, and what is
        wrong, as `farm.fleet.fleet.Sight` has them.
        """
        now_s = time.monotonic()
        if self._child is not None and (code := self._child.poll()) is not None:
            self._child = None
            self._ended(code, now_s)
        if self._child is None and not self._is_leaving and now_s >= self._start_at_s:
            self._start(now_s)
        runs = self._child is not None
        if runs and self._fault and now_s - self._started_s >= SETTLED_S:
            self._fault = ""
        return self._node, runs, self._is_leaving and not runs, self._fault

    def leave(self) -> None:
        """Have the worker finish what it has and leave; no other is started."""
        self._is_leaving = True
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)

    def _start(self, now_s: float) -> None:
        try:
            Invite.load(self._key_file)  # said here in one sentence, and not in a worker's log
        except StateError as error:
            self._fault = f"{error}: ray.key_file must lie on every node, for the user of Ray alone"
            self._wait(now_s)
            return
        command = [sys.executable, "-P", "-m", "farm", "worker", "--key", str(self._key_file)]
        command += [*self._gpu, "--name", self._name, "--parent", str(os.getpid())]
        self._started_s = now_s
        try:
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)
        except OSError as error:
            self._fault = f"no worker could be started: {error.strerror}"
            self._wait(now_s)

    def _ended(self, code: int, now_s: float) -> None:
        if now_s - self._started_s >= SETTLED_S:
            self._pause_s = PAUSE_S
        if self._is_leaving:
            return
        if code == ExitCode.OK:  # an operator had it leave: as on this machine, another one comes
            self._start_at_s = now_s
            return
        cure = _CURES.get(ExitCode(code), "") if code in set(ExitCode) else ""
        self._fault = f"the worker ended: {describe_end(code)}" + (f": {cure}" if cure else "")
        self._wait(now_s)

    def _wait(self, now_s: float) -> None:
        self._start_at_s = now_s + self._pause_s
        self._pause_s = min(2 * self._pause_s, MAX_PAUSE_S)
