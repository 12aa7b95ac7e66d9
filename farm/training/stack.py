"""The stacks of materials that are drilled: which layers, where, and how hard. The exact truth.

A keypoint is where a torque ramp's hinge lies: the point from which the ramp, were its foot not
rounded, would rise (or fall) in a straight line. That is what a piecewise-linear fit of a recorded
torque finds, whatever the foot's radius.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from farm.training.draws import Array, Draws, Mask

LAYERS = 3
FIRST, METAL, THIRD = range(LAYERS)


@dataclass(slots=True)
class Stack:
    """The layers of b holes; a layer that is absent has zero thickness.

    Attributes:
        present: (b, LAYERS) which there are: first material, metal, another metal.
        start_mm: (b, LAYERS) torque onsets, in mm of |position|.
        end_mm: (b, LAYERS) where the tip leaves them.
        torque_a: (b, LAYERS) plateau currents.
        thrust_a: (b, LAYERS) the same of the thrust motor.
    """

    present: Mask
    start_mm: Array
    end_mm: Array
    torque_a: Array
    thrust_a: Array

    @property
    def entry_mm(self) -> Array:
        """(b,) where the first layer starts."""
        return np.asarray(np.where(self.present, self.start_mm, np.inf).min(1))

    @property
    def transition_mm(self) -> Array:
        """(b,) where the metal under the first material starts; NaN where there is no such pair."""
        both = self.present[:, FIRST] & self.present[:, METAL]
        return np.where(both, self.start_mm[:, METAL], np.nan)

    @property
    def exit_mm(self) -> Array:
        """(b,) where the last layer ends."""
        return np.asarray(np.where(self.present, self.end_mm, -np.inf).max(1))


def draw_stack(draws: Draws) -> Stack:
    """Thicknesses, gaps and levels of a batch."""
    present = _layers(draws)
    thickness = np.stack((draws.of("first_mm"), draws.of("metal_mm"), draws.uniform(1.5, 8.0)), 1)
    thickness *= present
    gap = draws.uniform(0.0, 1.2, LAYERS) * draws.happens(draws.given("gap_share"))[:, None]
    gap[:, 0] = 0
    # A gap lies between two layers: before the first that is present there is none.
    gap *= present & (np.cumsum(present, 1) > 1)
    end = draws.of("entry_mm")[:, None] + np.cumsum(thickness + gap, 1)
    return Stack(present, end - thickness, end, *_levels(draws, present))


def _layers(draws: Draws) -> Mask:
    """(b, LAYERS) which layers there are: mostly two, sometimes one or three."""
    present = np.zeros((len(draws), LAYERS), bool)
    present[:, :2] = True
    single = draws.happens(draws.given("single_share"))
    # Families that drill only metal have it alone; the others lose either layer.
    only_metal = draws.happens(np.where(draws.given("single_share") == 1, 1.0, 0.5))
    present[single & only_metal, FIRST] = False
    present[single & ~only_metal, METAL] = False
    present[:, THIRD] = ~single & draws.happens(draws.given("third_share"))
    return present


def _levels(draws: Draws, present: Mask) -> tuple[Array, Array]:
    """(b, LAYERS) of torque and thrust: within the family's wear, spread by each motor's gain."""
    cfrp, metal = draws.of("cfrp_a"), draws.of("metal_a")
    both = present[:, FIRST] & present[:, METAL]
    # A metal that is softer than the first material has no torque onset to be found.
    metal = np.where(both, np.maximum(metal, 1.6 * cfrp), metal)
    third = draws.uniform(0.15, 0.9)
    torque = np.stack((cfrp, metal, third * metal), 1)
    thrust_metal = draws.of("metal_thrust_a")
    thrust = np.stack((draws.of("cfrp_thrust_a"), thrust_metal, third * thrust_metal), 1)
    gain, thrust_gain = draws.spread(0.08)[:, None], draws.spread(0.1)[:, None]
    return torque * gain, thrust * thrust_gain
