"""What a machine reports of a simulated hole: noise, quanta, held samples and the step report.

Owns everything between the noise-free course (`farm.training.course`) and a `Hole`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from farm.drilling.hole import Hole, Step
from farm.training.course import SAMPLE_RATE_HZ
from farm.training.forces import Array, quantise, slow_noise, wander
from farm.training.programs import Role, StopCode

if TYPE_CHECKING:
    from farm.drilling.hole import FloatArray
    from farm.training.course import Course, Part

TORQUE_QUANTUM_A = 0.0488
THRUST_QUANTUM_A = 0.0117
POSITION_QUANTUM_MM = 0.0038

_AIR_TORQUE_SD_A = 0.024
_AIR_THRUST_SD_A = 0.005
_PECKS_PER_TURN = 1.5


def report(run: Course) -> tuple[Hole, FloatArray]:
    """The hole as a gateway would deliver it, and its power trace (n,) in watt."""
    position = np.concatenate([part.position_mm for part in run.parts])
    numbers = np.concatenate([np.full(len(p.position_mm), p.plan.number) for p in run.parts])
    torque, thrust = _noisy(run, position)
    hold = int(run.rng.integers(2, 4))
    for signal in (position, torque, thrust):
        signal[-hold:] = signal[-hold - 1]
    steps = tuple(_step_report(run, part) for part in run.parts)
    hole = Hole(
        position_mm=quantise(position, POSITION_QUANTUM_MM).astype(np.float32),
        torque_a=quantise(torque, TORQUE_QUANTUM_A).astype(np.float32),
        thrust_a=quantise(thrust, THRUST_QUANTUM_A).astype(np.float32),
        step_number=numbers.astype(np.int16),
        steps=steps,
        sample_rate_hz=SAMPLE_RATE_HZ,
    )
    return hole, _power_w(run, torque, steps)


def _noisy(run: Course, position: Array) -> tuple[Array, Array]:
    """Torque and thrust (n,) as measured: noise grows with the load and moves no onset."""
    rng, n = run.rng, len(position)
    first = np.concatenate([part.first_a for part in run.parts])
    metal = np.concatenate([part.metal_a for part in run.parts])
    thrust = np.concatenate([part.thrust_a for part in run.parts])
    red = rng.uniform(0.01, 0.05) * first + rng.uniform(*run.program.metal_noise) * metal
    white = 10 ** rng.uniform(-3.0, -1.8) * metal
    torque = first + metal + red * slow_noise(rng, n) + white * rng.standard_normal(n)
    thrust *= 1 + rng.uniform(0.01, 0.06) * slow_noise(rng, n)
    thrust += rng.uniform(0.003, 0.03) * thrust * rng.standard_normal(n)
    if run.program.peck:
        _peck(run, torque, thrust, metal)
    torque += _idle(run, position) + _AIR_TORQUE_SD_A * rng.standard_normal(n)
    thrust += rng.uniform(-0.04, 0.015) + wander(rng, position, rng.uniform(0, 0.015))
    thrust += _AIR_THRUST_SD_A * rng.standard_normal(n)
    _end_stop(run, position, torque, thrust)
    return torque, thrust


def _peck(run: Course, torque: Array, thrust: Array, metal: Array) -> None:
    """Add the micropeck's vibration: 1.5 strokes a turn, weak lines at a third and two thirds."""
    rng = run.rng
    plan = next(p for p in run.program.steps if p.role is Role.METAL)
    pecks_hz = _PECKS_PER_TURN * plan.rpm * run.speed / 60
    time_s = np.arange(len(torque)) / SAMPLE_RATE_HZ
    share = np.clip(metal / run.torque.metal_a, 0, 1.2)
    # The first step runs without the micropeck.
    share[: len(run.parts[0].position_mm)] = 0
    for part, strength in ((1.0, 1.0), (1 / 3, 0.08), (2 / 3, 0.08)):
        turn = 2 * np.pi * pecks_hz * part * time_s + rng.uniform(0, 6.28)
        amplitude = strength * run.program.peck * rng.uniform(0.9, 1.1)
        torque += amplitude * run.torque.metal_a * share * np.sin(turn)
        lag = rng.uniform(0.3, 1.5)
        thrust += 1.5 * amplitude * run.thrust.metal_a * share * np.sin(turn - lag)


def _idle(run: Course, position: Array) -> Array:
    """What the torque reads without load: a little below zero, and lower after the exit."""
    rng = run.rng
    after = np.clip((position - run.stack.exit_mm - 1.0) / rng.uniform(1.0, 5.0), 0, 1)
    sunk = min(1.5, rng.uniform(0.005, 0.03) * run.torque.metal_a + 0.05)
    strays = wander(rng, position, rng.uniform(0, 0.09))
    return rng.uniform(-0.2, 0.06) + strays + (0.05 * slow_noise(rng, len(position)) - sunk) * after


def _end_stop(run: Course, position: Array, torque: Array, thrust: Array) -> None:
    """Add what an end on the thrust limit shows: the collar meets the stack, then the stop."""
    if run.parts[-1].stop is not StopCode.THRUST_LIMIT:
        return
    rng, to_go = run.rng, float(position[-1]) - position
    last = np.arange(len(position)) >= len(position) - len(run.parts[-1].position_mm)
    clear = last & (position > run.stack.exit_mm + 2.0)
    if run.parts[-1].plan.role is Role.FINISH:
        rub_mm = rng.uniform(0.5, 2.5)
        torque += clear * rng.uniform(1.0, 9.0) * np.clip(1 - to_go / rub_mm, 0, 1)
    thrust += clear * rng.uniform(0.1, 1.8) * np.exp(-to_go / rng.uniform(0.01, 0.08))


def _step_report(run: Course, part: Part) -> Step:
    """The machine's own report of a step."""
    rng, plan = run.rng, part.plan
    return Step(
        number=plan.number,
        stop_code=int(part.stop),
        duration_s=round(len(part.position_mm) / SAMPLE_RATE_HZ + 0.01, 2),
        torque_empty_a=round(plan.torque_empty_a * rng.uniform(0.93, 1.07), 3),
        thrust_empty_a=round(plan.thrust_empty_a * rng.uniform(0.9, 1.1), 3),
    )


def _power_w(run: Course, torque: Array, steps: tuple[Step, ...]) -> FloatArray:
    """Spindle power (n,): the absolute current times the speed, with the motor's own constant."""
    lengths = [len(part.position_mm) for part in run.parts]
    idle = np.repeat([step.torque_empty_a for step in steps], lengths)
    rpm = np.repeat([part.plan.rpm for part in run.parts], lengths)
    watts = run.rng.uniform(0.006, 0.013) * rpm * run.speed * np.maximum(torque + idle, 0)
    return np.asarray(np.round(watts), np.float32)
