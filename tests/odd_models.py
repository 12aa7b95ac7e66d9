"""Models that misbehave on purpose, named as `odd_models:Class` in a test's configuration.

A hole is marked by its sampling rate, which the rule does not look at.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm.models.model import Insufficient, depth_answer
from farm.models.rule import GradientRule

if TYPE_CHECKING:
    from farm.drilling.hole import Hole

MARKED_RATE_HZ = 77.0
MARK = (b'SamplingInterval":{"Value":100', b'SamplingInterval":{"Value":77')
EXIT_CODE = 13

Answers = list[Insufficient | Mapping[str, Any]]


def is_marked(hole: Hole) -> bool:
    return hole.sample_rate_hz == MARKED_RATE_HZ


class HangsOnMarked(GradientRule):
    """Never comes back from a marked hole."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        while any(is_marked(hole) for hole in inputs):
            time.sleep(1)
        return super().infer(inputs)


class EndsOnMarked(GradientRule):
    """Takes its process with it on a marked hole, as a crash in C code does."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if any(is_marked(hole) for hole in inputs):
            os._exit(EXIT_CODE)
        return super().infer(inputs)


class LoopsOnMarked(GradientRule):
    """Computes for ever in Python: its other threads live, so it looks healthy."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        while any(is_marked(hole) for hole in inputs):
            pass
        return super().infer(inputs)


class HoldsGilOnMarked(GradientRule):
    """Computes for ever in C without giving the interpreter away: no thread of it says a word."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if any(is_marked(hole) for hole in inputs):
            ctypes.PyDLL(None).sleep(1000)
        return super().infer(inputs)


class SegfaultsOnMarked(GradientRule):
    """Reads where nothing is."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if any(is_marked(hole) for hole in inputs):
            ctypes.string_at(0)
        return super().infer(inputs)


class EatsMemoryOnMarked(GradientRule):
    """Takes 20 MB every few milliseconds, up to 2 GB."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        eaten = []
        while any(is_marked(hole) for hole in inputs) and len(eaten) < 100:
            eaten.append(b"x" * 20_000_000)
            time.sleep(0.02)
        return super().infer(inputs)


class KillsAlways(GradientRule):
    """Ends with its process at every hole, while there is the file that KILLS_WHILE names."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if Path(os.environ["KILLS_WHILE"]).exists():
            os._exit(EXIT_CODE)
        return super().infer(inputs)


class EndsAfterMarked(GradientRule):
    """Answers a marked hole and is gone a moment later: its result may be on its way, or lost."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if any(is_marked(hole) for hole in inputs):
            delay_s = random.uniform(0.002, 0.02)
            threading.Timer(delay_s, os._exit, (EXIT_CODE,)).start()
        return super().infer(inputs)


class RaisesOnMarked(GradientRule):
    """Raises on a marked hole."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if any(is_marked(hole) for hole in inputs):
            raise ZeroDivisionError("no feed on this hole")
        return super().infer(inputs)


class Slow(GradientRule):
    """Takes its time, so that a test can catch it in the middle of a hole."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        time.sleep(0.05 * len(inputs))
        return super().infer(inputs)


class NegativeDepths(GradientRule):
    """Finds the exit before the entry."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        return [depth_answer((9.0, 5.0, 7.0)) for _ in inputs]


class NeverLoads(GradientRule):
    """Can't be constructed."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings)
        raise RuntimeError("the weights are of another planet")


class RaisesAlways(GradientRule):
    """Loads, and fails on every real hole."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if len(inputs):
            raise ZeroDivisionError("no feed on any hole")
        return super().infer(inputs)


class RaisesWhile(GradientRule):
    """Raises on a marked hole, while there is the file that RAISES_WHILE names."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if any(is_marked(hole) for hole in inputs) and Path(os.environ["RAISES_WHILE"]).exists():
            raise ZeroDivisionError("no feed on this hole")
        return super().infer(inputs)


class Moody(GradientRule):
    """Its answers depend on the mood of the day, which no hash tells."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        mood_mm = float(os.environ.get("MOOD_MM", "0"))
        return [depth_answer((3.0 + mood_mm, 9.0, 14.0)) for _ in inputs]


class LacksSeats(GradientRule):
    """Comes up in as many processes as there are files in the folder that SEATS names."""

    def warm_up(self) -> None:
        for seat in sorted(Path(os.environ["SEATS"]).iterdir()):
            try:
                seat.unlink()
            except FileNotFoundError:  # another was faster
                continue
            return
        os._exit(EXIT_CODE)


class HasAThread(GradientRule):
    """Keeps a thread of its own: no fork would take it along."""

    def warm_up(self) -> None:
        threading.Thread(target=threading.Event().wait, name="helper", daemon=True).start()


class Offset(GradientRule):
    """Answers with the entry that its settings say."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__({})
        self._entry_mm = float(settings["entry_mm"])

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        return [depth_answer((self._entry_mm, 9.0, 14.0)) for _ in inputs]


class OffsetOfFile(Offset):
    """The same, of a file: it stands for weights."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__({"entry_mm": Path(settings["weights"]).read_text()})


class SaysGoodbye(GradientRule):
    """Leaves a file, named by its process, in the folder that GOODBYES names when that ends."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        if not getattr(self, "_is_told", False):
            self._is_told = True
            atexit.register(self._leave)
        return super().infer(inputs)

    @staticmethod
    def _leave() -> None:
        Path(os.environ["GOODBYES"], str(os.getpid())).touch()


class LikeAGpu(GradientRule):
    """In a worker that was told a GPU each call takes its time, whatever the batch; else each hole.

    It stands for a GPU where there is none. While there is the file that STALLS_WHILE names, its
    calls don't come back. Where there is the one that BREAKS_IF names, it takes that away, and no
    call of its process ends well any more.
    """

    is_broken = False

    CALL_S = 0.04
    HOLE_S = 0.02

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        has_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES"))
        stalls_while = os.environ.get("STALLS_WHILE")
        while inputs and has_gpu and stalls_while and Path(stalls_while).exists():
            time.sleep(0.01)
        time.sleep(self.CALL_S if has_gpu else self.HOLE_S * len(inputs))
        breaks_if = os.environ.get("BREAKS_IF")
        if inputs and has_gpu and breaks_if and Path(breaks_if).exists():
            Path(breaks_if).unlink()
            self.is_broken = True
        if self.is_broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().infer(inputs)


class SlowAndHangsOnMarked(HangsOnMarked):
    """Takes 100 ms over each hole, and never comes back from a marked one."""

    def infer(self, inputs: Sequence[Hole]) -> Answers:
        time.sleep(0.1 * len(inputs))
        return super().infer(inputs)
