"""An endless stream of simulated holes on the network's grid. Nothing is stored: each is new."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from farm.models.grid import resample
from farm.training.programs import PROGRAMS
from farm.training.simulator import SimulatedHole, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_TRANSITION = -1.0
"""Stands for the transition of a stack of one material: no bin, and no loss."""

_GAIN_SD = 0.15  # other motors give other currents for the same cut


class HoleStream(IterableDataset[tuple[Tensor, Tensor, Tensor]]):
    """Yields (channels (CHANNELS, N_BINS), keypoints (3,) in bins, used bins)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Start anew; each loader process has its own holes."""
        worker = get_worker_info()
        rng = np.random.default_rng((self._seed, worker.id if worker else 0))
        names = tuple(PROGRAMS)
        while True:
            yield _example(simulate(names[rng.integers(len(names))], rng), rng)


def _example(simulated: SimulatedHole, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """One hole with random motor gains."""
    hole = simulated.hole
    torque_gain, thrust_gain = np.exp(_GAIN_SD * rng.standard_normal(2)).astype(np.float32)
    grid = resample(
        replace(hole, torque_a=hole.torque_a * torque_gain, thrust_a=hole.thrust_a * thrust_gain)
    )
    bins = [
        NO_TRANSITION if k is None else (k - grid.origin_mm) / grid.bin_mm
        for k in simulated.keypoints_mm
    ]
    return torch.from_numpy(grid.channels), torch.tensor(bins), torch.tensor(grid.used)
