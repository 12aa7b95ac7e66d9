"""Torque and thrust as functions of the tip's position, and their noise. Knows no steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from farm.training.programs import Program, Range

Array = NDArray[np.float64]

# Slow noise is a sum of interpolated knots this far apart: lag-1 correlation about 0.997 at 100 Hz.
_KNOTS_S = (0.25, 1.0, 4.0)
_KNOT_WEIGHTS = (0.35, 0.6, 0.72)


@dataclass(frozen=True, slots=True)
class Stack:
    """The material as torque onsets see it, in mm of |position|."""

    entry_mm: float
    transition_mm: float | None  # None: one material only
    exit_mm: float

    @property
    def metal_mm(self) -> float:
        """Where the metal starts: at the entry when there is nothing else."""
        return self.entry_mm if self.transition_mm is None else self.transition_mm


@dataclass(frozen=True, slots=True)
class Ramp:
    """A rise from 0 to 1 that begins exactly at 0 mm."""

    depth_mm: Array
    share: Array

    def at(self, depth_mm: Array) -> Array:
        """The share (n,) reached at each depth (n,) past the onset."""
        return np.interp(depth_mm, self.depth_mm, self.share)


@dataclass(frozen=True, slots=True)
class Force:
    """One motor current, without noise.

    A channel's onsets lie `lead_mm` before the stack's: thrust feels the material before torque.
    """

    first_a: float
    metal_a: float
    lead_mm: tuple[float, float, float]
    entry: Ramp
    transition: Ramp
    exit: Ramp
    drift: float  # share gained over 10 mm of the first material
    slope: float  # share gained from the metal's start to the exit
    hump: float  # share gained in the metal's middle
    sag: float = 0.0  # share lost just before the exit, where the last skin of metal gives way
    sag_mm: float = 1.0  # over this length

    def first_at(self, position_mm: Array, stack: Stack) -> Array:
        """The share (n,) in ampere of the first material; zero where there is only metal."""
        if stack.transition_mm is None:
            return np.zeros_like(position_mm)
        depth = position_mm - stack.entry_mm + self.lead_mm[0]
        left = self.transition.at(position_mm - stack.transition_mm + self.lead_mm[1])
        drifted = 1 + self.drift * np.maximum(depth, 0) / 10
        return self.first_a * drifted * self.entry.at(depth) * (1 - left)

    def metal_at(self, position_mm: Array, stack: Stack) -> Array:
        """The share (n,) in ampere of the metal."""
        ramp = self.entry if stack.transition_mm is None else self.transition
        lead = self.lead_mm[0 if stack.transition_mm is None else 1]
        depth = position_mm - stack.metal_mm + lead
        along = np.clip(depth / max(stack.exit_mm - stack.metal_mm, 0.1), 0, 1)
        shape = 1 + self.slope * along + self.hump * np.sin(np.pi * along)
        give = np.clip((position_mm - stack.exit_mm + self.sag_mm) / self.sag_mm, 0, 1)
        shape -= self.sag * give**2
        out = self.exit.at(position_mm - stack.exit_mm + self.lead_mm[2])
        return self.metal_a * shape * ramp.at(depth) * (1 - out)


def draw_ramp(rng: np.random.Generator, d50_mm: float, d90_mm: float, full_mm: float) -> Ramp:
    """A ramp through 50 %, 90 % and 100 % at these depths, bent a little in between."""
    low, high = rng.uniform(0.16, 0.32), rng.uniform(0.66, 0.8)
    depth = np.array([0.0, 0.5 * d50_mm, d50_mm, 0.5 * (d50_mm + d90_mm), d90_mm, full_mm])
    return Ramp(depth, np.array([0.0, low, 0.5, high, 0.9, 1.0]))


def draw_torque(program: Program, rng: np.random.Generator) -> Force:
    """The torque of one hole: level by wear, ramps as wide as measured."""
    wear = rng.uniform()
    cfrp = program.cfrp_a or program.metal_a
    d90, tail = rng.uniform(*program.metal_d90_mm), rng.uniform(*program.exit_tail_mm)
    cfrp_d90 = program.cfrp_d50_mm * rng.uniform(1.5, 3.5)
    return Force(
        first_a=_worn(cfrp, wear) * rng.uniform(0.92, 1.08),
        metal_a=_worn(program.metal_a, wear) * rng.uniform(0.92, 1.08),
        lead_mm=(0.0, 0.0, 0.0),
        entry=draw_ramp(
            rng, program.cfrp_d50_mm * rng.uniform(0.85, 1.15), cfrp_d90, cfrp_d90 * 1.4
        ),
        transition=draw_ramp(rng, min(rng.uniform(0.6, 0.9), 0.6 * d90), d90, d90 * 1.25),
        exit=draw_ramp(rng, rng.uniform(0.6, 0.9), rng.uniform(*program.exit_d10_mm), tail),
        drift=rng.uniform(0.0, 0.15),
        slope=rng.uniform(-0.3, 0.15),
        hump=rng.uniform(0.0, 0.15),
        sag=rng.uniform(0.0, 0.06),
        sag_mm=rng.uniform(0.3, 1.0),
    )


def draw_thrust(program: Program, rng: np.random.Generator) -> Force:
    """The thrust of one hole: sharper ramps, ahead of torque."""
    wear = rng.uniform()
    entry_d50, metal_d50 = rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.6)
    metal_d90, exit_d50 = metal_d50 * rng.uniform(1.5, 3.0), rng.uniform(0.5, 1.0)
    return Force(
        first_a=_worn(program.cfrp_thrust_a, wear),
        metal_a=_worn(program.metal_thrust_a, wear),
        lead_mm=(rng.uniform(0.08, 0.22), rng.uniform(0.08, 0.22), _exit_lead_mm(rng)),
        entry=draw_ramp(rng, entry_d50, entry_d50 * 1.8, entry_d50 * 2.5),
        transition=draw_ramp(rng, metal_d50, metal_d90, metal_d90 * 1.3),
        exit=draw_ramp(rng, exit_d50, exit_d50 * rng.uniform(1.6, 2.0), exit_d50 * 2.4),
        drift=rng.uniform(-0.4, 0.1),  # CFRP thrust sags with depth on the real machines
        slope=rng.uniform(-0.25, 0.1),
        hump=0.0,
    )


def _worn(level: Range, wear: float) -> float:
    """A level between its fresh and its worn value."""
    return level[0] + wear * (level[1] - level[0])


def _exit_lead_mm(rng: np.random.Generator) -> float:
    """Mostly 0.3-0.6 mm; in one hole in four the thrust sags earlier, as it does in titanium."""
    return rng.uniform(0.6, 1.2) if rng.uniform() < 0.25 else rng.uniform(0.3, 0.6)


def slow_noise(rng: np.random.Generator, n: int) -> Array:
    """Red noise (n,) at 100 Hz of about unit standard deviation, nearly all of it below 5 Hz."""
    time_s = np.arange(n) / 100
    total = np.zeros(n)
    for spacing, weight in zip(_KNOTS_S, _KNOT_WEIGHTS, strict=True):
        knots = rng.standard_normal(int(n / 100 / spacing) + 2)
        # Interpolating between knots loses a third of the variance: 1.22 gives it back.
        total += 1.22 * weight * np.interp(time_s / spacing, np.arange(len(knots)), knots)
    return total


def wander(rng: np.random.Generator, position_mm: Array, sd: float) -> Array:
    """How the no-load reading (n,) strays with depth, by `sd`: flat stretches, slopes and dents."""
    at = np.sort(rng.uniform(0, 40, 30))
    level = sd * rng.standard_normal(30) * (rng.uniform(size=30) < 0.5)
    return np.interp(position_mm, at, level)


def low_pass(signal: Array, time_constant_s: float) -> Array:
    """A causal first-order filter of (n,) samples at 100 Hz: it never moves an onset earlier."""
    taps = np.arange(max(1, int(500 * time_constant_s)))
    kernel = np.exp(-taps / (100 * time_constant_s))
    return np.convolve(signal, kernel / kernel.sum())[: len(signal)]


def quantise(signal: Array, quantum: float) -> Array:
    """The signal in the machine's own steps, as the gateway rounds them."""
    return np.round(np.round(signal / quantum) * quantum, 3)
