"""Scaling a trained network's sigmas on fresh simulated holes, so that their intervals hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from farm.models.answer import POINTS
from farm.training.dataset import Recipe, make_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from farm.models.network import DepthNet

CALIBRATION_SEED = 20_250_602
"""Of the holes that sigma is scaled on; neither trained nor tested on."""

_TARGETS = ((1.0, 0.68, 0.03), (1.96, 0.95, 0.02))  # interval in sd, share within, tolerance
_SHIFTS = np.linspace(-0.5, 0.5, 201)  # of log sigma
_BATCH = 64


def calibrate(net: DepthNet, *, holes: int) -> list[float]:
    """Set the network's calibration in place; returns the factors (POINTS,) on its sigmas."""
    net.calibration.zero_()
    scaled = _scaled_errors(net, holes)
    shifts = np.array([_best_shift(column[np.isfinite(column)]) for column in scaled.T])
    net.calibration.copy_(torch.from_numpy(shifts.astype(np.float32)))
    return [round(float(f), 3) for f in np.exp(shifts)]


def _scaled_errors(net: DepthNet, holes: int) -> NDArray[np.float32]:
    """Absolute errors (n, POINTS) in units of the network's own sigma; NaN where no keypoint is."""
    recipe = Recipe(CALIBRATION_SEED, _BATCH)
    found = []
    with torch.inference_mode():
        for number in range(max(1, holes // _BATCH)):
            batch = make_batch(recipe, number)
            columns = net(batch.channels, batch.position_mm, batch.used)
            error = (columns[:, :POINTS] - batch.point_mm).abs()
            found.append((error / columns[:, POINTS : 2 * POINTS]).numpy())
    return np.concatenate(found)


def _best_shift(scaled: NDArray[np.float32]) -> float:
    """The shift of log sigma at which both intervals come nearest to holding."""
    if not scaled.size:
        return 0.0
    misses = [
        max(abs(np.mean(scaled <= z * np.exp(s)) - share) / room for z, share, room in _TARGETS)
        for s in _SHIFTS
    ]
    return float(_SHIFTS[int(np.argmin(misses))])
