"""How torque and thrust rise and fall as the drill's point goes into a layer and out of it.

A ramp is a chain of straight pieces whose corners are rounded: over a corner's radius it is the
parabola that a moving average would make of it, so that rounding never moves a hinge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from farm.training.draws import Array, Draws, Mask

Curves = NDArray[np.float32]

STEP_MM = 0.03
"""Between two points of a curve; the finest ramp's foot is as wide."""

_WINDOW = 230  # points around an onset in which a ramp may be neither 0 nor 1: 6.9 mm
_BEFORE = 40  # of them before the onset: 1.2 mm, more than the widest foot


@dataclass(slots=True)
class Ramp:
    """A rise from 0 to 1, starting at its hinge.

    Attributes:
        depth_mm: (b, k) corners, the first at 0, rising.
        share: (b, k) reached there; the last is 1.
        foot_mm: (b,) radius of the first corner.
    """

    depth_mm: Array
    share: Array
    foot_mm: Array

    def of(self, rows: NDArray[np.intp]) -> Ramp:
        """The ramps of these holes."""
        return Ramp(self.depth_mm[rows], self.share[rows], self.foot_mm[rows])


def draw_ramp(draws: Draws, d50: Array, d90: Array, foot: Array) -> Ramp:
    """A ramp through 50 % and 90 %, bent a little in between."""
    d90 = np.maximum(d90, 1.25 * d50)
    full = d90 + (d90 - d50) * draws.uniform(0.25, 0.9)
    depth = np.stack((0 * d50, 0.5 * d50, d50, 0.5 * (d50 + d90), d90, full), 1)
    low, high = draws.uniform(0.21, 0.29), draws.uniform(0.66, 0.78)
    one = np.ones(len(draws))
    return Ramp(depth, np.stack((0 * one, low, 0.5 * one, high, 0.9 * one, one), 1), foot)


def first_ramp(draws: Draws) -> Ramp:
    """Torque's rise in the first material."""
    return draw_ramp(
        draws, draws.of("cfrp_d50_mm"), draws.of("cfrp_d90_mm"), draws.of("entry_foot_mm")
    )


def metal_ramp(draws: Draws) -> Ramp:
    """Torque's rise in the metal."""
    return draw_ramp(
        draws, draws.of("metal_d50_mm"), draws.of("metal_d90_mm"), draws.of("metal_foot_mm")
    )


def exit_ramp(draws: Draws, staged: Mask) -> Ramp:
    """The fall after the exit: straight to half, then to a tail that may last.

    Where the fall is the second stage of two, its begin is sharper.
    """
    d50, held = draws.of("exit_d50_mm"), draws.of("exit_tail_share")
    d10 = np.maximum(draws.of("exit_d10_mm"), 1.4 * d50)
    # Where the tail holds much, the steep fall ends before d10.
    knee = d50 + (d10 - d50) * (0.5 - held) / 0.4
    tail = np.maximum(draws.of("exit_tail_mm"), knee + 0.1)
    depth = np.stack((0 * d50, 0.5 * d50, d50, 0.5 * (d50 + knee), knee, tail), 1)
    low, bend = draws.uniform(0.235, 0.275), draws.uniform(0.45, 0.55)
    one = np.ones(len(draws))
    share = np.stack((0 * one, low, 0.5 * one, 0.5 + bend * (0.5 - held), 1 - held, one), 1)
    foot = draws.of("exit_foot_mm")
    return Ramp(depth, share, np.where(staged, 0.4 * foot, foot))


def touch_ramp(draws: Draws, touch: Mask, lead: Array) -> Ramp:
    """Thrust at the entry: a plain ramp, or a weak touch first that waits for the cut."""
    d50 = draws.uniform(0.2, 0.7)
    plain = draw_ramp(draws, d50, d50 * draws.uniform(1.4, 2.6), draws.uniform(0.02, 0.15))
    held, cut = draws.uniform(0.15, 0.6), lead + draws.uniform(0.0, 0.8)
    full = cut + draws.uniform(0.25, 1.2)
    depth = np.stack((0 * cut, 0 * cut + 0.1, cut, 0.5 * (cut + full), full, full + 0.4), 1)
    one = np.ones(len(draws))
    share = np.stack((0 * one, held, held + 0.03, 0.5 * (held + 0.95), 0.95 * one, one), 1)
    chosen = touch[:, None]
    return Ramp(
        np.where(chosen, depth, plain.depth_mm),
        np.where(chosen, share, plain.share),
        np.where(touch, 0.03, plain.foot_mm),
    )


def rise(ramp: Ramp, onset_mm: Array, at: Curves) -> Curves:
    """(b, points) of a ramp whose hinge is at `onset_mm` (b,)."""
    full = (at > onset_mm[:, None].astype(np.float32)).astype(np.float32)
    first = np.floor(onset_mm / STEP_MM).astype(np.intp) - _BEFORE
    index = np.clip(first[:, None] + np.arange(_WINDOW), 0, at.size - 1)
    x = at[index] - onset_mm[:, None].astype(np.float32)
    slopes = np.diff(ramp.share, axis=1) / np.maximum(np.diff(ramp.depth_mm, axis=1), 1e-3)
    turns = np.diff(slopes, axis=1, prepend=0.0, append=0.0).astype(np.float32)
    depth = ramp.depth_mm.astype(np.float32)
    # Inner corners are rounded as far as their neighbours leave room.
    room = 0.45 * np.diff(ramp.depth_mm, axis=1)
    inner = np.minimum(np.minimum(room, 0.2), np.roll(room, 1, axis=1))
    radii = np.concatenate((ramp.foot_mm[:, None], inner[:, 1:], room[:, -1:]), 1)
    radii = np.maximum(radii, 0.01).astype(np.float32)
    total = np.zeros_like(x)
    for k in range(depth.shape[1]):
        total += turns[:, k, None] * _hinge(x - depth[:, k, None], radii[:, k, None])
    np.put_along_axis(full, index, np.clip(total, 0, 1.02), axis=1)
    return full


def _hinge(x: Curves, radius: Curves) -> Curves:
    """0 before zero, x after it, and between -radius and radius the parabola that joins them."""
    inside = np.clip(x + radius, 0, 2 * radius)
    return np.asarray(inside * inside / (4 * radius) + np.maximum(x - radius, 0), np.float32)
