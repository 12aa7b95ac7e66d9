"""The `FarRollout`: how the workers of other machines come to a configuration that was read again.

A decision without I/O. Nobody there replaces them, so each is told to leave and to come back as a
new process. They are told when the local workers are through; then one goes first, and the others,
a quarter at a time, when a worker that was told the new configuration came up READY, which includes
the check on the golden hole. Where none comes in time, or it is refused, it ends there: the others
stay as they are, and go on with what works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from farm import log

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from farm.broker.roster import Worker

WHY: Final = "the farm's configuration has changed"
PART_AT_ONCE: Final = 4  # once one is proven: this part of all
RETRY_S: Final = 20.0  # a worker that failed tries again after 15 s


class FarRollout:
    """See the module. Times are monotonic seconds.

    Attributes:
        failure: why none came up with the new configuration; "" while that is not known.
    """

    def __init__(self) -> None:
        self._wanted = ""  # the hash of what they are to be told; "": there was no reload
        self._patience_s = 0.0
        self._awaited: list[float] = []  # until when one that was sent away may take
        self._is_proven = False
        self._is_over = True
        self._refused = ""
        self._sent = 0
        self.failure = ""
        self._log = log.get()

    def begin(self, wanted: str, config: Mapping[str, Any]) -> None:
        """A configuration was read again.

        Args:
            wanted: its hash, as workers of other machines are told it.
            config: what they are told.
        """
        job_s = float(config.get("dispatch", {}).get("job_timeout_s", 60.0))
        ready_s = float(config.get("workers", {}).get("ready_timeout_s", 60.0))
        self._patience_s = job_s + ready_s + RETRY_S  # to finish, to load, and once in vain
        self._wanted, self._is_over, self._is_proven = wanted, False, False
        self._awaited.clear()
        self.failure = self._refused = ""
        self._sent = 0

    def came(self, worker: Worker) -> None:
        """A worker of another machine is READY."""
        if self._is_over or worker.config_hash != self._wanted:
            return
        self._is_proven = True
        if self._awaited:
            self._awaited.pop(0)

    def refused(self, worker: Worker, cause: str) -> None:
        """One is not let in: it answered the golden hole otherwise, or has another model."""
        if not self._is_over and worker.config_hash == self._wanted and self._awaited:
            self._refused = f"{worker.name} on {worker.host}: {cause}"

    def step(self, far: Collection[Worker], now_s: float, *, is_local_over: bool) -> None:
        """Have those leave whose turn it is. Call it now and then.

        Args:
            far: all workers of other machines.
            now_s: the time.
            is_local_over: the local workers have all been replaced, or there are none.
        """
        if self._is_over or not is_local_over:
            return
        late = [by_s for by_s in self._awaited if by_s <= now_s]
        if (late or self._refused) and not self._is_proven:
            self.failure = self._refused or (
                f"no worker of another machine came up with it in {self._patience_s:g} s"
            )
            self._is_over = True
            return
        self._awaited = [by_s for by_s in self._awaited if by_s > now_s]  # its machine may be gone
        former = [w for w in far if w.config_hash != self._wanted and not w.leave]
        most = max(len(far) // PART_AT_ONCE, 1) if self._is_proven else 1
        for worker in former[: max(most - len(self._awaited), 0)]:
            worker.leave, worker.anew = WHY, True
            self._awaited.append(now_s + self._patience_s)
            self._sent += 1
        if not former and not self._awaited:
            self._is_over = True
            if self._sent:
                self._log.info("far_workers_reloaded", workers=self._sent)
