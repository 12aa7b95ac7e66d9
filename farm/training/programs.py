"""The drilling programs the simulator knows: what each one commands and what it measures.

Owns the numbers, measured on real machines; `farm.training.simulator` draws around them.
A range ``(low, high)`` is drawn from uniformly, once a hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
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
    TORQUE_MIN = 2048


class Role(Enum):
    """What a step of a program is for; it decides how the step ends."""

    APPROACH = "approach"  # until the tip touches the stack
    FIRST = "first"  # through the first material: torque maximum, or a fixed stroke
    METAL = "metal"  # through the metal: torque minimum, or the program's last stroke
    FINISH = "finish"  # in air or countersinking, to the end stop


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
    """One family of drilling programs. Currents are relative to no-load."""

    steps: tuple[StepPlan, ...]
    metal_a: Range
    metal_thrust_a: Range
    end_mm: float  # where the end stop or the last stroke lies
    backoff_mm: Range  # how far the tip is pulled back at a step change
    cfrp_a: Range | None = None  # None: the stack is one metal
    cfrp_thrust_a: Range = (0.04, 0.1)
    entry_mm: Range = (2.5, 6.6)
    speed: Range = (0.85, 1.15)  # feed and rpm of one hole against the plan's
    stroke_share: float = 1.0  # of holes whose first step ends on stroke, not on torque
    stroke_before_mm: Range = (0.05, 2.5)  # such a stroke ends this far before the metal
    torque_max_a: float = 6.0
    torque_min_a: float = 1.0
    cfrp_d50_mm: float = 0.85  # contact to half of the plateau
    metal_d90_mm: Range = (1.25, 1.5)
    exit_d10_mm: Range = (1.15, 1.45)  # exit to a tenth of the torque
    exit_tail_mm: Range = (1.5, 1.9)  # exit to no torque at all
    metal_noise: Range = (0.03, 0.09)  # slow noise, as a share of the metal torque
    peck: float = 0.0  # amplitude of the micropeck sine, as a share of the metal torque


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
            metal_a=(34, 50),
            metal_thrust_a=(0.7, 1.4),
            end_mm=32.0,
            backoff_mm=(0.22, 0.29),
            cfrp_a=(5.5, 6.9),
            entry_mm=(4.0, 6.0),
            stroke_share=0.85,
            torque_max_a=14.0,
        ),
        "MQL": Program(
            steps=(
                StepPlan(_FIRST, 1, 1.0, 1500, 4.8, 0.164),
                StepPlan(_METAL, 2, 0.16, 320, 2.1, 0.047),
                StepPlan(_FINISH, 3, 1.0, 1500, 4.8, 0.141),
            ),
            metal_a=(8.3, 9.3),
            metal_thrust_a=(0.25, 0.52),
            end_mm=36.5,
            backoff_mm=(0.25, 0.3),
            cfrp_a=(0.81, 1.08),
            cfrp_thrust_a=(0.04, 0.07),
            stroke_share=0.1,
            torque_max_a=3.0,
            cfrp_d50_mm=1.07,
            metal_noise=(0.02, 0.04),
            peck=0.2,
        ),
        "HAM": Program(
            steps=(
                StepPlan(_FIRST, 1, 2.85, 4500, 10.0, 0.363),
                StepPlan(_METAL, 2, 0.375, 750, 5.1, 0.129),
                StepPlan(_FINISH, 3, 2.0, 3000, 8.5, 0.28),
            ),
            metal_a=(9.5, 11.0),
            metal_thrust_a=(0.9, 1.2),
            end_mm=29.0,
            backoff_mm=(0.22, 0.29),
            cfrp_a=(3.4, 4.6),
            cfrp_thrust_a=(0.1, 0.17),
            stroke_share=0.15,
            torque_min_a=2.0,
            metal_noise=(0.02, 0.05),
        ),
        "V1-V5": Program(
            steps=(
                StepPlan(_FIRST, 2, 3.0, 4000, 5.4, 0.363),
                StepPlan(_METAL, 3, 0.75, 1000, 2.5, 0.176),
            ),
            metal_a=(21, 52),
            metal_thrust_a=(0.5, 2.1),
            end_mm=25.0,
            backoff_mm=(0.22, 0.29),
            cfrp_a=(2.5, 6.5),
            cfrp_thrust_a=(0.1, 0.4),
        ),
        "V6-V7": Program(
            steps=(
                StepPlan(_FIRST, 2, 4.2, 4500, 5.3, 0.43),
                StepPlan(_METAL, 3, 4.2, 4500, 5.5, 0.41),
            ),
            metal_a=(11.7, 15.5),
            metal_thrust_a=(0.15, 0.25),
            end_mm=25.0,
            backoff_mm=(0.10, 0.12),
            cfrp_a=(2.9, 5.5),
            cfrp_thrust_a=(0.07, 0.12),
            stroke_before_mm=(0.0, 1.0),
            metal_d90_mm=(2.2, 2.9),
            exit_d10_mm=(1.3, 2.1),
            exit_tail_mm=(2.2, 3.4),
            metal_noise=(0.01, 0.03),
        ),
        "V8": Program(
            steps=(
                StepPlan(_FIRST, 2, 3.3, 4500, 4.6, 0.398),
                StepPlan(_METAL, 3, 3.3, 4500, 4.9, 0.375),
            ),
            metal_a=(12.5, 16.0),
            metal_thrust_a=(0.2, 0.26),
            end_mm=25.0,
            backoff_mm=(0.10, 0.2),
            cfrp_a=(3.6, 4.8),
            speed=(0.21, 1.15),
            cfrp_thrust_a=(0.08, 0.13),
            stroke_before_mm=(0.0, 1.0),
            metal_d90_mm=(1.8, 2.9),
            exit_d10_mm=(1.2, 1.8),
            exit_tail_mm=(1.9, 3.2),
            metal_noise=(0.01, 0.03),
        ),
        "AL": Program(
            steps=(
                StepPlan(_FIRST, 1, 3.375, 4500, 7.1, 0.258),
                StepPlan(_METAL, 2, 0.75, 1000, 4.3, 0.141),
            ),
            metal_a=(4.2, 5.6),
            metal_thrust_a=(0.2, 0.28),
            end_mm=12.0,
            backoff_mm=(0.2, 0.25),
            entry_mm=(1.4, 4.0),
            metal_noise=(0.02, 0.05),
        ),
    }
)
"""Every family, by name."""

FIRST_MM: Range = (4.0, 16.0)
"""Thickness of the first material (CFRP)."""

METAL_MM: Range = (4.0, 12.0)
"""Thickness of the metal."""

TOTAL_MM: Range = (8.0, 22.0)
"""Thickness of the whole stack."""
