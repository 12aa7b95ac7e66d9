"""One drilled hole as arrays, the way models see it. Knows nothing of JSON, MQTT or processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Step:
    """What the machine reports of one step of its drilling program.

    A value that the gateway left out is NaN (floats) or None (stop code).
    """

    number: int
    stop_code: (
        int | None
    )  # bit values of DOMAIN: 1 torque maximum, 64 stroke, 2048 torque minimum …
    duration_s: float
    torque_empty_a: float
    thrust_empty_a: float


@dataclass(frozen=True, slots=True)
class Hole:
    """The samples of one hole. All arrays have one length n >= 1 and hold finite numbers only.

    Attributes:
        position_mm: (n,) |position| of the tip, growing as the drill advances.
        torque_a: (n,) torque motor current relative to no-load, in ampere.
        thrust_a: (n,) thrust motor current relative to no-load, in ampere.
        step_number: (n,) the program step of each sample.
        steps: the machine's own report of each step, in order; may be empty.
        sample_rate_hz: samples per second.
    """

    position_mm: FloatArray
    torque_a: FloatArray
    thrust_a: FloatArray
    step_number: NDArray[np.int16]
    steps: tuple[Step, ...]
    sample_rate_hz: float = 100.0

    def __len__(self) -> int:
        return len(self.position_mm)
