"""Children die with their parent, and orphans get one: the kernel sees to both."""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent_pid: int) -> bool:
    """Ask the kernel to kill this process when its parent ends. Call first, on the main thread.

    Returns:
        False when the parent is gone already: then end at once.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    return os.getppid() == parent_pid


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends, in place of init.

    Who does this must wait for all of them, also for those it does not know.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")
