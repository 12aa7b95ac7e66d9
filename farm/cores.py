"""How many cores this process may keep busy: as its affinity and the quotas of its cgroups say.

A container is often given a share of all cores instead of some of them: `cpu.max` (cgroup v2) or
`cpu.cfs_quota_us` (v1), see cgroups(7) and the kernel's `admin-guide/cgroup-v2`. Its affinity then
tells those of the whole machine.
"""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC: Final = Path("/proc/self")
_V2_FILE: Final = "cpu.max"
_V1_FILES: Final = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")  # proc(5): a space in a path is \040


class _Mount(NamedTuple):
    """Where a hierarchy of cgroups that may limit cores is to be seen."""

    is_v2: bool
    root: PurePosixPath  # the cgroup that stands at the folder
    folder: Path


def cores(proc: Path = _PROC) -> int:
    """The cores that we may use; a share of one counts as one, so at least 1.

    Args:
        proc: what the kernel tells of this process.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min([allowed, *_quotas(proc)])))


def _quotas(proc: Path) -> Iterator[float]:
    """The quotas, in cores, of our cgroups and of all those around them that can be seen."""
    for mount in _mounts(proc):
        path = _own_path(proc, is_v2=mount.is_v2)
        below = path.relative_to(mount.root) if path.is_relative_to(mount.root) else None
        # One from outside our namespace, told as "/../..": what is to be seen is the folder alone.
        inner = mount.folder if below is None or ".." in below.parts else mount.folder / below
        for folder in (inner, *inner.parents):
            with suppress(OSError, ValueError):  # no limit here
                yield _quota(folder, is_v2=mount.is_v2)
            if folder == mount.folder:
                break


def _mounts(proc: Path) -> Iterator[_Mount]:
    for line in _lines(proc / "mountinfo"):
        left, _, right = line.partition(" - ")
        fields, told = left.split(" "), right.split(" ")
        if len(fields) < 5 or len(told) < 3:
            continue
        is_v2 = told[0] == "cgroup2"
        if is_v2 or (told[0] == "cgroup" and "cpu" in told[2].split(",")):
            root, folder = (_ESCAPED.sub(_character, field) for field in fields[3:5])
            yield _Mount(is_v2, PurePosixPath(root), Path(folder))


def _own_path(proc: Path, *, is_v2: bool) -> PurePosixPath:
    for line in _lines(proc / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (number == "0" and not controllers) if is_v2 else "cpu" in controllers.split(","):
            return PurePosixPath(path)
    return PurePosixPath("/")


def _quota(folder: Path, *, is_v2: bool) -> float:
    """The quota of one cgroup in cores.

    Raises:
        OSError, ValueError: it has none.
    """
    if is_v2:
        quota, period = (folder / _V2_FILE).read_text().split()
    else:
        quota, period = ((folder / name).read_text() for name in _V1_FILES)
    quota_us, period_us = int(quota), int(period)  # v2 says "max" where there is none, v1 -1
    if quota_us <= 0 or period_us <= 0:
        raise ValueError(f"{quota_us} of {period_us} us is no quota")
    return quota_us / period_us


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 8))
