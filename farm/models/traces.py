"""The samples of several holes in flat arrays, hole after hole: what a batch is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from farm.drilling.hole import FloatArray, Hole


@dataclass(frozen=True, slots=True)
class Traces:
    """Samples of b holes, n in all. Numbers are finite.

    Attributes:
        position_mm: (n,) |position| of the tip.
        torque_a: (n,) torque motor current relative to no-load, in ampere.
        thrust_a: (n,) thrust motor current relative to no-load, in ampere.
        step_number: (n,) the program step of each sample.
        starts: (b + 1,) where each hole's samples begin, and n.
        rate_hz: (b,) samples per second.
    """

    position_mm: FloatArray
    torque_a: FloatArray
    thrust_a: FloatArray
    step_number: NDArray[np.int16]
    starts: NDArray[np.intp]
    rate_hz: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rate_hz)

    @classmethod
    def of(cls, holes: Sequence[Hole]) -> Traces:
        """The samples of these holes."""
        rate_hz = np.array([hole.sample_rate_hz for hole in holes], np.float64)
        if len(holes) == 1:  # as a worker is mostly given them: nothing to copy
            one = holes[0]
            starts = np.array([0, len(one)])
            return cls(
                one.position_mm, one.torque_a, one.thrust_a, one.step_number, starts, rate_hz
            )
        return cls(
            np.concatenate([h.position_mm for h in holes]),
            np.concatenate([h.torque_a for h in holes]),
            np.concatenate([h.thrust_a for h in holes]),
            np.concatenate([h.step_number for h in holes]),
            np.cumsum([0, *(len(h) for h in holes)]),
            rate_hz,
        )
