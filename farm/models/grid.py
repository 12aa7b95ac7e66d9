"""Holes resampled on a fixed grid along the drill's path, the depth network's input. NumPy only.

Along the path, a hole looks alike at any feed: the keypoints' ramps are millimetres, not seconds.
Each program step has bins of its own, since at a step change the drill is pulled back and passes
the same position again. A batch is resampled as one, so that its cost is that of its samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from farm.drilling.hole import FloatArray
    from farm.models.traces import Traces

Array = NDArray[np.float64]
Index = NDArray[np.intp]

N_BINS = 768
BIN_MM = 0.05
"""768 bins of 0.05 mm hold 38.4 mm, more than any known program; a longer hole gets wider bins."""

CHANNELS = 7
CELL_BINS = 2
"""Bins in a cell of the network's answer. Steps begin at a cell, so that none holds two."""

N_CELLS = N_BINS // CELL_BINS

MAX_STEPS = 32
"""A program has up to 8; where there are more than this, they are no steps, and are ignored."""

_BACKED_OFF_MM = 0.01  # farther behind the deepest point, the tip cuts nothing
_TORQUE_KNEE_A = 0.1  # asinh is linear below this, logarithmic above: both ramps stay visible
_THRUST_KNEE_A = 0.02
# Farther off both its neighbours, a sample is wrong: the fastest feed makes 0.15 mm at 50 Hz.
_SPIKE_MM = 0.5
_PACE_BINS = 8  # on either side, over which the feed is taken
_RATES_HZ = (1.0, 1e5)  # what is outside is a broken number
_LARGEST_A = 1e4  # no motor current: what is beyond is a broken number


@dataclass(frozen=True, slots=True)
class Grids:
    """A batch of b holes on the grid.

    Attributes:
        channels: (b, CHANNELS, N_BINS) of order one; zero past the last sample.
        position_mm: (b, N_CELLS) |position| of each cell's centre, counted from `origin_mm`.
        used: (b, N_CELLS) whether the hole reaches the cell: 1 or 0.
        origin_mm: (b,) where the hole's first sample lies.
        bin_mm: (b,) width of a bin.
    """

    channels: FloatArray
    position_mm: FloatArray
    used: FloatArray
    origin_mm: Array
    bin_mm: Array


def resample(traces: Traces) -> Grids:
    """Put holes of any length on the grid; the means leave out pull-backs at step changes."""
    b, starts = len(traces), traces.starts
    first = _step_starts(traces)
    lengths = np.diff(np.append(first, starts[-1]))
    position, origin = _from_first(traces)
    begin = position[first]
    # One running maximum for all steps: each is lifted above all that came before.
    lift = np.arange(len(first)) * (np.ptp(position) + 1.0)
    shift = np.repeat(lift - begin, lengths)
    reached = position + shift
    deepest = np.maximum.accumulate(reached)
    cutting = reached >= deepest - _BACKED_OFF_MM
    deepest -= np.repeat(lift, lengths)  # mm into its step
    last = np.append(first[1:], starts[-1]) - 1
    advance = deepest[last]
    steps = _Steps(np.searchsorted(starts, first, side="right") - 1, begin, advance, b)
    scale = (1 / steps.bin_mm)[steps.hole]
    along = deepest * np.repeat(scale, lengths)
    along += np.repeat(steps.first_bin + N_BINS * steps.hole, lengths)
    bins = along.astype(np.intp)
    channels = np.zeros((b, CHANNELS, N_BINS), np.float32)
    _fill(channels, traces, steps, bins=bins, along=along, cutting=cutting)
    cells = _cells(steps, b)
    used = (cells[1] > 0).astype(np.float32)
    return Grids(channels, cells[0], used, origin, steps.bin_mm)


def _from_first(traces: Traces) -> tuple[Array, Array]:
    """Positions (n,) from each hole's first sample, without single samples that are far off.

    Those give way to a median of three: one of them would make all that come after it look pulled
    back. Counted from its own first sample, no hole depends on where its neighbours are. Returns
    (b,) where the first samples lie, too.
    """
    raw, starts = traces.position_mm.astype(np.float64), traces.starts
    before, after = np.empty_like(raw), np.empty_like(raw)
    before[1:], after[:-1] = raw[:-1], raw[1:]
    first, last = starts[:-1], starts[1:] - 1
    # At a hole's ends, the two samples on the other side.
    before[first] = raw[np.minimum(first + 2, last)]
    after[last] = raw[np.maximum(last - 2, first)]
    low, high = np.minimum(before, after), np.maximum(before, after)
    median = np.clip(raw, low, high)
    position = np.where(np.abs(raw - median) > _SPIKE_MM, median, raw)
    origin = position[first]
    position -= np.repeat(origin, np.diff(starts))
    return position, origin


def _step_starts(traces: Traces) -> Index:
    """Where a step or a hole begins, among all samples."""
    starts = traces.starts
    changes = np.flatnonzero(np.diff(traces.step_number)) + 1
    if len(traces) > 1:  # where one hole follows another is no change
        changes = np.setdiff1d(changes, starts)
    if len(changes) == 0:
        return starts[:-1]
    hole = np.searchsorted(starts, changes, side="right") - 1
    many = np.bincount(hole, minlength=len(traces)) >= MAX_STEPS
    if many.any():
        changes = changes[~many[hole]]
    return np.sort(np.concatenate((starts[:-1], changes)))


class _Steps:
    """Where the bins of each step lie; arrays (s,) over the steps of all holes.

    Attributes:
        hole: which hole it belongs to.
        begin_mm: position of its first sample, from the hole's.
        advance_mm: how far beyond that it gets.
        first_bin: its first bin, within its hole.
        bins: how many it has.
        bin_mm: (b,) width of the hole's bins.
    """

    def __init__(self, hole: Index, begin_mm: Array, advance_mm: Array, b: int) -> None:
        self.hole, self.begin_mm, self.advance_mm = hole, begin_mm, advance_mm
        count = np.bincount(hole, minlength=b)
        total = np.bincount(hole, advance_mm, minlength=b)
        # Each step may waste a cell and more by beginning at one.
        room = N_BINS - CELL_BINS * (count + 1)
        self.bin_mm = np.maximum(BIN_MM, total / room)
        cells = (advance_mm / (CELL_BINS * self.bin_mm[hole])).astype(np.intp) + 1
        self.bins = cells * CELL_BINS
        before = np.cumsum(self.bins) - self.bins
        first_of_hole = np.searchsorted(hole, np.arange(b))
        self.first_bin = before - before[first_of_hole][hole]


def _cells(steps: _Steps, b: int) -> tuple[FloatArray, Array]:
    """(b, N_CELLS) each cell's centre in mm from the hole's first sample, and whether it's used."""
    cells = steps.bins // CELL_BINS
    step = np.repeat(np.arange(len(cells)), cells)
    within = np.arange(len(step)) - np.repeat(np.cumsum(cells) - cells, cells)
    hole = steps.hole[step]
    width = CELL_BINS * steps.bin_mm[hole]
    # The last cell of a step is not full: its samples' middle is its centre.
    left = within * width
    into = 0.5 * (left + np.minimum(left + width, np.maximum(steps.advance_mm[step], left)))
    position = np.zeros((b, N_CELLS), np.float32)
    used = np.zeros((b, N_CELLS))
    at = (hole, (steps.first_bin // CELL_BINS)[step] + within)
    position[at] = steps.begin_mm[step] + into
    used[at] = 1
    return position, used


def _fill(
    channels: FloatArray, traces: Traces, steps: _Steps, *,
    bins: Index, along: Array, cutting: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Write the channels."""
    b = len(channels)
    inside = bins if cutting.all() else bins[cutting]
    chosen: slice | NDArray[np.bool_] = slice(None) if inside is bins else cutting
    count = np.bincount(inside, minlength=b * N_BINS)
    filled = np.flatnonzero(count)
    weight = 1 / count[filled]
    # Interpolating from the samples' mean place keeps what a fast feed samples only once a bin.
    at = np.bincount(inside, along[chosen], minlength=b * N_BINS)[filled] * weight
    first_bin = steps.first_bin + N_BINS * steps.hole
    ends = np.zeros(b, np.intp)
    np.maximum.at(ends, steps.hole, steps.first_bin + steps.bins)
    used = np.arange(N_BINS) < ends[:, None]
    # Beyond its first and last sample a hole keeps their values, whoever its neighbours are.
    edges = np.searchsorted(filled, np.arange(b + 1) * N_BINS)
    centres = np.arange(b * N_BINS).reshape(b, N_BINS) + 0.5
    centres = np.clip(centres, at[edges[:-1], None], at[edges[1:] - 1, None])
    for signal, plain, knee, row, tame in (
        (traces.torque_a, 0, _TORQUE_KNEE_A, 1, 5.0),
        (traces.thrust_a, 2, _THRUST_KNEE_A, 3, 4.0),
    ):
        values = np.clip(signal[chosen], -_LARGEST_A, _LARGEST_A)
        total = np.bincount(inside, values, minlength=b * N_BINS)[filled]
        mean = np.interp(centres, at, total * weight).astype(np.float32)
        mean *= used
        channels[:, plain] = mean / _scale(mean, ends)[:, None]
        channels[:, row] = np.arcsinh(mean / np.float32(knee)) / np.float32(tame)
    channels.reshape(b, -1)[steps.hole, 4 * N_BINS + first_bin - N_BINS * steps.hole] = 1
    channels[:, 5] = _pace(count.reshape(b, N_BINS), traces.rate_hz, steps.bin_mm) * used
    channels[:, 6] = used


def _scale(signal: FloatArray, ends: Index) -> FloatArray:
    """(b,) the level of each hole's hardest part; the quantile ignores end-stop spikes."""
    ordered = np.sort(signal, axis=1)
    # Unused bins are zero: as many of the largest values are counted off the top.
    above = np.ceil(0.03 * ends).astype(np.intp)
    level = ordered[np.arange(len(signal)), N_BINS - 1 - above]
    return np.asarray(np.maximum(level, np.float32(0.1)))


def _pace(count: NDArray[np.intp], rate_hz: Array, bin_mm: Array) -> Array:
    """(b, N_BINS) log of the seconds a millimetre took, over the bins around."""
    sums = np.zeros((len(count), N_BINS + 2 * _PACE_BINS + 1))
    np.cumsum(count, axis=1, out=sums[:, _PACE_BINS + 1 : _PACE_BINS + 1 + N_BINS])
    sums[:, _PACE_BINS + 1 + N_BINS :] = sums[:, _PACE_BINS + N_BINS, None]
    around = sums[:, 2 * _PACE_BINS + 1 :] - sums[:, : -2 * _PACE_BINS - 1]
    length = (2 * _PACE_BINS + 1) * bin_mm * np.clip(rate_hz, *_RATES_HZ)
    return np.asarray(np.log10(around / length[:, None] + 0.01))
