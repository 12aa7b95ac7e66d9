"""The drilling programs the simulator knows: what each one commands and what it measures.

Owns the numbers, measured on real machines, and the wide families that lie beyond them;
`farm.training.simulator` draws from them. A range ``(low, high)`` is drawn from uniformly, once a
hole. Currents are in ampere relative to no-load, lengths in mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Range = tuple[float, float]


class StopCode(IntEnum):
    """Why the machine ended a step."""

    TORQUE_MAX = 1
    THRUST_LIMIT = 8
    STROKE = 64
    STOP_BUTTON = 128
    TOOL_BROKEN = 512
    ABORT = 1024
    TORQUE_MIN = 2048
    STROKE_MAX = 8192


class Role(IntEnum):
    """What a step of a program is for; it decides how the step ends."""

    NONE = -1  # the program has fewer steps
    APPROACH = 0  # until the tip touches the stack
    FIRST = 1  # through the first material: torque maximum, or a fixed stroke
    METAL = 2  # through the metal: torque minimum, or the program's last stroke
    FINISH = 3  # in air or countersinking, to the end stop


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step as programmed."""

    role: Role
    number: int
    feed_mm_s: float
    rpm: float
    torque_empty_a: float
    thrust_empty_a: float


@dataclass(frozen=True, slots=True)
class Program:
    """One family of drilling programs.

    The depths of a ramp (`*_d50_mm`, `*_d90_mm` …) count from the keypoint to that share of it.
    """

    steps: tuple[StepPlan, ...]
    metal_a: Range
    metal_thrust_a: Range
    end_mm: Range  # where the end stop or the last stroke lies
    backoff_mm: Range  # how far the tip is pulled back at a step change
    cfrp_a: Range = (3.0, 6.0)
    cfrp_thrust_a: Range = (0.04, 0.12)
    start_mm: Range = (0.55, 0.95)
    entry_mm: Range = (2.5, 7.0)
    first_mm: Range = (4.0, 16.0)  # thickness of the first material
    metal_mm: Range = (3.2, 12.0)  # of the metal
    speed: Range = (0.85, 1.15)  # feed and rpm of one hole against the plan's
    feed_spread: float = 0.03  # log sd of each step's own feed around that
    single_share: float = 0.03  # of holes through one material alone
    third_share: float = 0.03  # of holes with a third layer, another metal
    gap_share: float = 0.03  # of holes whose layers do not touch
    stroke_share: float = 1.0  # of holes whose first step ends on stroke, not on torque
    stroke_before_mm: Range = (0.05, 2.5)  # such a stroke ends this far before the metal
    torque_max_a: Range = (5.7, 6.3)
    torque_min_a: Range = (0.6, 1.6)
    cfrp_d50_mm: Range = (0.4, 1.0)
    cfrp_d90_mm: Range = (1.0, 3.3)
    metal_d50_mm: Range = (0.55, 0.95)
    metal_d90_mm: Range = (1.2, 1.7)
    exit_d50_mm: Range = (0.6, 0.9)
    exit_d10_mm: Range = (1.1, 1.5)  # exit to a tenth of the torque
    exit_tail_mm: Range = (1.4, 2.2)  # exit to no torque at all
    exit_tail_share: Range = (0.02, 0.2)  # of the torque that the tail still holds
    entry_foot_mm: Range = (0.02, 0.25)  # half the length over which the ramp's foot is rounded
    metal_foot_mm: Range = (0.03, 0.32)
    exit_foot_mm: Range = (0.25, 0.85)
    touch_share: float = 0.35  # of holes whose tip touches weakly, well before the torque rises
    metal_noise: Range = (0.01, 0.05)  # slow noise, as a share of the metal torque
    peck: Range = (0.0, 0.0)  # amplitude of the micropeck, as a share of the metal torque
    sticky_share: float = 0.1  # of holes whose torque sticks in plateaus of about 0.15 A


_APPROACH, _FIRST, _METAL, _FINISH = Role.APPROACH, Role.FIRST, Role.METAL, Role.FINISH

PROGRAMS: Mapping[str, Program] = MappingProxyType(
    {
        "MDB": Program(
            steps=(
                StepPlan(_APPROACH, 0, 3.0, 4000, 4.8, 0.316),
                StepPlan(_FIRST, 1, 3.0, 4000, 4.7, 0.328),
                StepPlan(_METAL, 2, 0.75, 1000, 3.2, 0.141),
                StepPlan(_FINISH, 3, 3.0, 4000, 5.1, 0.316),
            ),
            metal_a=(34, 52),
            metal_thrust_a=(0.6, 1.4),
            end_mm=(31.0, 33.0),
            backoff_mm=(0.22, 0.29),
            cfrp_a=(4.5, 6.9),
            entry_mm=(4.0, 6.6),
            stroke_share=0.9,
            torque_max_a=(13.0, 15.0),
            cfrp_d50_mm=(0.25, 0.9),
            exit_foot_mm=(0.25, 0.85),
        ),
        "MQL": Program(
            steps=(
                StepPlan(_FIRST, 1, 1.0, 1500, 4.8, 0.164),
                StepPlan(_METAL, 2, 0.16, 320, 2.1, 0.047),
                StepPlan(_FINISH, 3, 1.0, 1500, 4.8, 0.141),
            ),
            metal_a=(8.0, 9.5),
            metal_thrust_a=(0.25, 0.52),
            end_mm=(35.5, 37.5),
            backoff_mm=(0.25, 0.3),
            cfrp_a=(0.75, 1.1),
            cfrp_thrust_a=(0.045, 0.09),
            stroke_share=0.08,
            torque_max_a=(2.8, 3.1),
            cfrp_d50_mm=(0.45, 1.1),
            cfrp_d90_mm=(1.1, 1.8),
            metal_d50_mm=(0.8, 1.1),
            metal_d90_mm=(1.3, 1.8),
            exit_d50_mm=(0.65, 0.9),
            exit_tail_mm=(1.35, 1.7),
            exit_tail_share=(0.05, 0.2),
            exit_foot_mm=(0.25, 0.65),
            touch_share=0.8,
            metal_noise=(0.004, 0.03),
            peck=(0.18, 0.22),
            sticky_share=0.85,
        ),
        "HAM": Program(
            steps=(
                StepPlan(_FIRST, 1, 2.85, 4500, 10.0, 0.363),
                StepPlan(_METAL, 2, 0.375, 750, 5.1, 0.129),
                StepPlan(_FINISH, 3, 2.0, 3000, 8.5, 0.28),
            ),
            metal_a=(9.0, 11.5),
            metal_thrust_a=(0.9, 1.2),
            end_mm=(28.0, 30.0),
            backoff_mm=(0.22, 0.3),
            cfrp_a=(3.3, 4.7),
            cfrp_thrust_a=(0.08, 0.17),
            entry_mm=(2.2, 6.6),
            first_mm=(4.0, 17.0),
            stroke_share=0.08,
            torque_max_a=(5.6, 6.1),
            torque_min_a=(0.5, 2.5),
            cfrp_d50_mm=(0.6, 1.0),
            cfrp_d90_mm=(1.1, 1.6),
            metal_d50_mm=(0.5, 0.8),
            metal_d90_mm=(1.2, 1.7),
            exit_foot_mm=(0.3, 0.85),
            metal_noise=(0.01, 0.04),
        ),
        "V1-V5": Program(
            steps=(
                StepPlan(_FIRST, 2, 3.0, 4000, 5.4, 0.363),
                StepPlan(_METAL, 3, 0.75, 1000, 2.5, 0.176),
            ),
            metal_a=(21, 52),
            metal_thrust_a=(0.5, 2.1),
            end_mm=(24.0, 26.0),
            backoff_mm=(0.22, 0.29),
            cfrp_a=(2.5, 6.9),
            cfrp_thrust_a=(0.1, 0.4),
            entry_mm=(4.5, 8.0),
            first_mm=(5.0, 14.0),
            stroke_before_mm=(0.3, 2.2),
            metal_d50_mm=(0.55, 1.15),
            metal_d90_mm=(1.2, 2.0),
            exit_foot_mm=(0.25, 0.85),
            metal_noise=(0.01, 0.06),
        ),
        "V6-V7": Program(
            steps=(
                StepPlan(_FIRST, 2, 4.2, 4500, 5.3, 0.43),
                StepPlan(_METAL, 3, 4.2, 4500, 5.5, 0.41),
            ),
            metal_a=(11.5, 16.5),
            metal_thrust_a=(0.13, 0.26),
            end_mm=(24.5, 25.5),
            backoff_mm=(0.08, 0.13),
            cfrp_a=(2.8, 5.6),
            cfrp_thrust_a=(0.05, 0.12),
            entry_mm=(5.0, 7.5),
            first_mm=(5.0, 14.0),
            stroke_before_mm=(0.0, 0.7),
            metal_d50_mm=(0.7, 1.5),
            metal_d90_mm=(2.0, 2.9),
            exit_d50_mm=(0.65, 0.9),
            exit_d10_mm=(1.3, 2.2),
            exit_tail_mm=(2.2, 3.6),
            exit_tail_share=(0.1, 0.35),
            exit_foot_mm=(0.4, 0.85),
            metal_noise=(0.01, 0.03),
        ),
        "V8": Program(
            steps=(
                StepPlan(_FIRST, 2, 3.3, 4500, 4.6, 0.398),
                StepPlan(_METAL, 3, 3.3, 4500, 4.9, 0.375),
            ),
            metal_a=(12.0, 16.5),
            metal_thrust_a=(0.18, 0.27),
            end_mm=(24.5, 25.5),
            backoff_mm=(0.10, 0.2),
            cfrp_a=(3.4, 5.0),
            speed=(0.21, 1.15),
            cfrp_thrust_a=(0.08, 0.14),
            entry_mm=(5.0, 7.5),
            first_mm=(5.0, 14.0),
            stroke_before_mm=(0.0, 0.8),
            metal_d50_mm=(0.7, 1.4),
            metal_d90_mm=(1.8, 2.9),
            exit_d50_mm=(0.65, 0.9),
            exit_d10_mm=(1.2, 2.0),
            exit_tail_mm=(1.9, 3.4),
            exit_tail_share=(0.1, 0.33),
            exit_foot_mm=(0.4, 0.85),
            metal_noise=(0.01, 0.03),
        ),
        "AL": Program(
            steps=(
                StepPlan(_FIRST, 1, 3.375, 4500, 7.1, 0.258),
                StepPlan(_METAL, 2, 0.75, 1000, 4.3, 0.141),
            ),
            metal_a=(4.0, 6.0),
            metal_thrust_a=(0.18, 0.3),
            end_mm=(11.5, 15.0),
            backoff_mm=(0.2, 0.26),
            entry_mm=(1.4, 4.0),
            metal_mm=(4.0, 10.0),
            single_share=1.0,
            metal_d50_mm=(0.5, 1.2),
            metal_d90_mm=(1.2, 2.2),
        ),
    }
)
"""The families seen on real machines, by name."""

_WIDE = Program(
    steps=(
        StepPlan(_FIRST, 1, 2.0, 3000, 5.0, 0.25),
        StepPlan(_METAL, 2, 0.8, 1500, 4.0, 0.2),
    ),
    metal_a=(3.0, 55.0),
    metal_thrust_a=(0.12, 2.2),
    end_mm=(14.0, 40.0),
    backoff_mm=(0.0, 0.6),
    cfrp_a=(0.6, 8.0),
    cfrp_thrust_a=(0.03, 0.5),
    start_mm=(0.0, 2.0),
    entry_mm=(1.2, 10.0),
    first_mm=(2.5, 20.0),
    metal_mm=(2.0, 16.0),
    speed=(0.4, 1.8),
    feed_spread=0.45,
    single_share=0.15,
    third_share=0.2,
    gap_share=0.15,
    stroke_share=0.6,
    stroke_before_mm=(-1.5, 5.0),
    torque_max_a=(2.0, 15.0),
    torque_min_a=(0.3, 3.0),
    cfrp_d50_mm=(0.25, 1.4),
    cfrp_d90_mm=(0.8, 3.6),
    metal_d50_mm=(0.4, 1.3),
    metal_d90_mm=(1.0, 3.0),
    exit_d50_mm=(0.45, 1.1),
    exit_d10_mm=(0.9, 2.2),
    exit_tail_mm=(1.2, 3.6),
    exit_tail_share=(0.0, 0.35),
    exit_foot_mm=(0.15, 1.0),
    metal_noise=(0.005, 0.08),
    sticky_share=0.25,
)

WIDE: Mapping[str, Program] = MappingProxyType(
    {
        "wide-2": _WIDE,
        "wide-3": replace(
            _WIDE,
            steps=(*_WIDE.steps, StepPlan(_FINISH, 3, 2.0, 3000, 5.0, 0.25)),
            peck=(0.0, 0.25),
        ),
        "wide-4": replace(
            _WIDE,
            steps=(
                StepPlan(_APPROACH, 0, 2.5, 3500, 5.0, 0.3),
                *_WIDE.steps,
                StepPlan(_FINISH, 3, 2.0, 3000, 5.0, 0.25),
            ),
        ),
    }
)
"""Families beyond what was seen, so that a model learns the physics and not the programs."""

FAMILIES: Mapping[str, Program] = MappingProxyType({**PROGRAMS, **WIDE})
"""All of them."""
