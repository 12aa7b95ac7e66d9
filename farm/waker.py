"""The `Waker`: lets one thread end another's poll, once for many messages."""

from __future__ import annotations

import contextlib
import os


class Waker:
    """An eventfd to poll on. `wake` from any thread or signal handler, `clear` in the poller."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._pending = False

    def wake(self) -> None:
        """End the poll now, or the next one at once."""
        if not self._pending:
            self._pending = True
            os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        """Call after the poll and *before* looking for work, so that no wake-up is lost."""
        # Reading comes first: a `wake` in between is then left out, which is safe, since its work
        # is there before the caller looks. The other way round this would swallow its write and
        # leave it pending, and every later `wake` would believe that the poller knows.
        with contextlib.suppress(BlockingIOError):  # the poll may have ended for another reason
            os.eventfd_read(self.fd)
        self._pending = False

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
