"""Torque and thrust of b holes as functions of the tip's position, free of noise. Knows no steps.

Each layer rises by a ramp (`farm.training.ramps`) as the drill's point goes in and falls by another
as it leaves; in between it has a level that changes slowly with depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.training.ramps import (
    STEP_MM,
    Curves,
    Ramp,
    draw_ramp,
    exit_ramp,
    first_ramp,
    metal_ramp,
    rise,
    touch_ramp,
)  # fmt: skip
from farm.training.stack import FIRST, LAYERS, Stack

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.training.draws import Array, Draws, Mask

_STAGED_SHARE = 0.07  # of holes whose torque falls in two stages

COLUMNS = 6
TORQUE_FIRST, TORQUE_METAL, TORQUE_IDLE, THRUST_FIRST, THRUST_METAL, THRUST_IDLE = range(COLUMNS)


@dataclass(slots=True)
class _Loads:
    """How one channel feels the layers.

    Attributes:
        entry: ramp into the first material.
        deeper: ramp from one layer into the next.
        leave: ramp out of the last.
        lead_mm: (b, 3) how much earlier than the keypoints it feels entry, transition and exit.
    """

    entry: Ramp
    deeper: Ramp
    leave: Ramp
    lead_mm: Array


@dataclass(slots=True)
class Profile:
    """What the motors feel.

    Attributes:
        curves: (b, points, COLUMNS) in ampere, at multiples of STEP_MM.
        tip_mm: (b, 3) where thrust begins to rise or, at the exit, to fall; NaN where it can't.
    """

    curves: Curves
    tip_mm: Array


def draw_profile(
    draws: Draws, stack: Stack, end_mm: Array, *, drills: Array, thrust_leads: bool = True
) -> Profile:
    """Profiles up to the deepest end.

    Args:
        draws: the batch's randomness.
        stack: its layers.
        end_mm: (b,) how deep each hole can get.
        drills: (b,) 1, or 0 where the drill meets nothing at all.
        thrust_leads: whether thrust is ahead of torque, as on real machines.
    """
    points = int(end_mm.max() / STEP_MM) + 3
    curves = np.zeros((len(draws), points, COLUMNS), np.float32)
    at = np.arange(points, dtype=np.float32) * np.float32(STEP_MM)
    staged = draws.happens(_STAGED_SHARE)
    no_lead = np.zeros((len(draws), 3))
    torque = _Loads(first_ramp(draws), metal_ramp(draws), exit_ramp(draws, staged), no_lead)
    _add_torque(draws, stack, at, curves, loads=torque, staged=staged)
    touch = thrust_leads & draws.happens(draws.given("touch_share"))
    lead = thrust_leads * _draw_lead(draws, stack, torque, staged=staged, touch=touch)
    tip = _add_thrust(draws, stack, at, curves, lead_mm=lead, touch=touch)
    curves *= drills[:, None, None]
    _add_idle(draws, stack, at, curves)
    return Profile(curves, tip)


def _add_torque(
    draws: Draws, stack: Stack, at: Curves, curves: Curves, *, loads: _Loads, staged: Mask
) -> None:
    """The torque of all layers."""
    left = _sag(draws, stack, at, staged=staged, steepest=0.5 / loads.leave.depth_mm[:, 2])
    for layer in range(LAYERS):
        slope = (-0.05, 0.25) if layer == FIRST else (-0.3, 0.15)
        level = _level(
            stack, at, layer, slope=draws.uniform(*slope), hump=draws.uniform(-0.05, 0.15)
        )
        level *= stack.torque_a[:, layer, None].astype(np.float32)
        level *= _load(stack, at, layer, loads)
        is_last = stack.end_mm[:, layer] >= stack.exit_mm - 1e-9
        level *= np.where(is_last[:, None], left, np.float32(1))
        curves[:, :, TORQUE_FIRST if layer == FIRST else TORQUE_METAL] += level


def _add_thrust(
    draws: Draws, stack: Stack, at: Curves, curves: Curves, *, lead_mm: Array, touch: Mask
) -> Array:
    """The thrust of all layers, ahead of torque; returns the tip's keypoints (b, 3)."""
    d50, out = draws.uniform(0.2, 0.7), draws.uniform(0.45, 1.0)
    loads = _Loads(
        touch_ramp(draws, touch, lead_mm[:, 0]),
        draw_ramp(draws, d50, d50 * draws.uniform(1.5, 3.5), draws.uniform(0.02, 0.3)),
        draw_ramp(draws, out, out * draws.uniform(1.5, 2.1), draws.uniform(0.05, 0.5)),
        lead_mm,
    )
    for layer in range(LAYERS):
        slope = (-0.5, 0.2) if layer == FIRST else (-0.35, 0.15)
        level = _level(stack, at, layer, slope=draws.uniform(*slope), hump=np.zeros(len(draws)))
        level *= stack.thrust_a[:, layer, None].astype(np.float32)
        level *= _load(stack, at, layer, loads)
        curves[:, :, THRUST_FIRST if layer == FIRST else THRUST_METAL] += level
    # A weak touch is felt in torque too, as a few quanta that rise no further.
    touched = np.where(touch & draws.happens(0.6), draws.uniform(0.02, 0.09), 0.0)
    soon = stack.entry_mm - lead_mm[:, 0] * draws.uniform(0.5, 1.1)
    curves[:, :, TORQUE_FIRST] += _smooth(at - soon[:, None], 0.08) * touched[:, None]
    keypoints = np.stack((stack.entry_mm, stack.transition_mm, stack.exit_mm), 1)
    return np.asarray(keypoints - lead_mm)


def _draw_lead(draws: Draws, stack: Stack, torque: _Loads, *, staged: Mask, touch: Mask) -> Array:
    """(b, 3) by how much thrust is ahead of torque at entry, transition and exit.

    Thrust changes as the tip comes and goes; torque, which grows with the radius that cuts, begins
    to bend then and has its hinge about a foot's radius later.
    """
    first = np.where(stack.present[:, FIRST], torque.entry.foot_mm, torque.deeper.foot_mm)
    feet = np.stack((first, torque.deeper.foot_mm, torque.leave.foot_mm), 1)
    lead = feet * draws.uniform(0.55, 1.0, 3) + draws.uniform(0.0, 0.12, 3)
    # A tip that touches weakly waits for the cut to begin.
    lead[:, 0] = np.where(touch, draws.uniform(0.2, 0.65), lead[:, 0])
    # In one hole of ten, and where torque falls in two stages, thrust sags well before the exit.
    sags = staged | draws.happens(0.1)
    lead[:, 2] = np.where(sags, draws.uniform(0.5, 1.2), lead[:, 2])
    return lead


def _load(stack: Stack, at: Curves, layer: int, loads: _Loads) -> Curves:
    """(b, points) how far one layer loads the drill, 0 to 1."""
    present = stack.present[:, layer]
    start, end, lead = stack.start_mm[:, layer], stack.end_mm[:, layer], loads.lead_mm
    start = start - np.where(start <= stack.entry_mm, lead[:, 0], lead[:, 1])
    is_last = end >= stack.exit_mm - 1e-9
    share = np.zeros((len(present), at.size), np.float32)
    rows = np.flatnonzero(present)
    into = loads.entry if layer == FIRST else loads.deeper
    share[rows] = rise(into.of(rows), start[rows], at)
    last = np.flatnonzero(present & is_last)
    share[last] *= 1 - rise(loads.leave.of(last), (end - lead[:, 2])[last], at)
    inner = np.flatnonzero(present & ~is_last)
    share[inner] *= 1 - rise(loads.deeper.of(inner), (end - lead[:, 1])[inner], at)
    return share


def _level(stack: Stack, at: Curves, layer: int, *, slope: Array, hump: Array) -> Curves:
    """(b, points) around 1: how a layer's plateau changes with depth, by a slope and a hump."""
    start, end = stack.start_mm[:, layer, None], stack.end_mm[:, layer, None]
    scale = (1 / np.maximum(end - start, 0.5)).astype(np.float32)
    along = np.clip((at - start.astype(np.float32)) * scale, 0, 1)
    shape = slope.astype(np.float32)[:, None] * along
    shape += (4 * hump.astype(np.float32))[:, None] * along * (1 - along)
    shape += 1
    return np.asarray(shape, np.float32)


def _sag(draws: Draws, stack: Stack, at: Curves, *, staged: Mask, steepest: Array) -> Curves:
    """(b, points) what is left of the torque as the last skin gives way, just before the exit.

    Where the fall is staged, this is its first stage, which is less steep than the fall itself:
    `steepest` (b,) is that one's slope, as a share per mm.
    """
    length = np.where(staged, draws.uniform(0.3, 1.0), draws.uniform(0.3, 1.2))
    slope = np.where(staged, draws.uniform(0.15, 0.5) * steepest, draws.uniform(0.0, 0.07))
    begin = (stack.exit_mm - length)[:, None].astype(np.float32)
    towards = (at - begin) * (1 / length)[:, None].astype(np.float32)
    lost = (length * slope)[:, None].astype(np.float32)
    return np.asarray(1 - lost * np.clip(towards, 0, 1), np.float32)


def _add_idle(draws: Draws, stack: Stack, at: Curves, curves: Curves) -> None:
    """What the motors read without load: jumps before the entry, a drop after the exit, wander."""
    b = len(draws)
    jumps = np.zeros((b, at.size), np.float32)
    for _ in range(2):
        where = 0.6 + draws.uniform(0, 1) * np.maximum(stack.entry_mm + 1.0, 1.0)
        size = np.where(draws.happens(0.35), 0.05 * draws.rng.integers(-3, 4, b), 0.0)
        jumps += _smooth(at - where[:, None], 0.04) * size[:, None].astype(np.float32)
    sunk = np.minimum(1.5, draws.uniform(0.0, 0.03) * stack.torque_a.max(1) + 0.05)
    after = (at - (stack.exit_mm + 1.0)[:, None]) / draws.uniform(0.5, 5.0)[:, None]
    curves[:, :, TORQUE_IDLE] = jumps - sunk[:, None] * np.clip(after, 0, 1)
    for column, sd in ((TORQUE_IDLE, 0.05), (THRUST_IDLE, 0.008)):
        knots = draws.rng.standard_normal((b, 24)) * draws.uniform(0, sd, 1)
        # Half of the knots equal the one before: flat stretches between slopes and dents.
        knots[:, 1:] = np.where(draws.rng.random((b, 23)) < 0.5, knots[:, :-1], knots[:, 1:])
        curves[:, :, column] += _between(knots, at / 2.0)
    touched = (at - (stack.entry_mm - 1)[:, None]) > 0
    offset = draws.uniform(-0.04, 0.012)
    curves[:, :, THRUST_IDLE] += np.where(touched, 0, offset[:, None] * draws.happens(0.6)[:, None])


def _between(knots: Array, at: Curves) -> Curves:
    """(b, points) linear between knots (b, k), the knots at 0, 1, 2 … of `at`."""
    index = np.minimum(at.astype(np.intp), knots.shape[1] - 2)
    weight = np.clip(at - index, 0, 1)
    flat = knots.astype(np.float32)
    return np.asarray(flat[:, index] * (1 - weight) + flat[:, index + 1] * weight)


def _smooth(x: NDArray[np.floating], width: float) -> Curves:
    """A step from 0 to 1 over `width` around zero."""
    return np.asarray(np.clip(x / width + 0.5, 0, 1), np.float32)
