"""What goes wrong while drilling or recording: a share of the simulated holes are bad ones."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from farm.training.draws import Array, Draws, Mask

_SHARES = {
    "air": 0.02,
    "abort": 0.05,
    "single_step": 0.02,
    "missed_exit": 0.025,
    "dead_thrust": 0.05,
    "dead_torque": 0.005,
    "stuck_torque": 0.005,
    "stuck_thrust": 0.01,
    "spikes": 0.05,
    "lost_steps": 0.06,
    "other_rate": 0.06,
}


@dataclass(slots=True)
class Faults:
    """Which of b holes suffer from what; masks (b,).

    Attributes:
        air: the drill meets nothing.
        abort: drilling and recording end anywhere.
        single_step: only the first step was run.
        missed_exit: the program ends inside the last material.
        dead_thrust: thrust reads nothing at all.
        dead_torque: torque reads nothing at all.
        stuck_torque: torque holds its value from some moment on.
        stuck_thrust: thrust does.
        spikes: single samples are far off.
        lost_steps: the samples' step numbers say nothing.
        other_rate: samples come at 50 or 200 Hz, or anything between.
    """

    air: Mask
    abort: Mask
    single_step: Mask
    missed_exit: Mask
    dead_thrust: Mask
    dead_torque: Mask
    stuck_torque: Mask
    stuck_thrust: Mask
    spikes: Mask
    lost_steps: Mask
    other_rate: Mask

    def rate_hz(self, draws: Draws) -> Array:
        """(b,) samples per second."""
        other = np.where(
            draws.happens(0.6), draws.rng.choice([50.0, 200.0], len(draws)), draws.uniform(45, 210)
        )
        return np.where(self.other_rate, other, 100.0)


def draw_faults(draws: Draws, *, strength: float = 1.0) -> Faults:
    """Faults at the shares of a bad day, times `strength`; none at 0."""
    return Faults(**{f.name: draws.happens(strength * _SHARES[f.name]) for f in fields(Faults)})
