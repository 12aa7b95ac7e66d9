"""A hole resampled on a fixed grid over |position|, the depth network's input. NumPy only.

Over position, a hole looks alike at any feed: the keypoints' ramps are millimetres, not seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.drilling.hole import FloatArray, Hole

N_BINS = 768
BIN_MM = 0.05
"""768 bins of 0.05 mm hold 38.4 mm, more than any known program; a longer hole gets wider bins.

The network halves the grid three times, so their number is a multiple of eight.
"""

CHANNELS = 9

_BACKED_OFF_MM = 0.01  # farther behind the deepest point, the tip cuts nothing
_TORQUE_KNEE_A = 0.1  # asinh is linear below this, logarithmic above: both ramps stay visible
_THRUST_KNEE_A = 0.02


@dataclass(frozen=True, slots=True)
class Grid:
    """One hole on the grid.

    Attributes:
        channels: (CHANNELS, N_BINS) of order one; zero past the last sample.
        origin_mm: |position| of the first bin's left edge.
        bin_mm: width of a bin.
        used: how many bins the hole fills, at least one.
    """

    channels: FloatArray
    origin_mm: float
    bin_mm: float
    used: int


def resample(hole: Hole) -> Grid:
    """Put a hole of any length on the grid; the means leave out pull-backs at step changes."""
    position = hole.position_mm.astype(np.float64)
    deepest = np.maximum.accumulate(position)
    origin = float(deepest[0])
    width = max(BIN_MM, float(deepest[-1] - origin) / (N_BINS - 1))
    bins = ((deepest - origin) / width).astype(np.intp)
    used = int(bins[-1]) + 1
    cutting = (deepest - position) <= _BACKED_OFF_MM
    centres = np.asarray(origin + width * (np.arange(used) + 0.5), np.float64)
    torque, thrust = _means(hole, position, bins, cutting, centres)
    changes = np.flatnonzero(np.diff(hole.step_number)) + 1
    seconds = np.bincount(bins, minlength=used) / hole.sample_rate_hz
    channels = np.zeros((CHANNELS, N_BINS), np.float32)
    channels[:, :used] = (
        torque / _scale(torque),
        np.arcsinh(torque / _TORQUE_KNEE_A) / 5,
        thrust / _scale(thrust),
        np.arcsinh(thrust / _THRUST_KNEE_A) / 4,
        _edge(torque),
        np.bincount(bins[changes], minlength=used).clip(0, 1),
        np.bincount(bins[changes], minlength=used).cumsum() / 3,
        np.log10(seconds / width + 0.01),
        np.ones(used),
    )
    return Grid(np.nan_to_num(channels), origin, width, used)


def _means(
    hole: Hole,
    position: NDArray[np.float64],
    bins: NDArray[np.intp],
    cutting: NDArray[np.bool_],
    centres: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean torque and thrust (used,) of the cutting samples, interpolated to the bins' centres.

    Interpolating from the samples' mean position keeps what a fast feed samples only once a bin.
    """
    inside = bins[cutting]
    count = np.bincount(inside, minlength=len(centres))
    filled = count > 0

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        total = np.bincount(inside, values[cutting].astype(np.float64), len(centres))
        return np.asarray(total[filled] / count[filled], np.float64)

    at = mean(position)
    torque, thrust = (np.interp(centres, at, mean(x)) for x in (hole.torque_a, hole.thrust_a))
    return torque, thrust


def _scale(signal: NDArray[np.float64]) -> float:
    """The level of the hole's hardest part; the quantile ignores spikes such as the end stop."""
    return max(float(np.quantile(signal, 0.97)), 0.1)


def _edge(torque: NDArray[np.float64]) -> NDArray[np.float64]:
    """The slope (used,) against the local level: a rise from 0 to 1 A counts like 10 to 20 A."""
    level = np.abs(torque) + 3 * _TORQUE_KNEE_A
    return np.diff(torque, append=torque[-1:]) / level
