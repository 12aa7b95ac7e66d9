"""The rule that the depth network must beat: the largest torque gradient of each step. NumPy only.

The first cutting step gives the entry, the step after it the transition and the exit. Where the
machine says that the first step ended on torque, the metal was met just before, and the transition
is sought there. Its known weakness is part of it: it believes that the machine changes step where
the material changes, which a step that ends on stroke does not.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farm.errors import ModelError
from farm.models.model import Insufficient, depth_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from farm.drilling.hole import Hole

MIN_SAMPLES = 18

_BIN_MM = 0.1
_SMOOTH_BINS = 5  # 0.5 mm: over the micropeck's noise, under the ramps' width
_MIN_STEP_MM = 2.0  # a step that advances less is a fragment
_TORQUE_MAXIMUM = 1  # the stop code
_TORQUE_STOP_MM = 1.5  # a torque maximum is reached within this much metal
_APPROACH_STEP = 0  # ends on contact: it cuts nothing
# How far past its onset a ramp is steepest, at entry, transition and exit: the median over
# simulated holes of the known programs. Without it the rule would be wrong by that much.
_PAST_ONSET_MM = (0.50, 0.28, 0.84)

Array = NDArray[np.float64]


class GradientRule:
    """The `Model` that needs no weights. It takes no settings.

    Raises:
        ModelError: there are settings.
    """

    version = "rule-2"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings:
            raise ModelError(
                f"model_settings: the rule takes none, but found {min(settings)!r}: remove it"
            )
        # The rule's weights are its own text.
        self.content_hash = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]

    def warm_up(self) -> None:
        """Nothing to warm."""

    def infer(self, inputs: Sequence[Hole]) -> list[Insufficient | Mapping[str, Any]]:
        """Answer each hole: keypoints in mm of |position|, or why there are none."""
        return [_answer(hole) for hole in inputs]


def _answer(hole: Hole) -> Insufficient | Mapping[str, Any]:
    """One hole by the rule."""
    if len(hole) < MIN_SAMPLES:
        return Insufficient("Too few samples to estimate depth")
    if hole.step_number.min() == hole.step_number.max():
        return Insufficient("Not enough steps to estimate depth")
    first, metal = _cutting_steps(hole)
    at, torque = _profile(hole, metal)
    peak = int(torque.argmax())  # the metal is met before it, and left after it
    _, exit_mm = _extremes(at[peak:], torque[peak:])
    first_at, first_torque = _profile(hole, first)
    met = len(first_at)
    if _ended_on_torque(hole, int(hole.step_number[first][0])):
        met = max(2, int((first_at < first_at[-1] - _TORQUE_STOP_MM).sum()))
        met = min(met, len(first_at))  # a step that hardly advanced
        transition, _ = _extremes(first_at[met - 1 :], first_torque[met - 1 :])
    else:
        transition, _ = _extremes(at[: peak + 1], torque[: peak + 1])
    entry, _ = _extremes(first_at[:met], first_torque[:met])
    steepest = (entry, transition, exit_mm)
    return depth_answer([at - past for at, past in zip(steepest, _PAST_ONSET_MM, strict=True)])


def _ended_on_torque(hole: Hole, number: int) -> bool:
    """Whether the machine reports a torque maximum for this step."""
    return any(s.number == number and s.stop_code == _TORQUE_MAXIMUM for s in hole.steps)


def _cutting_steps(hole: Hole) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The samples (n,) of the first step that cuts, and of the one after it."""
    numbers = hole.step_number
    order = numbers[np.sort(np.unique(numbers, return_index=True)[1])]
    masks = [numbers == number for number in order if number != _APPROACH_STEP]
    long = [m for m in masks if np.ptp(hole.position_mm[m]) >= _MIN_STEP_MM]
    chosen = long if len(long) > 1 else [numbers == number for number in order]
    return chosen[0], chosen[1]


def _profile(hole: Hole, mask: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Positions and smoothed torque (m,), m >= 1, of a step's samples, at even distances."""
    position = np.maximum.accumulate(hole.position_mm[mask].astype(np.float64))
    bins = ((position - position[0]) / _BIN_MM).astype(np.intp)
    bins = np.unique(bins, return_inverse=True)[1]  # even but for gaps, whatever the span
    count = np.bincount(bins)
    torque = np.bincount(bins, hole.torque_a[mask].astype(np.float64)) / count
    padded = np.pad(torque, _SMOOTH_BINS // 2, mode="edge")
    smooth = np.convolve(padded, np.ones(_SMOOTH_BINS) / _SMOOTH_BINS, mode="valid")
    return np.bincount(bins, position) / count, smooth


def _extremes(at: Array, torque: Array) -> tuple[float, float]:
    """Where the torque rises and falls most steeply; the middle where there is nothing to see."""
    if len(at) < 2:
        return float(at[0]), float(at[0])
    slope = np.diff(torque) / np.maximum(np.diff(at), _BIN_MM / 2)
    middle = 0.5 * (at[1:] + at[:-1])
    return float(middle[slope.argmax()]), float(middle[slope.argmin()])
