"""Memory and CPU time of a tree of processes.

Memory is PSS: pages shared by n processes count for 1/n each. A sum of resident sizes would count
what forked workers share once for each of them. Reads /proc/PID/smaps_rollup (Linux 4.14).
"""

from __future__ import annotations

import re
from pathlib import Path

import psutil

_PSS_LINE = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)


def pss_bytes(pid: int) -> int:
    """PSS of one process; 0 when it is gone or not ours to look at."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    found = _PSS_LINE.search(text)
    return int(found.group(1)) * 1024 if found else 0


def process_cpu_s(pid: int) -> float:
    """CPU time of one process in seconds, user and system; 0 when it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def machine_busy_s() -> float:
    """CPU time that all cores together have been busy, whoever with; a hypervisor's share, too."""
    times = psutil.cpu_times()
    idle_s = times.idle + getattr(times, "iowait", 0.0)
    guest_s = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # in user and nice
    return float(sum(times) - idle_s - guest_s)


def tree_pids(root: int) -> list[int]:
    """A process and all its descendants."""
    try:
        children = psutil.Process(root).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [root, *(child.pid for child in children)]


def command_line(pid: int) -> str:
    """The command line of a process; empty when it is gone."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""
