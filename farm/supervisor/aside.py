"""`Aside`: a process beside the farm, such as the page, whose end matters to nothing else.

It is started again with a back-off, for ever, and never makes the farm hopeless.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from farm import log
from farm.supervisor.pool import describe_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from farm.supervisor.children import Children

FIRST_WAIT_S: Final = 1.0
MAX_WAIT_S: Final = 60.0
SETTLED_S: Final = 10.0  # one that ran for so long has come up: the next is not waited for


class Aside:
    """See the module. Times are monotonic seconds.

    Args:
        name: in the log.
        command: of `farm`, with its arguments; None: no such process is wanted.
        spawn: starts one, and gives its pid.
        tell: sends signals to pids.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str] | None,
        *,
        spawn: Callable[[Sequence[str]], int],
        tell: Callable[[Sequence[int], int], None],
    ) -> None:
        self._name = name
        self._command = command
        self._spawn = spawn
        self._tell = tell
        self._pid = 0
        self._started_s = 0.0
        self._next_s = 0.0
        self._wait_s = FIRST_WAIT_S

    def keep(self, now_s: float) -> None:
        """Start it if it is to run and does not. Call it now and then."""
        if self._command is None or self._pid or now_s < self._next_s:
            return
        try:
            self._pid = self._spawn(self._command)
        except OSError as error:  # no memory, no process ids
            self._put_off(now_s)
            log.get().error("spawn_failed", child=self._name, reason=str(error))
        self._started_s = now_s

    def ended(self, pid: int, returncode: int, now_s: float) -> bool:
        """A child has ended; True: it was this one."""
        if not self._pid or pid != self._pid:
            return False
        self._pid = 0
        if now_s - self._started_s >= SETTLED_S:
            self._wait_s = FIRST_WAIT_S
        restart_in_s = self._put_off(now_s)
        if self._command is not None:
            how = describe_end(returncode, by_us=False)
            log.get().warning(
                "process_ended", child=self._name, how=how, restart_in_s=restart_in_s,
                effect="none on the farm",
            )  # fmt: skip
        return True

    def stop(self) -> None:
        """It is to end, and not to be started again. Nobody waits for it."""
        self._command = None
        if self._pid:
            self._tell([self._pid], signal.SIGTERM)

    def _put_off(self, now_s: float) -> float:
        waited_s = self._wait_s
        self._next_s = now_s + waited_s
        self._wait_s = min(2 * waited_s, MAX_WAIT_S)
        return waited_s


def page_of(children: Children, listen: str, child_args: Sequence[str]) -> Aside:
    """The page's process, where one is to be served at `listen`."""
    command = ["dashboard", "--listen", listen, *child_args] if listen else None
    return Aside("page", command, spawn=children.spawn, tell=children.signal)
