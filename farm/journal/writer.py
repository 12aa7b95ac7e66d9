"""The `Writer`: one thread that writes records in groups, and says how far it has come.

Group commit: it takes all that has come since the last commit, up to a count and a size; what
nobody waits for may wait a moment for company. When the disk is full or fails it holds the batch
and tries again until it succeeds: nothing is passed over, and the broker brakes meanwhile.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from farm import log
from farm.gathering import Gathering
from farm.journal.records import payload_bytes
from farm.telemetry.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm.journal.records import Record
    from farm.journal.store import Store

# A commit writes some fifteen pages, whatever is in it. From about 250 holes/s on one follows the
# other: then they are this far apart, and below nobody waits.
BUSY_HZ = 1500.0  # records
GAP_S = 0.006
RETRY_S = 0.5  # after a failed write; a full disk does not empty itself faster
LAST_RETRY_S = 0.05  # the same at a stop, which does not wait for long
IDLE_S = 1.0  # how often housekeeping is looked at without any work


class Writer:
    """See the module. `append` and the properties are for the broker's loop.

    Args:
        store: is written to by this thread alone, from `start` on.
        commit_records: most records of a group.
        commit_bytes: about the most payload of a group.
        commit_interval_s: how long a record that nobody waits for may wait for company.
        wake: called after each commit, and when writing begins to fail or works again.
        housekeep: called between commits with the store; returns whether there is more to do.
    """

    def __init__(
        self,
        store: Store,
        *,
        commit_records: int,
        commit_bytes: int,
        commit_interval_s: float,
        wake: Callable[[], None],
        housekeep: Callable[[Store], bool] = lambda _store: False,
    ) -> None:
        self._store = store
        self._commit_records = commit_records
        self._commit_bytes = commit_bytes
        self._commit_interval_s = commit_interval_s
        self._wake = wake
        self._housekeep = housekeep
        self._changed = threading.Condition()
        self._queue: deque[Record] = deque()
        self._urgent_position = 0  # of the last record that somebody waits for; the loop's
        self._gathering = Gathering(busy_hz=BUSY_HZ, gap_s=GAP_S)
        self._taken_position = 0  # of the last record in a group; the thread's
        self._stopping = threading.Event()
        self._give_up_s: float | None = None
        self.position = 0  # of the last record that was appended
        self.durable = 0  # all up to this position are on disk
        self._appended_bytes = 0  # written by the loop only
        self._taken_bytes = 0  # written by the thread only
        self.commits = 0
        self.commit_times = Histogram()  # from the first try on
        self.failure = ""  # why nothing can be written now, in words
        self.is_broken = False  # the thread ended by an error of its own
        self._limited = log.Limited()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def append(self, record: Record, *, is_urgent: bool = False) -> int:
        """Have a record written; returns its position."""
        # No lock: it is called many times a hole, and appending is atomic. The thread looks at the
        # queue under the lock before it waits, and whoever may have found it waiting notifies.
        queue = self._queue
        queue.append(record)
        self.position += 1
        self._appended_bytes += payload_bytes(record)
        is_news = len(queue) == 1 or len(queue) == self._commit_records
        if is_urgent:
            is_news = is_news or self._urgent_position <= self._taken_position
            self._urgent_position = self.position
        if is_news:
            with self._changed:
                self._changed.notify()
        return self.position

    @property
    def queued_bytes(self) -> int:
        """Payload that waits to be written."""
        return self._appended_bytes - self._taken_bytes

    def stop(self, timeout_s: float) -> bool:
        """Write what is queued and end; False: it could not be written in time."""
        with self._changed:
            self._stopping.set()
            self._give_up_s = time.monotonic() + timeout_s
            self._changed.notify()
        self._thread.join(timeout_s + RETRY_S)
        return self.durable == self.position and not self._thread.is_alive()

    # ---- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        # a dead writer must end the broker, which can acknowledge and publish nothing without it
        try:
            while self._write_group():
                pass
        except Exception:  # noqa: BLE001
            self.is_broken = True
            log.get().exception("journal_writer_failed")
            self._wake()

    def _write_group(self) -> bool:
        """Write the next group, or keep house; False at the end."""
        batch = self._next_group()
        if batch:
            self._insist(batch)
        elif self._stopping.is_set():
            return False
        if not self._stopping.is_set():
            self._keep_house()
        return not self._has_given_up

    @property
    def _has_given_up(self) -> bool:
        return bool(self.failure) and self._give_up_s is not None

    def _next_group(self) -> list[Record]:
        with self._changed:
            if not self._queue and not self._stopping.is_set():
                self._changed.wait(IDLE_S)
            if self._queue and not self._is_full_or_urgent():
                self._changed.wait_for(self._is_full_or_urgent, self._commit_interval_s)
        # What comes in this gap goes with it, and need not wake this thread to be told so.
        self._stopping.wait(self._gathering.pause_s(time.monotonic()))
        with self._changed:
            batch: list[Record] = []
            size = 0
            while self._queue and len(batch) < self._commit_records and size < self._commit_bytes:
                batch.append(self._queue.popleft())
                size += payload_bytes(batch[-1])
            self._taken_position += len(batch)
            self._gathering.came(len(batch))
            self._taken_bytes += size
            return batch

    def _is_full_or_urgent(self) -> bool:
        is_full = len(self._queue) >= self._commit_records
        is_urgent = self._urgent_position > self._taken_position
        return is_full or is_urgent or self._stopping.is_set()

    def _insist(self, batch: list[Record]) -> None:
        """Write a batch, however long it takes; at a stop, until time is up."""
        began_s = time.monotonic()
        while True:
            try:
                self._store.write(batch)
            except (OSError, sqlite3.OperationalError) as error:
                self._note_failure(error)
                if self._give_up_s is not None and time.monotonic() > self._give_up_s:
                    return
                self._pause()
                continue
            break
        self.durable += len(batch)
        self.commits += 1
        self.commit_times.add(time.monotonic() - began_s)
        if self.failure:
            self.failure = ""
            log.get().info("journal_writes_again")
        self._wake()

    def _pause(self) -> None:
        """Before the next try; a stop cuts it short."""
        if self._stopping.is_set():
            time.sleep(LAST_RETRY_S)
        else:
            self._stopping.wait(RETRY_S)

    def _note_failure(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        if not self.failure:
            log.get().error(
                "journal_unwritable",
                reason=reason,
                directory=str(self._store.directory),
                effect="nothing is acknowledged or published until it can be written again",
                cure="make room on that disk, or look after it",
            )
        self.failure = reason
        self._wake()

    def _keep_house(self) -> None:
        try:
            while self._housekeep(self._store):
                if self._queue or self._stopping.is_set():
                    return
        except (OSError, sqlite3.OperationalError) as error:
            # what matters is written by `_insist`, and says so itself when it can't be
            self._limited.warning("journal_housekeeping_failed", reason=str(error))
