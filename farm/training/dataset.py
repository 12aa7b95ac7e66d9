"""An endless stream of simulated holes on the network's grid. Nothing is stored: each is new."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from farm.models.grid import resample
from farm.models.traces import Traces
from farm.training.programs import FAMILIES
from farm.training.simulator import SimulatedBatch, simulate_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from farm.drilling.hole import FloatArray
    from farm.training.draws import Array
    from farm.training.recorded import LabelledHole

_GAIN_SD = 0.12  # other motors give other currents for the same cut


class Examples(NamedTuple):
    """A batch of b holes to learn from.

    Attributes:
        channels: (b, CHANNELS, N_BINS), the network's input as `farm.models.grid.Grids` has it.
        position_mm: (b, N_CELLS).
        used: (b, N_CELLS).
        point_mm: (b, POINTS) what to find, from the hole's first sample; NaN where there is none.
        exists: (b, KEYPOINTS) 1 or 0; NaN where nobody could tell.
    """

    channels: Tensor
    position_mm: Tensor
    used: Tensor
    point_mm: Tensor
    exists: Tensor


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the stream is made of: equal recipes give equal streams.

    Attributes:
        seed: of everything random.
        batch: holes in each batch.
        first: number of the first batch, for a run that goes on where another ended.
        faults: share of bad holes, as for `simulate_batch`.
        data_share: of each batch that is drawn from recorded holes, where there are any.
    """

    seed: int
    batch: int
    first: int = 0
    faults: float = 1.0
    data_share: float = 0.0


class BatchStream(IterableDataset[Examples]):
    """Yields batches without end; each has a seed of its own, so that it can be made again."""

    def __init__(self, recipe: Recipe, recorded: Sequence[LabelledHole] = ()) -> None:
        super().__init__()
        self._recipe = recipe
        self._recorded = recorded

    def __iter__(self) -> Iterator[Examples]:
        """From the recipe's first batch on; several loader processes take turns."""
        worker = get_worker_info()
        torch.set_num_threads(1)
        number = self._recipe.first + (worker.id if worker else 0)
        while True:
            yield make_batch(self._recipe, number, self._recorded)
            number += worker.num_workers if worker else 1


def make_batch(recipe: Recipe, number: int, recorded: Sequence[LabelledHole] = ()) -> Examples:
    """The batch of that number."""
    rng = np.random.default_rng((recipe.seed, number))
    taken = round(recipe.data_share * recipe.batch) if recorded else 0
    family = rng.integers(len(FAMILIES), size=recipe.batch - taken)
    parts = []
    if family.size:
        parts.append(examples(simulate_batch(family, rng, faults=recipe.faults), rng))
    if taken:
        chosen = rng.integers(len(recorded), size=taken)
        parts.append(recorded_examples([recorded[i] for i in chosen], rng))
    return Examples(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def recorded_examples(holes: Sequence[LabelledHole], rng: np.random.Generator) -> Examples:
    """Recorded holes with random motor gains; nobody labelled what the tip does."""
    torque = np.array([hole.keypoints_mm for hole in holes])
    exists = np.isfinite(torque).astype(np.float32)
    tip = np.full_like(torque, np.nan)
    return _on_grid(Traces.of([h.hole for h in holes]), np.hstack((torque, tip)), exists, rng)


def examples(batch: SimulatedBatch, rng: np.random.Generator) -> Examples:
    """Simulated holes with random motor gains."""
    exists = np.isfinite(batch.keypoints_mm).astype(np.float32)
    exists[batch.unclear] = np.nan
    points = np.concatenate((batch.keypoints_mm, batch.tip_mm), 1)
    return _on_grid(batch.traces, points, exists, rng)


def _on_grid(
    traces: Traces, points: Array, exists: FloatArray, rng: np.random.Generator
) -> Examples:
    grids = resample(_with_gains(traces, rng))
    from_first = (points - grids.origin_mm[:, None]).astype(np.float32)
    arrays = (grids.channels, grids.position_mm, grids.used, from_first, exists)
    return Examples(*map(torch.from_numpy, arrays))


def _with_gains(traces: Traces, rng: np.random.Generator) -> Traces:
    gains = np.exp(_GAIN_SD * rng.standard_normal((2, len(traces)))).astype(np.float32)
    torque, thrust = np.repeat(gains, np.diff(traces.starts), axis=1)
    return replace(traces, torque_a=traces.torque_a * torque, thrust_a=traces.thrust_a * thrust)
