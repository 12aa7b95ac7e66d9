"""Random draws for a batch of holes at once, each hole within its own program's ranges."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from farm.training.programs import FAMILIES, Program, Role, StepPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

MAX_STEPS = 4
_NO_STEP = StepPlan(Role.NONE, 0, 1.0, 1.0, 0.0, 0.0)


class Draws:
    """The one source of randomness of a batch of b holes.

    Attributes:
        rng: the generator behind it.
        family: (b,) index into `FAMILIES` of each hole's program.
    """

    def __init__(self, rng: np.random.Generator, family: Sequence[int] | Index) -> None:
        self.rng = rng
        self.family: Index = np.asarray(family, np.intp)

    def __len__(self) -> int:
        return len(self.family)

    def of(self, name: str) -> Array:
        """(b,) drawn from the programs' range of that name."""
        low, high = _RANGES[name][self.family].T
        return np.asarray(low + (high - low) * self.rng.random(len(self)))

    def given(self, name: str) -> Array:
        """(b,) the programs' plain number of that name."""
        return _NUMBERS[name][self.family]

    def uniform(self, low: float, high: float, *more: int) -> Array:
        """(b, *more) between two numbers."""
        return self.rng.uniform(low, high, (len(self), *more))

    def happens(self, share: Array | float) -> Mask:
        """(b,) true for so large a share of the holes."""
        return np.asarray(self.rng.random(len(self)) < share)

    def spread(self, log_sd: Array | float) -> Array:
        """(b,) factors around one."""
        return np.asarray(np.exp(log_sd * self.rng.standard_normal(len(self))))

    def plans(self, name: str) -> Array:
        """(b, MAX_STEPS) that value of every step plan."""
        return _PLANS[name][self.family]


def _table(kind: str) -> dict[str, Array]:
    """The values of all families, by the name of the field whose type is written so."""
    return {
        field.name: np.array([getattr(program, field.name) for program in FAMILIES.values()])
        for field in fields(Program)
        if field.type == kind
    }


def _padded(program: Program) -> tuple[StepPlan, ...]:
    return (*program.steps, *[_NO_STEP] * (MAX_STEPS - len(program.steps)))


_RANGES = _table("Range")
_NUMBERS = _table("float")
_PLANS = {
    field.name: np.array(
        [[float(getattr(s, field.name)) for s in _padded(p)] for p in FAMILIES.values()]
    )
    for field in fields(StepPlan)
}
