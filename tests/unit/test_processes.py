"""Memory and CPU time of processes, as the bench reads them."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from farm.simulation.processes import machine_busy_s, process_cpu_s, pss_bytes, tree_pids


def test_this_process_has_memory_and_cpu_time_and_the_machine_was_busy_for_longer():
    deadline_s = time.monotonic() + 10
    while not process_cpu_s(os.getpid()) and time.monotonic() < deadline_s:
        pass
    assert machine_busy_s() >= process_cpu_s(os.getpid()) > 0
    assert pss_bytes(os.getpid()) > 1_000_000


def test_a_process_that_is_gone_takes_nothing():
    # prevents: a bench that fails since a worker was replaced while it was looked at
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert (process_cpu_s(gone.pid), pss_bytes(gone.pid), tree_pids(gone.pid)) == (0.0, 0, [])
