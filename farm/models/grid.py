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
# Of torque and thrust: asinh is linear below the knee, logarithmic above: both ramps stay visible.
_KNEES_A = np.array([0.1, 0.02], np.float32)[:, None, None]
_TAMES = np.array([5.0, 4.0], np.float32)[:, None, None]  # bring what comes out to order one
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
    ends = np.concatenate((first[1:], starts[-1:]))
    lengths = ends - first
    position, origin = _from_first(traces)
    begin = position[first]
    # One running maximum for all steps: each is lifted above all that came before.
    lift = np.arange(len(first)) * (position.max() - position.min() + 1.0)
    position += np.repeat(lift - begin, lengths)
    deepest = np.maximum.accumulate(position)
    cutting = position >= deepest - _BACKED_OFF_MM
    deepest -= np.repeat(lift, lengths)  # mm into its step
    advance = deepest[ends - 1]
    steps = _Steps(starts[:-1].searchsorted(first, side="right") - 1, begin, advance, b)
    scale = (1 / steps.bin_mm)[steps.hole]
    deepest *= np.repeat(scale, lengths)
    deepest += np.repeat(steps.first_bin + N_BINS * steps.hole, lengths)
    bins = deepest.astype(np.intp)
    channels = np.zeros((b, CHANNELS, N_BINS), np.float32)
    _fill(channels, traces, steps, bins=bins, along=deepest, cutting=cutting)
    cells = _cells(steps, b)
    return Grids(channels, *cells, origin, steps.bin_mm)


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
    median = np.maximum(raw, np.minimum(before, after))
    np.minimum(median, np.maximum(before, after), out=median)
    far = np.abs(raw - median) > _SPIKE_MM
    if far.any():
        raw[far] = median[far]
    origin = raw[first]
    raw -= np.repeat(origin, starts[1:] - first)
    return raw, origin


def _step_starts(traces: Traces) -> Index:
    """Where a step or a hole begins, among all samples."""
    number, starts = traces.step_number, traces.starts
    begins = np.empty(len(number), np.bool_)
    np.not_equal(number[1:], number[:-1], out=begins[1:])
    begins[starts[:-1]] = False  # where one hole follows another is no change
    changes = begins.nonzero()[0]
    if len(changes) >= MAX_STEPS:
        hole = starts.searchsorted(changes, side="right") - 1
        many = np.bincount(hole, minlength=len(traces)) >= MAX_STEPS
        begins[changes[many[hole]]] = False
    begins[starts[:-1]] = True
    return begins.nonzero()[0]


class _Steps:
    """Where the bins of each step lie; arrays (s,) over the steps of all holes.

    Attributes:
        hole: which hole it belongs to.
        begin_mm: position of its first sample, from the hole's.
        advance_mm: how far beyond that it gets.
        first_bin: its first bin, within its hole.
        bins: how many it has.
        bin_mm: (b,) width of the hole's bins.
        end_bin: (b,) how many bins the hole has.
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
        after = self.bins.cumsum()
        before = after - self.bins
        next_hole = count.cumsum()
        begin_of_hole = before[next_hole - count]
        self.first_bin = before - begin_of_hole[hole]
        self.end_bin = after[next_hole - 1] - begin_of_hole


def _cells(steps: _Steps, b: int) -> tuple[FloatArray, FloatArray]:
    """(b, N_CELLS) each cell's centre in mm from the hole's first sample, and whether it's used."""
    cells = steps.bins // CELL_BINS
    after = cells.cumsum()
    step = np.repeat(np.arange(len(cells)), cells)
    within = np.arange(len(step)) - (after - cells)[step]
    width = (CELL_BINS * steps.bin_mm[steps.hole])[step]
    # The last cell of a step is not full: its samples' middle is its centre.
    left = within * width
    into = np.maximum(steps.advance_mm[step], left)
    np.minimum(left + width, into, out=into)
    into += left
    into *= 0.5
    into += steps.begin_mm[step]
    position = np.zeros(b * N_CELLS, np.float32)
    used = np.zeros(b * N_CELLS, np.float32)
    at = (steps.hole * N_CELLS + steps.first_bin // CELL_BINS)[step] + within
    position[at] = into
    used[at] = 1
    return position.reshape(b, N_CELLS), used.reshape(b, N_CELLS)


def _fill(
    channels: FloatArray, traces: Traces, steps: _Steps, *,
    bins: Index, along: Array, cutting: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Write the channels."""
    b, width = len(channels), int(steps.end_bin.max())  # nothing is beyond the longest
    inside = bins if cutting.all() else bins[cutting]
    chosen: slice | NDArray[np.bool_] = slice(None) if inside is bins else cutting
    count = np.bincount(inside, minlength=b * N_BINS)
    filled = count.nonzero()[0]
    weight = 1 / count[filled]
    # Interpolating from the samples' mean place keeps what a fast feed samples only once a bin.
    at = np.bincount(inside, along[chosen], minlength=b * N_BINS)[filled] * weight
    # Beyond its first and last sample a hole keeps their values, whoever its neighbours are.
    edges = filled.searchsorted(np.arange(b + 1) * N_BINS)
    begins = np.arange(b)[:, None] * N_BINS
    bin_ = np.arange(width)
    centres = np.maximum(begins + (bin_ + 0.5), at[edges[:-1], None])
    np.minimum(centres, at[edges[1:] - 1, None], out=centres)
    used = bin_ < steps.end_bin[:, None]
    mean = np.empty((2, b, width), np.float32)
    for row, signal in zip(mean, (traces.torque_a, traces.thrust_a), strict=True):
        values = np.minimum(np.maximum(signal[chosen], -_LARGEST_A), _LARGEST_A)
        total = np.bincount(inside, values, minlength=b * N_BINS)[filled]
        row[:] = np.interp(centres, at, total * weight)
    mean *= used
    channels[:, 0:4:2, :width] = (mean / _scale(mean, steps.end_bin)).swapaxes(0, 1)
    mean /= _KNEES_A
    np.arcsinh(mean, out=mean)
    mean /= _TAMES
    channels[:, 1:4:2, :width] = mean.swapaxes(0, 1)
    channels.reshape(b, -1)[steps.hole, 4 * N_BINS + steps.first_bin] = 1
    pace = _pace(count.reshape(b, N_BINS)[:, :width], traces.rate_hz, steps.bin_mm)
    channels[:, 5, :width] = pace * used
    channels[:, 6, :width] = used


def _scale(mean: FloatArray, ends: Index) -> FloatArray:
    """(2, b, 1) the level of each hole's hardest part; the quantile ignores end-stop spikes."""
    ordered = np.sort(mean, axis=2)
    # Unused bins are zero: as many of the largest values are counted off the top.
    above = np.ceil(0.03 * ends).astype(np.intp)
    level = ordered[:, np.arange(len(ends)), mean.shape[2] - 1 - above]
    return np.maximum(level, np.float32(0.1))[:, :, None]


def _pace(count: NDArray[np.intp], rate_hz: Array, bin_mm: Array) -> Array:
    """(b, w) log of the seconds a millimetre took, over the bins around."""
    b, width = count.shape
    sums = np.zeros((b, width + 2 * _PACE_BINS + 1), np.intp)
    np.cumsum(count, axis=1, out=sums[:, _PACE_BINS + 1 : _PACE_BINS + 1 + width])
    sums[:, _PACE_BINS + 1 + width :] = sums[:, _PACE_BINS + width, None]
    around = sums[:, 2 * _PACE_BINS + 1 :] - sums[:, : -2 * _PACE_BINS - 1]
    rate_hz = np.minimum(np.maximum(rate_hz, _RATES_HZ[0]), _RATES_HZ[1])
    length = ((2 * _PACE_BINS + 1) * bin_mm * rate_hz)[:, None]
    most = int(around.max()) + 1
    if most > width:  # the drill stood still
        return np.asarray(np.log10(around / length + 0.01))
    # A bin has few samples: a logarithm for each number of them is cheaper than for each bin.
    logs = np.log10(np.arange(most) / length + 0.01)
    return np.asarray(logs.ravel()[around + np.arange(b)[:, None] * most])
