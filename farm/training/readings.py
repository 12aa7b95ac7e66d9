"""What machines report of b simulated holes: samples with noise, quanta and held values.

Owns everything between noise-free courses and `Traces`. All samples of a batch lie in flat arrays,
hole after hole, so that a batch costs little more than its samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from farm.models.traces import Traces
from farm.training.profile import (
    THRUST_FIRST,
    THRUST_IDLE,
    THRUST_METAL,
    TORQUE_FIRST,
    TORQUE_IDLE,
    TORQUE_METAL,
)
from farm.training.programs import Role
from farm.training.ramps import STEP_MM

if TYPE_CHECKING:
    from farm.training.course import Course
    from farm.training.draws import Array, Draws, Index
    from farm.training.faults import Faults

Samples = NDArray[np.float32]

TORQUE_QUANTUM_A = 0.0488
THRUST_QUANTUM_A = 0.0117
POSITION_QUANTUM_MM = 0.0038
MAX_SAMPLES = 20_000

_HELD = 4  # samples at a step's end repeat the one before
_PECKS_PER_TURN = 1.5
_SPIKE_SHARE = 0.002  # of the samples of a hole that suffers from them


class _Layout:
    """Where each sample belongs, in the flat arrays of a batch; n samples in all.

    Attributes:
        counts: (b, MAX_STEPS) samples of each step.
        hole: (n,) of each sample.
        within: (n,) its number within its step.
        is_metal: (n,) whether its step is the metal's.
        time_s: (n,) since the hole's first sample.
    """

    def __init__(self, draws: Draws, counts: Index, rate_hz: Array) -> None:
        self.counts = counts
        self._steps = counts.ravel()
        self._holes = counts.sum(1)
        self.starts = np.append(0, np.cumsum(self._holes))
        every = np.arange(self.starts[-1])
        self.hole = self.of_hole(np.arange(len(counts)))
        self.within = every - self.of_step(np.cumsum(self._steps) - self._steps)
        self.is_metal = self.of_step(draws.plans("role") == Role.METAL)
        since = (every - self.of_hole(self.starts[:-1])).astype(np.float32)
        self.time_s = since * self.of_hole((1 / rate_hz).astype(np.float32))

    def of_hole(self, values: NDArray[Any]) -> NDArray[Any]:
        """(n,) of a value (b,) for each hole."""
        return np.repeat(values, self._holes)

    def of_step(self, values: NDArray[Any]) -> NDArray[Any]:
        """(n,) of a value (b, MAX_STEPS) for each step."""
        return np.repeat(values.ravel(), self._steps)

    def drawn(self, values: Array) -> Samples:
        """(n,) of what was drawn (b,) or (b, MAX_STEPS), as samples are."""
        cast = values.astype(np.float32)
        return self.of_hole(cast) if values.ndim == 1 else self.of_step(cast)


def report(draws: Draws, course: Course, faults: Faults) -> tuple[Traces, Index]:
    """The samples of a batch, and how many (b, MAX_STEPS) each step has."""
    rate_hz = faults.rate_hz(draws)
    counts = _counts(draws, course, faults, rate_hz)
    layout = _Layout(draws, counts, rate_hz)
    # The last samples of a step repeat the one before them, in every channel.
    held = np.minimum(layout.within, layout.of_step(np.maximum(counts - _HELD - 1, 0)))
    position = layout.drawn(course.feed_mm_s / rate_hz[:, None]) * held.astype(np.float32)
    position += layout.drawn(course.start_mm)
    torque, thrust = _felt(course, layout, position)
    _add_noise(draws, layout, torque, thrust)
    _end_stop(draws, course, layout, position=position, torque=torque, thrust=thrust)
    _stick(draws, layout, torque, share=draws.given("sticky_share"), quantum=(0.08, 0.18))
    _stick(draws, layout, thrust, share=np.full(len(draws), 0.7), quantum=(0.012, 0.055))
    _spoil(draws, faults, layout, torque, thrust)
    repeats = np.flatnonzero(held < layout.within)
    for signal in (torque, thrust):
        signal[repeats] = signal[repeats - (layout.within - held)[repeats]]
    numbers = layout.of_step(draws.plans("number").astype(np.int16))
    numbers[layout.of_hole(faults.lost_steps)] = 1
    traces = Traces(
        position_mm=_quantise(position, POSITION_QUANTUM_MM),
        torque_a=_quantise(torque, TORQUE_QUANTUM_A),
        thrust_a=_quantise(thrust, THRUST_QUANTUM_A),
        step_number=numbers,
        starts=layout.starts,
        rate_hz=rate_hz,
    )
    return traces, counts


def _counts(draws: Draws, course: Course, faults: Faults, rate_hz: Array) -> Index:
    """How many samples (b, MAX_STEPS) each step has; faults cut them short."""
    length = (course.end_mm - course.start_mm) / course.feed_mm_s * rate_hz[:, None]
    counts = np.where(course.runs, length.astype(np.intp) + _HELD, 0)
    later = np.cumsum(counts > 0, 1) > 1
    counts = np.where(faults.single_step[:, None] & later, 0, counts)
    total = counts.sum(1)
    keep = np.where(faults.abort, (total * draws.uniform(0.02, 1.0)).astype(np.intp), total)
    keep = np.clip(keep, 2, MAX_SAMPLES)
    before = np.cumsum(counts, 1) - counts
    return np.asarray(np.clip(keep[:, None] - before, 0, counts))


def _felt(course: Course, layout: _Layout, position: Samples) -> tuple[Samples, Samples]:
    """Torque and thrust (n,) without noise."""
    curves = course.profile.curves
    points = curves.shape[1]
    at = position * np.float32(1 / STEP_MM)
    left = np.clip(at.astype(np.intp), 0, points - 2)
    at -= left
    left += layout.of_hole(np.arange(len(curves)) * points)
    rows = curves.reshape(-1, curves.shape[2])
    felt = rows.take(left, axis=0)
    left += 1
    felt += at[:, None] * (rows.take(left, axis=0) - felt)
    width = layout.drawn(course.resume_width_mm)
    past = position - layout.drawn(np.maximum(course.resume_mm, -1e6))
    torque = _returned(past, width) * (
        layout.drawn(course.gain_first) * felt[:, TORQUE_FIRST]
        + layout.drawn(course.gain_metal) * felt[:, TORQUE_METAL]
    )
    past += layout.drawn(course.resume_lead_mm)
    thrust = _returned(past, width * np.float32(0.8)) * (
        felt[:, THRUST_FIRST] + felt[:, THRUST_METAL]
    )
    thrust *= layout.drawn(course.gain_thrust)
    return torque + felt[:, TORQUE_IDLE], thrust + felt[:, THRUST_IDLE]


def _returned(past: Samples, width: Samples) -> Samples:
    """How far (n,) the load is back after a step change: a ramp with rounded ends, hinge at 0."""
    x = np.clip(past / width, -0.25, 1.25)
    low = np.clip(x + np.float32(0.25), 0, 0.5)
    high = np.clip(x - np.float32(0.75), 0, 0.5)
    return np.asarray(low * low + np.clip(x - np.float32(0.25), 0, None) - high * high)


def _add_noise(draws: Draws, layout: _Layout, torque: Samples, thrust: Samples) -> None:
    """Red noise that grows with the load, white noise, the micropeck and the no-load offsets."""
    rng, n, shape = draws.rng, len(torque), layout.counts.shape
    red_first, red_metal = draws.uniform(0.003, 0.035), draws.of("metal_noise")
    red = np.where(layout.is_metal, layout.drawn(red_metal), layout.drawn(red_first))
    torque *= 1 + red * _slow(draws, layout)
    thrust *= 1 + layout.drawn(draws.uniform(0.01, 0.05)) * _slow(draws, layout)
    _peck(draws, layout, torque, thrust)
    white = layout.drawn(draws.uniform(0.006, 0.024))
    white += layout.drawn(10 ** draws.uniform(-3.3, -2.3)) * np.abs(torque)
    torque += white * rng.standard_normal(n, np.float32)
    white = layout.drawn(draws.uniform(0.002, 0.006))
    white += layout.drawn(draws.uniform(0.0, 0.02)) * np.abs(thrust)
    thrust += white * rng.standard_normal(n, np.float32)
    torque += layout.drawn(np.clip(rng.normal(-0.04, 0.07, shape), -0.25, 0.12))
    thrust += layout.drawn(rng.normal(0, 0.008, shape))


def _peck(draws: Draws, layout: _Layout, torque: Samples, thrust: Samples) -> None:
    """Let the micropeck shake both, as shares of their levels: 1.5 strokes a turn."""
    share = draws.of("peck")
    where = np.flatnonzero(layout.is_metal & layout.of_hole(share > 0.01))
    if not where.size:
        return
    of = layout.hole[where]
    rpm = (draws.plans("rpm") * (draws.plans("role") == Role.METAL)).sum(1)
    pecks_hz = np.clip(_PECKS_PER_TURN * rpm * draws.uniform(0.95, 1.05) / 60, 2.0, 30.0)
    turn = (2 * np.pi * pecks_hz).astype(np.float32)[of] * layout.time_s[where]
    phase = draws.uniform(0, 6.28, 3).astype(np.float32)
    amplitude = share.astype(np.float32)[of]
    torque[where] *= 1 + amplitude * (
        np.sin(turn)
        + np.float32(0.08) * np.sin(turn / 3 + phase[of, 0])
        + np.float32(0.08) * np.sin(turn * 2 / 3 + phase[of, 1])
    )
    lag, strength = draws.uniform(0.3, 1.5), draws.uniform(0.8, 2.4)
    amplitude *= strength.astype(np.float32)[of]
    thrust[where] *= 1 + amplitude * np.sin(turn - lag.astype(np.float32)[of])


def _slow(draws: Draws, layout: _Layout) -> Samples:
    """Red noise (n,) of about unit sd, nearly all of it below 5 Hz; lag-1 correlation 0.997."""
    total = np.zeros(len(layout.hole), np.float32)
    longest = float(layout.time_s.max(initial=0.0))
    for spacing_s, weight in ((0.3, 0.4), (1.5, 1.15)):
        per_hole = int(longest / spacing_s) + 2
        knots = draws.rng.standard_normal(len(draws) * per_hole, np.float32)
        at = layout.time_s * np.float32(1 / spacing_s)
        left = np.minimum(at.astype(np.intp), per_hole - 2)
        at -= left
        left += layout.of_hole(np.arange(len(draws)) * per_hole)
        low = knots.take(left)
        left += 1
        total += np.float32(weight) * (low + at * (knots.take(left) - low))
    return total


def _end_stop(
    draws: Draws, course: Course, layout: _Layout, *,
    position: Samples, torque: Samples, thrust: Samples,
) -> None:  # fmt: skip
    """Add what an end far past the stack shows: the collar rubs, then the stop is met."""
    end = np.where(course.runs, course.end_mm, 0).max(1)
    meets = (end > course.stack.exit_mm + 2.5) & draws.happens(0.7)
    to_go = layout.drawn(end) - position
    where = np.flatnonzero(layout.of_hole(meets) & (to_go < 3.0))
    of, near = layout.hole[where], to_go[where]
    rub_mm, rub_a = draws.uniform(0.3, 2.5), 10 ** draws.uniform(-1.0, 1.0)
    torque[where] += (rub_a[of] * np.clip(1 - near / rub_mm[of], 0, 1)).astype(np.float32)
    stop_mm, stop_a = draws.uniform(0.01, 0.1), 10 ** draws.uniform(-1.3, 0.4)
    thrust[where] += (stop_a[of] * np.exp(-near / stop_mm[of])).astype(np.float32)


def _stick(
    draws: Draws, layout: _Layout, signal: Samples, *, share: Array, quantum: tuple[float, float]
) -> None:
    """Let a signal rest on plateaus and jump between them, as friction does; true on average."""
    where = np.flatnonzero(layout.of_hole(draws.happens(share)))
    size, phase = draws.uniform(*quantum), draws.uniform(-0.5, 0.5)
    edge = draws.uniform(0.1, 0.6)  # how much of a plateau's height the jump takes to build up
    if not where.size:
        return
    of = layout.hole[where]
    height, offset = size.astype(np.float32)[of], phase.astype(np.float32)[of]
    turns = signal[where] / height + offset
    whole = np.floor(turns)
    jump = (turns - whole - np.float32(0.5)) / edge.astype(np.float32)[of] + np.float32(0.5)
    signal[where] = height * (whole + np.clip(jump, 0, 1) - offset)


def _spoil(draws: Draws, faults: Faults, layout: _Layout, torque: Samples, thrust: Samples) -> None:
    """Channels that are dead, stuck from some moment on, or hit by spikes."""
    torque[layout.of_hole(faults.dead_torque)] = 0
    thrust[layout.of_hole(faults.dead_thrust)] = 0
    starts, ends = layout.starts[:-1], layout.starts[1:]
    for stuck, signal in ((faults.stuck_torque, torque), (faults.stuck_thrust, thrust)):
        since = starts + (draws.uniform(0, 1) * (ends - starts)).astype(np.intp)
        for row in np.flatnonzero(stuck):
            signal[since[row] : ends[row]] = signal[since[row]]
    may = np.flatnonzero(layout.of_hole(faults.spikes))
    for signal, size_a in ((torque, 10.0), (thrust, 0.5)):
        hit = may[draws.rng.random(may.size) < _SPIKE_SHARE]
        signal[hit] += draws.rng.normal(0, size_a, hit.size).astype(np.float32)


def _quantise(signal: Samples, quantum: float) -> Samples:
    """The signal in the machine's own steps, as the gateway rounds them."""
    turns = np.rint(signal.astype(np.float64) / quantum)
    return np.round(turns * quantum, 3).astype(np.float32)
