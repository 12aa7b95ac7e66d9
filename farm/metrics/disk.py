"""The `DiskWatch`: how much the journal takes on its disk, and how much room there is.

Looked at on a thread of its own: a disk that hangs must hold up neither the loop nor a scrape. What
is older than a few looks is not told any more.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

LOOK_EVERY_S: Final = 10.0
STALE_S: Final = 3 * LOOK_EVERY_S


class DiskUse(NamedTuple):
    """One look. All in bytes."""

    journal_bytes: int
    free_bytes: int  # for the farm's user: what is kept for root is none
    size_bytes: int


def look(directory: Path) -> DiskUse:
    """The use of a journal's folder and its disk.

    Raises:
        OSError: it can't be seen.
    """
    disk = os.statvfs(directory)
    return DiskUse(
        _bytes_of(directory), disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    )


def _bytes_of(directory: Path) -> int:
    """All files below; those that go meanwhile count as none."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    total += _bytes_of(directory / entry.name)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


class DiskWatch:
    """See the module.

    Args:
        directory: the journal's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: tuple[float, DiskUse] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. A look that hangs is left alone."""
        self._stopping.set()

    @property
    def use(self) -> DiskUse | None:
        """The last look; None: there is none, or it is too old."""
        seen = self._seen
        if seen is None or time.monotonic() - seen[0] > STALE_S:
            return None
        return seen[1]

    def _run(self) -> None:
        while True:
            with contextlib.suppress(
                OSError
            ):  # the next look may succeed; meanwhile nothing is told
                self._seen = (time.monotonic(), look(self._directory))
            if self._stopping.wait(LOOK_EVERY_S):
                return
