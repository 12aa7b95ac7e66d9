"""The `Waker`: lets one thread end another's poll, once for many messages."""

from __future__ import annotations

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
        self._pending = False
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return  # nobody woke us: the poll ended for another reason

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)
