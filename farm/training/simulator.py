"""Simulated holes with exact ground truth, randomised around what real machines do and beyond.

The entry to the simulator. Behind it: the programs' numbers (`programs`), the materials (`stack`),
what the motors feel of them (`profile`), the course of the steps (`course`), what goes wrong
(`faults`) and what a machine reports (`readings`). Everything is drawn for a whole batch at once:
thousands of holes a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from farm.drilling.hole import Hole, Step
from farm.training.course import Course, drill
from farm.training.draws import MAX_STEPS, Array, Draws, Index
from farm.training.faults import Faults, draw_faults
from farm.training.programs import FAMILIES, StopCode
from farm.training.readings import report
from farm.training.stack import draw_stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farm.drilling.hole import FloatArray
    from farm.models.traces import Traces

_RECORDED_PAST_MM = np.array([0.3, 0.4, 0.5])
"""How far the drill must go on past a keypoint before anybody could say that it is there."""


@dataclass(frozen=True, slots=True)
class SimulatedBatch:
    """Many holes at once, and the truth about them.

    Attributes:
        traces: their samples.
        family: (b,) index into `FAMILIES`.
        keypoints_mm: (b, 3) entry, transition and exit as torque onsets in mm of |position|; NaN
            where the hole has none.
        tip_mm: (b, 3) the same where thrust begins to rise or fall.
        unclear: (b, 3) whether it has one, but was recorded too briefly past it to tell.
        faults: what went wrong.
        course: how they were drilled.
        counts: (b, MAX_STEPS) samples of each step.
    """

    traces: Traces
    family: Index
    keypoints_mm: Array
    tip_mm: Array
    unclear: np.typing.NDArray[np.bool_]
    faults: Faults
    course: Course
    counts: Index


@dataclass(frozen=True, slots=True)
class SimulatedHole:
    """One hole, and the truth about it.

    Attributes:
        hole: the samples and the step report, as a gateway would deliver them.
        keypoints_mm: entry, transition and exit as torque onsets, in mm of |position|; None where
            the hole has none.
        program: the name of its family in `FAMILIES`.
        power_w: (n,) spindle power in watt.
    """

    hole: Hole
    keypoints_mm: tuple[float | None, float | None, float | None]
    program: str
    power_w: FloatArray


def simulate_batch(
    family: Sequence[int] | Index, rng: np.random.Generator, *, faults: float = 1.0,
    single_step: bool = False, thrust_leads: bool = True,
) -> SimulatedBatch:  # fmt: skip
    """Drill many holes.

    Args:
        family: (b,) index into `FAMILIES` of each hole's program.
        rng: the only source of randomness: equal generators give equal holes.
        faults: share of bad holes, against that of a bad day; 0 for none.
        single_step: run only the first step of each.
        thrust_leads: whether thrust is ahead of torque, as on real machines.
    """
    draws = Draws(rng, family)
    wrong = draw_faults(draws, strength=faults)
    if single_step:
        wrong.single_step[:] = True
    stack = draw_stack(draws)
    course = drill(draws, stack, wrong, thrust_leads=thrust_leads)
    traces, counts = report(draws, course, wrong)
    truth = np.stack((stack.entry_mm, stack.transition_mm, stack.exit_mm), 1)
    deepest = np.maximum.reduceat(traces.position_mm, traces.starts[:-1]).astype(np.float64)
    past = deepest[:, None] - truth
    exists = (past > _RECORDED_PAST_MM) & ~wrong.air[:, None]
    unclear = (past > 0) & ~exists & ~wrong.air[:, None]
    return SimulatedBatch(
        traces=traces,
        family=draws.family,
        keypoints_mm=np.where(exists, truth, np.nan),
        tip_mm=np.where(exists, course.profile.tip_mm, np.nan),
        unclear=unclear,
        faults=wrong,
        course=course,
        counts=counts,
    )


def simulate(
    program: str, rng: np.random.Generator, *, single_step: bool = False, faults: float = 0.0
) -> SimulatedHole:
    """Drill one hole.

    Args:
        program: a name in `FAMILIES`.
        rng: the only source of randomness.
        single_step: run the program's first step alone.
        faults: as for `simulate_batch`.

    Raises:
        KeyError: there is no such program.
    """
    family = {name: index for index, name in enumerate(FAMILIES)}[program]
    batch = simulate_batch([family], rng, faults=faults, single_step=single_step)
    return unpack(batch, rng)[0]


def unpack(batch: SimulatedBatch, rng: np.random.Generator) -> list[SimulatedHole]:
    """The holes of a batch one by one, with the machine's step report and a power trace."""
    draws = Draws(rng, batch.family)
    empties = draws.plans("torque_empty_a") * draws.rng.uniform(0.93, 1.07, batch.counts.shape)
    thrust = draws.plans("thrust_empty_a") * draws.rng.uniform(0.9, 1.1, batch.counts.shape)
    watts = draws.uniform(0.006, 0.013)
    names = tuple(FAMILIES)
    return [
        _hole(
            batch,
            row,
            names[batch.family[row]],
            draws,
            torque_empty=empties[row],
            thrust_empty=thrust[row],
            watts=watts[row],
        )
        for row in range(len(draws))
    ]


def _hole(
    batch: SimulatedBatch, row: int, name: str, draws: Draws, *,
    torque_empty: Array, thrust_empty: Array, watts: float,
) -> SimulatedHole:  # fmt: skip
    """One hole of a batch."""
    traces, counts = batch.traces, batch.counts[row]
    part = slice(*traces.starts[row : row + 2])
    rate_hz = float(traces.rate_hz[row])
    ran = np.flatnonzero(counts)
    plans = FAMILIES[name].steps
    cut = bool(batch.faults.abort[row])
    steps = tuple(
        Step(
            number=plans[s].number,
            stop_code=int(
                StopCode.ABORT if cut and s == ran[-1] else batch.course.stop_code[row, s]
            ),
            duration_s=round(counts[s] / rate_hz + 0.01, 2),
            torque_empty_a=round(float(torque_empty[s]), 3),
            thrust_empty_a=round(float(thrust_empty[s]), 3),
        )
        for s in ran
    )
    hole = Hole(
        position_mm=traces.position_mm[part],
        torque_a=traces.torque_a[part],
        thrust_a=traces.thrust_a[part],
        step_number=traces.step_number[part],
        steps=steps,
        sample_rate_hz=rate_hz,
    )
    of_sample = np.repeat(np.arange(MAX_STEPS), counts)
    rpm = draws.plans("rpm")[row][of_sample]
    power = watts * rpm * np.maximum(hole.torque_a + torque_empty[of_sample], 0)
    truth = tuple(None if np.isnan(k) else float(k) for k in batch.keypoints_mm[row])
    return SimulatedHole(hole, (truth[0], truth[1], truth[2]), name, np.round(power).astype("f4"))
