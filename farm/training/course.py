"""The course of a simulated hole: which step runs from where to where, and why it ends.

Owns what happens, free of noise; `farm.training.readings` turns it into what a machine reports.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from farm.training.forces import Array, Force, Stack, draw_thrust, draw_torque, low_pass, slow_noise
from farm.training.programs import FIRST_MM, METAL_MM, TOTAL_MM, Role, StopCode

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.training.programs import Program, Range, StepPlan

SAMPLE_RATE_HZ = 100.0

_FEWEST_SAMPLES = 4  # of a step: enough for the samples held at the end
_CONTACT_A = 0.3  # the approach step ends at this torque
_START_MM: Range = (0.55, 0.93)
_STROKE_AFTER_SHARE = 0.2  # of first steps that end on stroke, those that reach into the metal
_STROKE_SHORT_SHARE = 0.1  # and those far too short, as when the stack is thicker than planned
_RESTART_S: Range = (0.03, 0.1)  # from the old depth to the first torque after a step change
_CURRENT_LAG_S: Range = (0.01, 0.035)  # the drive's current filter


@dataclass(slots=True)
class Course:
    """A hole while it is being drilled: what it will meet, and what has been recorded so far."""

    program: Program
    rng: np.random.Generator
    stack: Stack
    torque: Force
    thrust: Force
    speed: float  # feed and rpm against the programmed ones
    lag_s: float
    first_stop: StopCode
    first_end_mm: float
    reached_mm: float
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Part:
    """The samples of one step, noise-free: all arrays (n,)."""

    plan: StepPlan
    stop: StopCode
    position_mm: Array
    first_a: Array
    metal_a: Array
    thrust_a: Array


def drill(program: Program, rng: np.random.Generator) -> Course:
    """Run all steps of a program on a stack drawn for it."""
    run = _draw_course(program, rng)
    for plan in program.steps:
        run.parts.append(_step(run, plan, last=plan is program.steps[-1]))
        run.reached_mm = max(run.reached_mm, float(run.parts[-1].position_mm.max()))
    return run


def _draw_course(program: Program, rng: np.random.Generator) -> Course:
    """Everything about a hole that is decided before it starts."""
    stack = _draw_stack(program, rng)
    on_stroke = rng.uniform() < program.stroke_share
    return Course(
        program=program,
        rng=rng,
        stack=stack,
        torque=draw_torque(program, rng),
        thrust=draw_thrust(program, rng),
        speed=rng.uniform(*program.speed),
        lag_s=rng.uniform(*_CURRENT_LAG_S),
        first_stop=StopCode.STROKE if on_stroke else StopCode.TORQUE_MAX,
        first_end_mm=_first_end_mm(program, stack, rng) if on_stroke else stack.exit_mm,
        reached_mm=rng.uniform(*_START_MM),
    )


def _draw_stack(program: Program, rng: np.random.Generator) -> Stack:
    """Thicknesses within the domain's limits, alone and in sum."""
    entry = rng.uniform(*program.entry_mm)
    if program.cfrp_a is None:
        return Stack(entry, None, entry + rng.uniform(*METAL_MM))
    first = rng.uniform(*FIRST_MM)
    low = max(METAL_MM[0], TOTAL_MM[0] - first)
    metal = rng.uniform(low, max(low, min(METAL_MM[1], TOTAL_MM[1] - first)))
    return Stack(entry, entry + first, entry + first + metal)


def _first_end_mm(program: Program, stack: Stack, rng: np.random.Generator) -> float:
    """Where a first step that ends on stroke does so: short of the metal, or inside it.

    A stroke says nothing of material: where it falls short, the transition lies in the next step.
    """
    if stack.transition_mm is None:
        return rng.uniform(stack.entry_mm + 1.0, stack.entry_mm + 3.5)
    draw = rng.uniform()
    if draw < _STROKE_AFTER_SHARE:
        return stack.transition_mm + rng.uniform(0.3, 2.0)
    short = rng.uniform(*program.stroke_before_mm)
    if draw > 1 - _STROKE_SHORT_SHARE:
        short = rng.uniform(1.5, 9.0)
    return max(stack.transition_mm - short, stack.entry_mm + 1.5)


def _step(run: Course, plan: StepPlan, *, last: bool) -> Part:
    """One step: advance to the farthest it may go, then cut where the machine would stop."""
    position = _advance(run, plan, _farthest_mm(run, plan, last=last))
    gain_torque, gain_thrust = _engagement(run, plan, position)
    first = low_pass(gain_torque * run.torque.first_at(position, run.stack), run.lag_s)
    metal = low_pass(gain_torque * run.torque.metal_at(position, run.stack), run.lag_s)
    thrust = gain_thrust * (
        run.thrust.first_at(position, run.stack) + run.thrust.metal_at(position, run.stack)
    )
    end, stop = _stop(run, plan, first + metal, position, last=last)
    return Part(plan, stop, position[:end], first[:end], metal[:end], thrust[:end])


def _farthest_mm(run: Course, plan: StepPlan, *, last: bool) -> float:
    """How deep a step may go if nothing stops it earlier."""
    if plan.role is Role.FIRST and not last:
        return run.first_end_mm
    # Some programs end right after the drill is through, others run on to a fixed stop.
    beyond = run.stack.exit_mm + run.rng.uniform(1.0, 4.0)
    if last:
        return max(run.program.end_mm * run.rng.uniform(0.97, 1.03), beyond, run.reached_mm + 1)
    return run.stack.exit_mm + 5.0


def _advance(run: Course, plan: StepPlan, end_mm: float) -> Array:
    """|position| (n,) of a step that feeds to `end_mm`, after the pull-back of a step change."""
    start = run.reached_mm
    if run.parts:
        start -= run.rng.uniform(*run.program.backoff_mm)
    feed = plan.feed_mm_s * run.speed
    count = int(1.1 * (end_mm - start) / feed * SAMPLE_RATE_HZ) + _FEWEST_SAMPLES
    uneven = 1 + 0.01 * slow_noise(run.rng, count)
    position = start + np.cumsum(feed / SAMPLE_RATE_HZ * np.maximum(uneven, 0.2))
    # Never past the end: a stroke that ends short of the metal must not touch it.
    return position[: max(_FEWEST_SAMPLES, int((position <= end_mm).sum()))]


def _engagement(run: Course, plan: StepPlan, position: Array) -> tuple[Array, Array]:
    """How far (n,) torque and thrust are back after a step change: a plateau at 0, a ramp to 1.

    No torque can rise while the drive restarts: a transition that falls into that plateau is moved
    to its end, where the torque's onset is.
    """
    if not run.parts:
        return np.ones_like(position), np.ones_like(position)
    rng = run.rng
    restart_mm = plan.feed_mm_s * run.speed * rng.uniform(*_RESTART_S)
    resume = run.reached_mm + restart_mm + rng.uniform(-0.03, 0.05)
    transition = run.stack.transition_mm
    if transition is not None and run.reached_mm <= transition < resume:
        run.stack = replace(run.stack, transition_mm=resume)
    width, thrust_width = rng.uniform(0.15, 0.4), rng.uniform(0.1, 0.3)
    lead = rng.uniform(0.0, 0.08)
    return (
        np.clip((position - resume) / width, 0, 1),
        np.clip((position - resume + lead) / thrust_width, 0, 1),
    )


def _stop(
    run: Course, plan: StepPlan, torque: Array, position: Array, *, last: bool
) -> tuple[int, StopCode]:
    """The sample count at which the machine ends the step, and the code it gives."""
    if plan.role is Role.APPROACH:
        return _first_true(torque >= _CONTACT_A), StopCode.TORQUE_MAX
    if plan.role is Role.FIRST and not last:
        if run.first_stop is StopCode.TORQUE_MAX:
            limit = run.program.torque_max_a * run.rng.uniform(0.95, 1.05)
            return _first_true(torque >= limit), run.first_stop
        return len(position), run.first_stop
    if last:
        on_stroke = plan.role is Role.METAL and run.rng.uniform() < 0.5
        return len(position), StopCode.STROKE if on_stroke else StopCode.THRUST_LIMIT
    limit = run.program.torque_min_a * run.rng.uniform(0.6, 1.5)
    through = (torque < limit) & (position > run.stack.exit_mm)
    gap = run.rng.choice([0.0, 2.0, 2.0]) * run.rng.uniform(0.9, 1.1)
    end = position[_first_true(through) - 1] + gap
    return _first_true(position >= end), StopCode.TORQUE_MIN


def _first_true(condition: NDArray[np.bool_]) -> int:
    """How many samples there are up to and with the first true one; all when none is."""
    return int(condition.argmax()) + 1 if condition.any() else len(condition)
