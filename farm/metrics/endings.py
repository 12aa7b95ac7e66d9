"""How a worker's process ended, in one of a few words: a label can't hold sentences."""

from __future__ import annotations

from enum import Enum


class Ending(Enum):
    """The words."""

    ASKED = "asked"  # it was told to go, and went
    FAILED = "failed"  # with an exit code that is none of a good end
    SIGNAL = "signal"  # killed from outside, or by a fault in native code
    MEMORY = "memory"  # by the kernel, for want of memory
    KILLED = "killed"  # by the supervisor: silent, too slow, too large


def ending_of(sentence: str) -> Ending:
    """The word for what the supervisor tells (`farm.supervisor.pool.describe_end`)."""
    if sentence.startswith("exit code 0"):
        return Ending.ASKED
    if sentence.startswith("killed by the supervisor"):
        return Ending.KILLED
    if "out of memory" in sentence:
        return Ending.MEMORY
    if sentence.startswith("killed by"):
        return Ending.SIGNAL
    return Ending.FAILED
