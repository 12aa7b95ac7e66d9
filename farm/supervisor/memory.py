"""Asks the kernel whether it killed a process for want of memory, since SIGKILL doesn't say why;
and tells it whom to kill first.

The count of this process's control group is exact; where there is none, that of the whole system is
taken, which may name the death of another program.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_OWN_GROUP: Final = Path("/proc/self/cgroup")
_SYSTEM: Final = Path("/proc/vmstat")
_KEY: Final = "oom_kill"
_OWN_SCORE: Final = Path("/proc/self/oom_score_adj")
# Beyond that of its parent; counts like 30 % of the machine's memory. Anyone may raise his own.
_WORKER_SCORE: Final = 300
_MAX_SCORE: Final = 1000


def offer_to_kernel(own_score: Path = _OWN_SCORE) -> None:
    """This process is a worker: where memory runs out the kernel is to end it, and nothing else.

    Its memory is what grows with the holes, and its end costs nothing but a replacement. The
    nursery's is shared with all workers: its end would free next to none.
    """
    # a container may forbid it: then the kernel chooses
    with contextlib.suppress(OSError, ValueError):
        own_score.write_text(str(min(int(own_score.read_text()) + _WORKER_SCORE, _MAX_SCORE)))


class OutOfMemoryKills:
    """Remembers how many there were at the last look.

    Args:
        groups: where control groups are mounted.
        own_group: names the control group of this process.
        system: the kernel's counters.
    """

    def __init__(
        self, *, groups: Path = _GROUPS, own_group: Path = _OWN_GROUP, system: Path = _SYSTEM
    ) -> None:
        self._sources = [*_group_files(groups, own_group), system]
        self._seen = self._count()

    def has_risen(self) -> bool:
        """Whether the kernel has killed since the last look."""
        count = self._count()
        before, self._seen = self._seen, count
        return count > before

    def _count(self) -> int:
        for path in self._sources:
            try:
                lines = path.read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                key, _, value = line.partition(" ")
                if key == _KEY:
                    return int(value)
        return 0


def _group_files(groups: Path, own_group: Path) -> list[Path]:
    """The files with the count: version 2 of control groups, then version 1."""
    try:
        lines = own_group.read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            files.append(groups / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(groups / "memory" / path.lstrip("/") / "memory.oom_control")
    return files
