"""A cheap model that ends its process on a poisoned hole, each in the way that its mark says.

The mark is the hole's sampling rate: the reader takes it as it is, and the rule does not look.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from farm.models.rule import GradientRule

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.drilling.hole import Hole
    from farm.models.model import Insufficient

MODEL: Final = f"{__name__}:PoisonModel"
EXIT_CODE: Final = 66
# What the farm under chaos allows a worker: three times what one takes with this model.
MEMORY_LIMIT_BYTES: Final = 250_000_000
# Beyond that, and little enough for ten of them at once.
GLUT_BYTES: Final = 300_000_000
_PAGE_BYTES: Final = 4096
_SOUND: Final = b'SamplingInterval":{"Value":100'


class Poison(IntEnum):
    """What a poisoned hole does to its worker; the number is the mark, in Hz."""

    EXIT = 71  # as a library does that calls exit()
    CRASH = 72  # as a bug in C code does
    LOOP = 73  # Python that never ends, and keeps the heartbeat
    GLUT = 74  # takes memory until somebody notices


def poisoned(trace: bytes, poison: Poison) -> bytes:
    """A Trace message with the mark.

    Raises:
        ValueError: it has no sampling rate of 100 Hz to put it.
    """
    marked = trace.replace(_SOUND, _SOUND.removesuffix(b"100") + b"%d" % poison)
    if marked == trace:
        raise ValueError("the trace has no SamplingInterval of 100")
    return marked


class PoisonModel(GradientRule):
    """See the module. It takes no settings."""

    version = "poison-1"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a hundred crashes, a hundred files

    def infer(self, inputs: Sequence[Hole]) -> list[Insufficient | Mapping[str, Any]]:
        """Answer each hole by the rule, or never come back."""
        for hole in inputs:
            if hole.sample_rate_hz in Poison.__members__.values():
                _take(Poison(int(hole.sample_rate_hz)))
        return super().infer(inputs)


def _take(poison: Poison) -> None:
    """Does not return."""
    match poison:
        case Poison.EXIT:
            os._exit(EXIT_CODE)
        case Poison.CRASH:
            os.kill(os.getpid(), signal.SIGSEGV)
        case Poison.GLUT:
            glut = bytearray(GLUT_BYTES)
            for place in range(0, GLUT_BYTES, _PAGE_BYTES):
                glut[place] = 1  # memory that nobody touched is none
            while glut:
                time.sleep(0.01)
    while True:  # in Python, so that other threads have their turn
        pass
