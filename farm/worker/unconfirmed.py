"""The `Unconfirmed`: results that were sent to a broker on another machine and not confirmed yet.

A decision without I/O. Between two machines a message can be lost after it was sent: with a cable,
or with the broker that had just received it. So a result is kept until the broker says that it has
it; what takes too long is sent again, and to a broker that came anew all of it. The broker takes
the first result of a job and suppresses others.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from farm import wire

# A heartbeat, its reply, and a slow link. Less than a fast model's deadline: what was only lost
# on the way must not be taken for a worker that hangs.
RESEND_S: Final = 1.2
MAX_RESULTS: Final = 1000  # beyond, the oldest is let go of: the broker has its job computed again
MAX_BATCHES: Final = 16  # likewise, of a worker with large ones


class _Sent(NamedTuple):
    result: wire.Result
    sent_s: float


class Unconfirmed:
    """See the module. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._results: dict[int, _Sent] = {}  # by job id, oldest first
        self._most = MAX_RESULTS
        self.let_go = 0  # results that nobody confirmed and that were too many

    def __len__(self) -> int:
        """How many results are kept."""
        return len(self._results)

    def make_room(self, batch_jobs: int) -> None:
        """The worker computes batches of so many: the results of some of them are kept."""
        self._most = max(MAX_RESULTS, MAX_BATCHES * batch_jobs)

    def sent(self, frames: list[bytes], now_s: float) -> None:
        """A batch of results, as they stand on the wire, was sent."""
        for frame in frames:
            result = wire.decode([frame])
            assert isinstance(result, wire.Result)
            self._keep(result, now_s)

    def taken(self, job_ids: list[int]) -> None:
        """The broker has the results of these jobs."""
        for job_id in job_ids:
            self._results.pop(job_id, None)

    def overdue(self, now_s: float) -> list[bytes]:
        """What to send again now, as one batch; it counts as sent."""
        late = [sent.result for sent in self._results.values() if now_s - sent.sent_s >= RESEND_S]
        return self._again(late, now_s)

    def for_newcomer(self, worker_id: int, now_s: float) -> list[bytes]:
        """All of it for the broker that has just taken this worker in, under its new id."""
        kept = [sent.result._replace(worker_id=worker_id) for sent in self._results.values()]
        return self._again(kept, now_s)

    def _again(self, results: list[wire.Result], now_s: float) -> list[bytes]:
        for result in results:
            self._keep(result, now_s)
        return [wire.encode(result) for result in results]

    def _keep(self, result: wire.Result, now_s: float) -> None:
        self._results.pop(result.job_id, None)
        self._results[result.job_id] = _Sent(result, now_s)
        while len(self._results) > self._most:
            del self._results[next(iter(self._results))]
            self.let_go += 1
