"""The `Batches`: what the compute loop takes next out of the messages that its reader has claimed.

For the compute thread. Without a GPU a message is a batch. With one, all that lie there are, up to
the most of a batch: it takes what there is and waits for nothing. A job that has cost a worker
stays by itself: nobody else pays for it, and it is known whose fault the next end is.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from farm import wire


class Work(NamedTuple):
    """The jobs of one message, or of one batch, and for which incarnation of the worker."""

    worker_id: int
    jobs: tuple[wire.Job, ...]
    is_alone: bool = False


class Batches:
    """See the module.

    Args:
        inbox: the messages, None at the end.
    """

    def __init__(self, inbox: queue.SimpleQueue[Work | None]) -> None:
        self._inbox = inbox
        self._kept: Work | None = None  # taken out, and not for this batch
        self._is_over = False

    def next(self, most_jobs: int) -> Work | None:
        """The next batch, as soon as there is a message; None: there is none any more.

        Args:
            most_jobs: of a batch; a message that has more is several. 0: a message is a batch.
        """
        first, self._kept = self._kept, None
        if first is None:
            if self._is_over:
                return None
            first = self._inbox.get()
        if first is None or first.is_alone:
            return first
        jobs = first.jobs
        if 0 < most_jobs < len(jobs):  # the GPU has no memory for more
            self._kept = Work(first.worker_id, jobs[most_jobs:])
            return Work(first.worker_id, jobs[:most_jobs])
        while len(jobs) < most_jobs and (more := self._more()) is not None:
            is_other = more.is_alone or more.worker_id != first.worker_id
            if is_other or len(jobs) + len(more.jobs) > most_jobs:
                self._kept = more
                break
            jobs += more.jobs
        return first if jobs is first.jobs else Work(first.worker_id, jobs)

    def _more(self) -> Work | None:
        try:
            found = self._inbox.get_nowait()
        except queue.Empty:
            return None
        self._is_over = found is None
        return found
