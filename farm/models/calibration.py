"""Which runtime of the depth network is taken on a machine: the fastest that keeps its accuracy.

A decision without I/O: trials go in, a choice with its reasons comes out. `farm.training.trial`
measures, `farm.models.machine` remembers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CANDIDATES: Final = ("onnx", "frozen", "int8")
"""The safest first: onnx and frozen are the network itself, and onnx does without PyTorch.

Of the others, eager was never faster than frozen; compiled needs a compiler and ten seconds; and
bf16 pays only on processors on which int8 pays more, and answers under the same ModelHash as
frozen, so that its answers could not be told from those of another machine.
"""

REFERENCE: Final = "frozen"
"""What all are compared with: PyTorch's own arithmetic in float32."""

MAX_OFF_MM: Final = 0.1
"""The farthest that a keypoint may lie from the reference's. The network's own error is larger in
one hole of ten (0.1 to 0.19 mm at 95 %), and grips of fasteners come in steps of 1/16 in, 1.6 mm:
int8 as published is off by up to 0.05 mm, and a kernel that saturates by tenths of a millimetre."""

MEAN_OFF_MM: Final = 0.01
"""The same on average: half of the network's median error of 0.02 mm. Errors add up in squares, so
this makes the answers an eighth less precise at the most; int8 takes half of it."""

MAX_QUALITY_OFF: Final = 0.05
"""How much Quality may differ: `min_quality` must mean the same on every machine."""

TIE: Final = 0.05
"""Less of a gain than this is none: measurements vary by as much, and the safer one is taken."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was measured of one runtime on this machine.

    Attributes:
        name: of the runtime.
        reason: why it can't be had here; "" where it can, and only then the rest counts.
        hole_ms: of the network alone, for each hole, by batch size.
        off_mm: the largest difference of a keypoint from the reference's, where there is one.
        mean_off_mm: the mean of these.
        quality_off: the largest difference of Quality.
        flips: keypoints that are there for one of the two alone.
        is_finite: whether every number of every answer is.
    """

    name: str
    reason: str = ""
    hole_ms: dict[int, float] = field(default_factory=dict)
    off_mm: float = 0.0
    mean_off_mm: float = 0.0
    quality_off: float = 0.0
    flips: int = 0
    is_finite: bool = True

    @property
    def pace_ms(self) -> float:
        """What runtimes are compared by: the mean over the batch sizes, so that both a hole that
        comes alone and a full batch count.
        """
        known = list(self.hole_ms.values())
        return math.fsum(known) / len(known) if known else math.inf


@dataclass(frozen=True, slots=True)
class Choice:
    """The runtime that is taken, and a sentence on each that was tried."""

    runtime: str
    reasons: Mapping[str, str]


def choose(trials: Sequence[Trial]) -> Choice:
    """The fastest safe runtime; of those within `TIE` of it, the safest.

    Args:
        trials: of some of `CANDIDATES`, at least the reference's.

    Raises:
        ValueError: none can be had, or none is safe.
    """
    faults = {trial.name: fault(trial) for trial in trials}
    safe = [trial for trial in trials if not faults[trial.name]]
    if not safe:
        raise ValueError(f"no runtime is safe here: {faults}")
    best_ms = min(trial.pace_ms for trial in safe)
    tied = [trial for trial in safe if trial.pace_ms <= best_ms * (1 + TIE)]
    taken = min(tied, key=lambda trial: _safety(trial.name))
    return Choice(taken.name, {t.name: faults[t.name] or _pace(t, taken, best_ms) for t in trials})


def fault(trial: Trial) -> str:
    """Why a runtime is not safe here, or can't be had; "" where it may be taken."""
    if trial.reason:
        return f"not to be had: {trial.reason}"
    # Asked this way round for NaN, which is no number and not within anything.
    checks = (
        (trial.is_finite, "an answer is not finite"),
        (not trial.flips, f"{trial.flips} keypoints are there for it alone, or missed by it"),
        (
            trial.off_mm <= MAX_OFF_MM,
            f"a keypoint is off by {trial.off_mm:.3f} mm, more than {MAX_OFF_MM:g}",
        ),
        (
            trial.mean_off_mm <= MEAN_OFF_MM,
            f"keypoints are off by {trial.mean_off_mm:.4f} mm on average, not {MEAN_OFF_MM:g}",
        ),
        (
            trial.quality_off <= MAX_QUALITY_OFF,
            f"Quality is off by {trial.quality_off:.2f}, more than {MAX_QUALITY_OFF:g}",
        ),
    )
    return next((f"not safe: {why}" for is_kept, why in checks if not is_kept), "")


def _safety(name: str) -> int:
    return CANDIDATES.index(name) if name in CANDIDATES else len(CANDIDATES)


def _pace(trial: Trial, taken: Trial, best_ms: float) -> str:
    """Why a safe runtime is taken, or is not."""
    if trial is taken:
        if taken.pace_ms > best_ms:
            return f"taken: the safest of those within {TIE:.0%} of the fastest"
        return "taken: the fastest"
    if trial.pace_ms <= best_ms * (1 + TIE):
        return f"no faster than {taken.name} by more than {TIE:.0%}, and less safe"
    return f"slower than {taken.name}: {trial.pace_ms / taken.pace_ms - 1:.0%} more time"
