"""Simulated holes with exact ground truth, randomised around what real machines do.

The entry to the simulator. Behind it: the programs' numbers (`programs`), the shapes of torque and
thrust (`forces`), the course of the steps (`course`) and what a machine reports of it (`readings`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from farm.training.course import drill
from farm.training.programs import PROGRAMS, Role
from farm.training.readings import report

if TYPE_CHECKING:
    import numpy as np

    from farm.drilling.hole import FloatArray, Hole


@dataclass(frozen=True, slots=True)
class SimulatedHole:
    """One hole, and the truth about it.

    Attributes:
        hole: the samples and the step report, as a gateway would deliver them.
        keypoints_mm: entry, transition and exit as torque onsets, in mm of |position|;
            where the noise-free torque starts to rise or, at the exit, to fall. The transition is
            None where the stack is one material.
        program: the name of its family in `PROGRAMS`.
        power_w: (n,) spindle power in watt.
    """

    hole: Hole
    keypoints_mm: tuple[float, float | None, float]
    program: str
    power_w: FloatArray


def simulate(program: str, rng: np.random.Generator, *, single_step: bool = False) -> SimulatedHole:
    """Drill one hole.

    Args:
        program: a name in `PROGRAMS`.
        rng: the only source of randomness: equal generators give equal holes.
        single_step: run the program's first cutting step alone, through one material.

    Returns:
        The hole with its truth.

    Raises:
        KeyError: there is no such program.
    """
    spec = PROGRAMS[program]
    if single_step:
        first = next(plan for plan in spec.steps if plan.role is Role.FIRST)
        spec = replace(spec, cfrp_a=None, end_mm=0.0, steps=(replace(first, role=Role.METAL),))
    run = drill(spec, rng)
    hole, power_w = report(run)
    truth = (run.stack.entry_mm, run.stack.transition_mm, run.stack.exit_mm)
    return SimulatedHole(hole, truth, program, power_w)
