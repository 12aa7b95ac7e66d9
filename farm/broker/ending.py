"""The `Ending`: whether the broker process is to end, in which way, and with which exit code.

It only remembers: `farm.broker.process` holds the intake and closes what is open. A signal handler
may call it.
"""

from __future__ import annotations

from farm.errors import ExitCode


class Ending:
    """See the module."""

    def __init__(self) -> None:
        self.is_draining = False  # nothing new is taken in; when all is finished, it ends
        self.is_due = False  # it ends with this turn
        self.exit_code = ExitCode.OK
        self._times_asked = 0  # by signal; a drain that was ordered over the socket is no first one

    def is_asked_again(self) -> bool:
        """Count that a signal asked to end; whether another had asked before."""
        self._times_asked += 1
        return self._times_asked > 1

    def fail(self, exit_code: ExitCode) -> None:
        """End with this turn: it can't go on, and the exit code says why."""
        self.exit_code = exit_code
        self.is_due = True
